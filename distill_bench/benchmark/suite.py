"""A suite: a grid of datasets × methods × budgets × seeds, written in TOML."""

import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeInt,
    PositiveInt,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from distill_bench.benchmark.cells import DATA
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError, describe, unknown
from distill_bench.evaluation import load_protocol, members
from distill_bench.evaluation.result import FULL, LINES
from distill_bench.runtime.files import read_toml
from distill_bench.runtime.names import checked_file_name

_SUITES = Path(__file__).with_name("suites")
EVALUATED = "evaluated"
"""Where a suite's name stands, what ``evaluate --results`` files; no suite is called so."""
NONE = "none"
CARD = "card"
"""Among a suite's protocols, that of a set's card: the recipe's, which is the paper's."""
SET_ENDING = ".safetensors"
PUBLISHED = "published:"
"""Before the id of a downloaded set, where a variant's value is a set's file."""


class Variant(BaseModel):
    """A method with other values of some fields: ``{ method = "dm", set = { flip = true }, as = "dm-flipped" }``.

    Attributes:
        method: as for ``load_method``.
        set: hyper-parameters that replace the recipe's. Where one is a finished set's file, ``"published:ID"`` is that
            of a set of the registry, which is downloaded already.
        each: lists of further ones that are no tables, every combination of which is a variant: ``each = { flip =
            [true, false] }`` with ``as = "dm flip={flip}"``.
        ipc: budgets of the suite that it is run at; all, unless given.
        name: on cards and boards; ``as`` in a suite's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    set: dict[str, Any] = Field(default_factory=dict)
    each: dict[str, Annotated[list[bool | int | float | str], Field(min_length=1)]] = Field(default_factory=dict)
    ipc: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    name: str = Field(alias="as")

    def __str__(self) -> str:
        return self.name

    @model_validator(mode="after")
    def _names_what_differs(self) -> "Variant":
        if not {"set", "each"} & self.model_fields_set:
            raise ValueError(f"{self.name!r} has no values of its own: give them as set or each")
        if missing := [field for field in self.each if f"{{{field}}}" not in self.name]:
            named = ", ".join(f"{{{field}}}" for field in missing)
            raise ValueError(f"each: the variants of {self.name!r} need names of their own: put {named} into its `as`")
        if strange := sorted({*re.findall(r"{(.*?)}", self.name)} - {*self.each}):
            raise ValueError(f"{self.name!r} names {{{strange[0]}}}, which each does not have")
        if twice := self.set.keys() & self.each.keys():
            raise ValueError(f"{self.name!r} has {', '.join(sorted(twice))} in set and in each: give it in one")
        return self

    @property
    def variants(self) -> list["Variant"]:
        """One for every combination of ``each``, the last field fastest."""
        made = []
        for values in itertools.product(*self.each.values()):
            settings = dict(zip(self.each, values, strict=True))
            name = self.name
            for field_name, value in settings.items():
                name = name.replace(f"{{{field_name}}}", str(value))
            made.append(self.model_copy(update={"set": self.set | settings, "each": {}, "name": name}))
        return made


def is_run_at(method: str | Variant, budget: Budget) -> bool:
    return isinstance(method, str) or method.ipc is None or budget.ipc in method.ipc


Named = Annotated[
    Annotated[str, Tag("name")] | Annotated[Variant, Tag("variant")],
    Discriminator(lambda given: "name" if isinstance(given, str) else "variant"),
]


class Suite(BaseModel):
    """What is run.

    Attributes:
        name: the file's name without its ending; results lie under it.
        datasets, methods, seeds: the grid, with variants of methods one by one, and
        ipc, fraction: the budgets: images per class, and fractions of the training split.
        sets: besides the grid, sets that are there already: ids of the registry, or files.
        preset: of every recipe that has one of that name; the others run as in their paper.
        protocols: every set is scored under each, in tables of their own; a name that stands for several, as
            ``probe-v1`` does, is all of these, and ``card`` is the one on the set's card, its paper's.
        reference: the protocol of the line trained on the whole training split, or ``"none"``. Protocols that probe
            networks have a second line, of networks that were not trained.
        size, holdout, flip_invariant, classes: as for ``load_dataset``.
        iterates: into how many equal parts the steps of a set are divided, after which it is kept as it is, beside the
            finished one; 0: it is not.
        study: whether its variants answer a question, and stand on the study's page, not on that of all datasets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    datasets: tuple[str, ...]
    methods: tuple[Named, ...] = ()
    ipc: tuple[PositiveInt, ...] = ()
    fraction: tuple[Annotated[float, Field(gt=0, le=1)], ...] = ()
    sets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    preset: str = "cpu"
    protocols: tuple[str, ...] = Field(("quick-v1",), min_length=1)
    reference: str = "full-v1"
    size: PositiveInt | None = None
    holdout: float | None = None
    flip_invariant: bool | None = None
    classes: tuple[str, ...] | None = None
    study: bool = False
    iterates: NonNegativeInt = 0

    @field_validator("methods")
    @classmethod
    def _each_variant(cls, methods: tuple[str | Variant, ...]) -> tuple[str | Variant, ...]:
        return tuple(
            each for method in methods for each in (method.variants if isinstance(method, Variant) else [method])
        )

    @field_validator("protocols")
    @classmethod
    def _each_protocol(cls, protocols: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(each for name in protocols for each in members(name))

    @property
    def references(self) -> tuple[str, ...]:
        """The protocols of the lines; none where there is no reference."""
        return () if self.reference == NONE else members(self.reference)

    @property
    def lines(self) -> tuple[str, ...]:
        """What the reference's cells are called."""
        if not self.references:
            return ()
        return (FULL,) if load_protocol(self.references[0]).probe is None else LINES

    @property
    def data(self) -> dict[str, Any]:
        """How every dataset is loaded: arguments of ``load_dataset``, which cells have as fields."""
        return {name: getattr(self, name) for name in DATA}

    @model_validator(mode="after")
    def _has_a_grid_or_sets(self) -> "Suite":
        if not self.sets and not ("methods" in self.model_fields_set and {"ipc", "fraction"} & self.model_fields_set):
            raise ValueError("a suite names methods and ipc (or fraction), or sets")
        for method in self.methods:
            if isinstance(method, Variant) and (strange := sorted({*(method.ipc or ())} - {*self.ipc})):
                raise ValueError(f"{method.name!r} is to be run at ipc {strange[0]}, which the suite has not")
        return self

    @property
    def budgets(self) -> list[Budget]:
        """All budgets of the grid."""
        return [*map(Budget, self.ipc), *(Budget(fraction=fraction) for fraction in self.fraction)]

    def named(self, name: str, budget: Budget) -> "list[str | Variant]":
        """The method, or the variant, of a name that is run at a budget; none where it is not."""
        return [
            each for each in self.methods if budget in self.budgets and str(each) == name and is_run_at(each, budget)
        ]

    def protocols_with(self, own: str) -> tuple[str, ...]:
        """The protocols that a set is scored under, with the one on its card in place of ``card``; none twice."""
        named = (own if name == CARD else name for name in self.protocols)
        return tuple(dict.fromkeys(each for name in named for each in members(name)))

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if name == EVALUATED:
            raise ValueError(f"{name} is what evaluate `results` files: give another name")
        return checked_file_name(name, "the suite's name")

    def adapted(
        self,
        datasets: Sequence[str],
        methods: Sequence[str],
        size: int | None,
        holdout: float | None,
        flip_invariant: bool | None = None,
        classes: Sequence[str] | None = None,
        **grid: Any,
    ) -> "Suite":
        """The suite with other datasets, further methods, another size and so on where given, and with this holdout.

        Args:
            datasets, size, holdout, flip_invariant, classes: instead of the suite's.
            methods: besides the suite's.
            grid: ``ipc``, ``fraction``, ``seeds``, ``preset`` and ``protocols``, instead of the suite's where they are
                given; budgets of one kind leave none of the other.

        Returns:
            Another suite.

        Raises:
            UsageError: no dataset is left to run on, a protocol is not for distilled sets, or the suite has sets alone,
                which are as they are.
        """
        idle = [name.removesuffix("s") for name in ("ipc", "fraction", "seeds", "preset") if grid.get(name)]
        if idle and not self.methods and not methods:
            raise UsageError(f"suite {self.name} makes no set, its own are there already: leave out `{idle[0]}=…`.")
        if grid.get("protocols"):
            grid["protocols"] = tuple(each for name in grid["protocols"] for each in members(name))
        changes = {
            "datasets": tuple(datasets) or self.datasets,
            "methods": (*self.methods, *methods),
            "size": self.size if size is None else size,
            "holdout": holdout,
            "flip_invariant": self.flip_invariant if flip_invariant is None else flip_invariant,
            "classes": self.classes if classes is None else tuple(classes),
            **{name: value for name, value in grid.items() if value},
        }
        if grid.get("ipc") or grid.get("fraction"):
            changes |= {kind: tuple(grid.get(kind) or ()) for kind in ("ipc", "fraction")}
        if not changes["datasets"]:
            raise UsageError(
                f"suite {self.name} names no dataset: give `dataset=folder:PATH`, parquet:PATH, npz:PATH or hf:REPO."
            )
        suite = self.model_copy(update=changes)
        suite.check_protocols(f"suite {self.name}")
        return suite

    def check_protocols(self, where: str) -> None:
        """Raises UsageError, beginning with ``where``, for a protocol that does not score what it is to score."""
        for protocol in self.protocols:
            if protocol != CARD and load_protocol(protocol).trains_on == FULL:  # else sets of either kind
                raise UsageError(
                    f"{where}: protocols: {protocol} scores a whole training split; name it as the reference."
                )
        if any(load_protocol(each).trains_on == "distilled" for each in self.references):
            raise UsageError(f"{where}: reference: {self.reference} scores distilled sets; give full-v1, or none.")


def list_suites() -> list[str]:
    """The names of the suites that come with the package."""
    return sorted(path.stem for path in _SUITES.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """A suite by name, or the one in a ``.toml`` file.

    Raises:
        UsageError: there is none, or it is invalid.
    """
    if name not in list_suites() and not (name.endswith(".toml") and os.path.isfile(name)):
        raise UsageError(unknown("suite", name, list_suites(), "; or give a .toml file of your own"))
    path = Path(name) if name.endswith(".toml") else _SUITES / f"{name}.toml"
    try:
        suite = Suite.model_validate({"name": path.stem} | read_toml(path))
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error, Suite.model_fields)}.") from error
    sets = [str(path.parent / each) if each.endswith(SET_ENDING) else each for each in suite.sets]
    suite = suite.model_copy(update={"sets": tuple(sets)})
    suite.check_protocols(str(path))
    return suite
