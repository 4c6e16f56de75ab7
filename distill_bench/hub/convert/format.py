"""What a format is, and which there are."""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import UsageError, unknown
from distill_bench.hub import formats as package
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile

OWN_OPTIONS = ("labels", "class_order", "images_key", "labels_key")
"""Those of ``ImportOptions`` that not all formats take."""


@runtime_checkable
class Format(Protocol):
    """A format that others release distilled sets in. Derive from it, and call the one instance ``FORMAT``.

    Attributes:
        name: as in ``import --form NAME`` and ``export --to NAME``.
        general: reads what no other format recognises.
        of_many_methods: so many methods are released in it that the one it suggests is no guess worth a question.
        takes: which of ``OWN_OPTIONS`` say something about it.
    """

    name: str
    general: bool = False
    of_many_methods: bool = False
    takes: tuple[str, ...] = ("labels", "class_order")

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        """Whether the files of one release are surely of this format and no other that is not general."""

    def accepts(self, files: Sequence[ReleasedFile]) -> bool:
        """Whether they can be read, if the user says that they are of this format."""
        return self.recognises(files)

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """The independent sets that the files hold. KeyError and its like mean that they are not of this format."""


@runtime_checkable
class WritableFormat(Format, Protocol):
    """A format that sets are also written in.

    Attributes:
        suffixes: endings of the one file it is; none: it is a folder.
        several: whether it holds several sets.
        holds_accuracies: it has a place for the accuracies that a release stores of its sets.
        needs_pixels: it holds pictures, so that a whitened set's dataset is needed.
        settles_space: files of it need no ``space``.
        import_options: what else ``import`` must be told to read back what was written.
    """

    suffixes: tuple[str, ...] = ()
    several: bool = False
    holds_accuracies: bool = False
    needs_pixels: bool = False
    settles_space: bool = False
    import_options: tuple[str, ...] = ()

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        """What a set would lose, in words. Raises UsageError if the format can hold nothing of the kind."""

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        """The files to write, with their content: ``out`` itself, or files in that folder."""


@cache
def all_formats() -> dict[str, Format]:
    """All formats by name, in alphabetical order: those of the modules in ``hub/formats``."""
    modules = [
        importlib.import_module(f"{package.__name__}.{item.name}") for item in pkgutil.iter_modules(package.__path__)
    ]
    known = [module.FORMAT for module in modules if hasattr(module, "FORMAT")]
    return {each.name: each for each in sorted(known, key=lambda each: each.name)}


def writable_formats() -> dict[str, WritableFormat]:
    """Those of ``all_formats`` that sets can be written in."""
    return {name: each for name, each in all_formats().items() if isinstance(each, WritableFormat)}


def writable_format(name: str) -> WritableFormat:
    """The format of that name. Raises UsageError unless there is one that sets can be written in."""
    if name not in writable_formats():
        raise UsageError(f"`to={name}`: {unknown('format', name, writable_formats())}")
    return writable_formats()[name]
