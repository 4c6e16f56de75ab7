"""A folder of pictures, a folder a class of its own name, as torchvision's ImageFolder and ``datasets`` read it.

Both number classes by sorted names. Where that is not the order of the set's, a class keeps its name, not its number.
What is written is read by ``folder``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.hf_table import png_files
from distill_bench.errors import UsageError
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile
from distill_bench.hub.convert.writing import absent_classes, label_losses, order_losses, pixel_losses, rate_losses
from distill_bench.hub.formats import folder
from distill_bench.runtime.names import checked_file_name
from distill_bench.runtime.text import listed


class ImageFolder(WritableFormat):
    """Pictures in folders with the classes' names."""

    name = "imagefolder"
    takes = ("class_order",)
    needs_pixels = True

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return False  # it is the form that ``folder`` reads

    def accepts(self, files: Sequence[ReleasedFile]) -> bool:
        return folder.FORMAT.recognises(files)

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        return folder.FORMAT.read(files, dataset, options)

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        names = distilled.card.class_names
        _check_names(names)
        yield from label_losses(distilled)
        yield from rate_losses(distilled)
        yield from order_losses(distilled)
        if absent := absent_classes(distilled):
            missing = listed([names[label] for label in absent])
            yield f"classes without an image ({missing}): readers of folders number those that are there"
        yield from pixel_losses(distilled, dataset)

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        (distilled,) = sets
        names, digits = distilled.card.class_names, max(6, len(str(len(distilled.labels) - 1)))
        pictures = zip(png_files(distilled, dataset), distilled.labels.tolist(), strict=True)
        for index, (content, label) in enumerate(pictures):
            yield out / names[label] / f"{index:0{digits}d}.png", content


FORMAT = ImageFolder()


def _check_names(names: Sequence[str]) -> None:
    """Raises UsageError unless classes' names can be those of folders side by side."""
    for name in names:
        try:
            checked_file_name(name, "a class")
        except ValueError as error:
            raise UsageError(f"{error}. `to=folder` numbers the folders, and `to=parquet` has the names.") from error
    if len({name.casefold() for name in names}) < len(names):
        raise UsageError(
            "two classes differ in upper and lower case alone, which many file systems do not tell apart: `to=folder` "
            "numbers the folders, and `to=parquet` has the names."
        )
