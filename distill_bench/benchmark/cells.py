"""Cells of a suite: a set to make and to score, one that is there already, a line without a set."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from distill_bench.distilled.budget import Budget
from distill_bench.evaluation import data_name
from distill_bench.evaluation.result import FULL
from distill_bench.methods import Method, load_method, variant
from distill_bench.methods.recipe import PAPER

DATA = ("size", "holdout", "flip_invariant", "classes")
"""How a suite's datasets are loaded: arguments of ``load_dataset``, which cells have as fields."""
_LONGEST_SLUG = 240
"""Bytes, so that it is a file's name with its hash too."""


@dataclass(frozen=True)
class _OnData:
    """What all cells say of their dataset: arguments of ``load_dataset``."""

    dataset: str
    size: int | None = field(default=None, kw_only=True)
    holdout: float | None = field(default=None, kw_only=True)
    flip_invariant: bool | None = field(default=None, kw_only=True)
    classes: tuple[str, ...] | None = field(default=None, kw_only=True)

    @property
    def options(self) -> dict[str, Any]:
        """How the dataset is loaded."""
        return {name: getattr(self, name) for name in DATA}

    @property
    def data(self) -> str:
        """What boards call the dataset."""
        return data_name(self.dataset, self.size, self.holdout, self.flip_invariant, self.classes)

    def _result_name(self, method: str, name: str, ending: str) -> Path:
        return Path(slug(self.data)) / slug(method) / f"{name}.{slug(ending)}.json"


@dataclass(frozen=True)
class SetCell(_OnData):
    """A set to make and to score.

    Attributes:
        method, ipc, seed, preset: what makes it.
        fraction: of the training split, where there is no IPC.
        of, settings: of a variant, see ``Variant``: the method it is of, and the values that differ.
    """

    method: str
    ipc: int | None
    seed: int
    preset: str
    protocols: tuple[str, ...]
    fraction: float | None = field(default=None, kw_only=True)
    of: str = field(default="", kw_only=True)
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False, kw_only=True)

    def __str__(self) -> str:
        return f"{self.data} {self.method} {self.budget} seed {self.seed}"

    @property
    def budget(self) -> Budget:
        """How many images the set is to have."""
        return Budget(self.ipc, self.fraction)

    def load_method(self) -> Method:
        """The method that makes the set. Raises UsageError as ``load_method``."""
        return variant(self.method, self.of, **self.settings) if self.of else load_method(self.method)

    def result_name(self, ending: str) -> Path:
        """Where, under the suite's results, the file with this ending lies."""
        return self._result_name(self.method, f"{self.budget.slug}-seed{self.seed}", ending)


@dataclass(frozen=True)
class ReferenceCell(_OnData):
    """A line without a set: networks trained on the whole training split, or ``UNTRAINED`` ones."""

    protocols: tuple[str, ...]
    method: str = FULL
    ipc: ClassVar[None] = None
    fraction: ClassVar[None] = None
    seed: ClassVar[int] = 0
    preset: ClassVar[str] = PAPER

    def __str__(self) -> str:
        return f"{self.data} {self.method}"

    def result_name(self, ending: str) -> Path:
        """As that of ``SetCell``."""
        return self._result_name(self.method, f"{self.method}-seed0", ending)


@dataclass(frozen=True)
class GivenSetCell(_OnData):
    """A set to score that is there already: downloaded, imported, or made by ``synthesize``.

    Attributes:
        name: its id, or its file's name without the ending.
        file: its path.
        method, ipc, fraction, seed, preset: of its card, whose IPC does not count beside a fraction; where that has no
            seed, 0, and where it has no preset, the name.
    """

    name: str
    file: str
    method: str
    ipc: int | None
    fraction: float | None
    seed: int
    preset: str
    protocols: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.data} {self.method} {self.budget} set {self.name}"

    @property
    def budget(self) -> Budget:
        """How many images the set has."""
        return Budget(self.ipc, self.fraction)

    def result_name(self, ending: str) -> Path:
        """As that of ``SetCell``."""
        return self._result_name(self.method, f"{self.budget.slug}-set-{slug(self.name)}", ending)


Cell = SetCell | ReferenceCell | GivenSetCell


def slug(name: str) -> str:
    """A name as part of a file name; one that has to change gets a hash, so that no two names share a file.

    >>> slug("folder:my data/photos")
    'folder-my-data-photos-8f2559bb'
    """
    plain = re.sub(r"[^\w.]+", "-", name).strip("-")
    if plain == name and plain.strip(".") and len(plain.encode()) <= _LONGEST_SLUG:
        return name
    short = plain if len(plain.encode()) <= _LONGEST_SLUG else plain[: _LONGEST_SLUG // 4]  # of four bytes at most each
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
