"""A suite: a grid of datasets × methods × budgets × seeds, written in TOML, and the cells it expands to."""

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator

from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import UsageError, describe, did_you_mean, unknown
from distill_bench.evaluation import data_name, load_protocol, members
from distill_bench.evaluation.result import FULL, LINES
from distill_bench.hub.registry.published import obtain
from distill_bench.methods import Method, load_method, variant
from distill_bench.methods.recipe import PAPER, TEST, list_recipes
from distill_bench.runtime.files import read_toml
from distill_bench.runtime.names import LONGEST_PATH, checked_file_name, checked_name

_SUITES = Path(__file__).with_name("suites")
EVALUATED = "evaluated"
"""Where a suite's name stands, what ``evaluate --results`` files; no suite is called so."""
_LONGEST_SLUG = 240
"""Bytes, so that it is a file's name with its hash too."""
NONE = "none"
_OF_SETS = ("dataset", "method", "ipc", "fraction", "seed")
_SET_ENDING = ".safetensors"
_DATA = ("size", "holdout", "flip_invariant", "classes")
_FILTERS = ("dataset", "method", "ipc", "fraction", "seed", "protocol")


class Variant(BaseModel):
    """A method with other values of some fields: ``{ method = "dm", set = { flip = true }, as = "dm-flipped" }``.

    Attributes:
        method: as for ``load_method``.
        set: hyper-parameters that replace the recipe's.
        each: lists of further ones, every combination of which is a variant: ``each = { flip = [true, false] }`` with
            ``as = "dm flip={flip}"``.
        ipc: budgets of the suite that it is run at; all, unless given.
        name: on cards and boards; ``as`` in a suite's file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    set: dict[str, Any] = Field(default_factory=dict)
    each: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    ipc: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] | None = None
    name: str = Field(alias="as")

    def __str__(self) -> str:
        return self.name

    @model_validator(mode="after")
    def _names_what_differs(self) -> "Variant":
        if missing := [field for field in self.each if f"{{{field}}}" not in self.name]:
            named = ", ".join(f"{{{field}}}" for field in missing)
            raise ValueError(f"each: the variants of {self.name!r} need names of their own: put {named} into `as`")
        if twice := self.set.keys() & self.each.keys():
            raise ValueError(f"{self.name!r} has {', '.join(sorted(twice))} in `set` and in `each`: give it in one")
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


class Suite(BaseModel):
    """What is run.

    Attributes:
        name: the file's name without its ending; results lie under it.
        datasets, methods, seeds: the grid, with variants of methods one by one, and
        ipc, fraction: the budgets: images per class, and fractions of the training split.
        sets: besides the grid, sets that are there already: ids of the registry, or files.
        preset: of every recipe that has one of that name; the others run as in their paper.
        protocols: every set is scored under each, in tables of their own; a name that stands for several, as
            ``probe-v1`` does, is all of these.
        reference: the protocol of the line trained on the whole training split, or ``"none"``. Protocols that probe
            networks have a second line, of networks that were not trained.
        size, holdout, flip_invariant, classes: as for ``load_dataset``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    datasets: tuple[str, ...]
    methods: tuple[str | Variant, ...] = ()
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
        return {name: getattr(self, name) for name in _DATA}

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

    def has(self, method: str, budget: Budget) -> bool:
        """Whether a method, or a variant, of this name is run at a budget."""
        return budget in self.budgets and any(str(each) == method and _is_run_at(each, budget) for each in self.methods)

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
            UsageError: no dataset is left to run on, or a protocol is not for distilled sets.
        """
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
            if load_protocol(protocol).trains_on == FULL:  # else sets of either kind
                raise UsageError(
                    f"{where}: protocols: {protocol} scores a whole training split; name it as the reference."
                )
        if any(load_protocol(each).trains_on == "distilled" for each in self.references):
            raise UsageError(f"{where}: reference: {self.reference} scores distilled sets; give full-v1, or none.")


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
        return {name: getattr(self, name) for name in _DATA}

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
    sets = [str(path.parent / each) if each.endswith(_SET_ENDING) else each for each in suite.sets]
    suite = suite.model_copy(update={"sets": tuple(sets)})
    suite.check_protocols(str(path))
    return suite


def parse_only(text: str) -> dict[str, set[str]]:
    """Read a filter such as ``"method=dm,ipc=1,ipc=10"``; values of one key are alternatives.

    Raises:
        UsageError: it is not a list of key=value, or a key is unknown.
    """
    wanted: dict[str, set[str]] = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key.strip() not in _FILTERS:
            hint = did_you_mean(key.strip(), _FILTERS)
            raise UsageError(f"`only={text}`: {part!r} is not key=value with a key of {', '.join(_FILTERS)}.{hint}")
        wanted.setdefault(key.strip(), set()).add(_as_written(key.strip(), value.strip()))
    return wanted


def _as_written(key: str, value: str) -> str:
    """A value as a cell has it: 0.10 is the fraction 0.1."""
    with contextlib.suppress(ValueError):
        return str(float(value)) if key == "fraction" else value
    return value


def expand(suite: Suite, wanted: dict[str, set[str]]) -> list[Cell]:
    """The suite's cells that a filter lets through: dataset by dataset, the reference lines last.

    These have neither budget nor seed, so filters on such do not take them away. Those on IPC and fraction are
    alternatives.

    Raises:
        UsageError: the suite names something twice, or a preset that no recipe has; the filter leaves no cell, or names
            what the suite does not have.
    """
    _check_grid(suite)
    given = _given_sets(suite)
    _check_filter(suite, given, wanted)

    def chosen(key: str, values: Iterable[object]) -> list:
        return [value for value in values if key not in wanted or str(value) in wanted[key]]

    protocols = tuple(chosen("protocol", suite.protocols))
    cells: list[Cell] = [
        SetCell(dataset, str(method), budget.ipc, seed, suite.preset, protocols, **more, **_variant(method))
        for dataset in chosen("dataset", suite.datasets)
        for budget in suite.budgets
        if protocols and _has_budget(budget, wanted)
        for more in [{**suite.data, "fraction": budget.fraction}]
        for method in chosen("method", suite.methods)
        if _is_run_at(method, budget)
        for seed in chosen("seed", suite.seeds)
    ]
    cells += [
        replace(cell, protocols=protocols)
        for cell in given
        if protocols
        and _has_budget(cell.budget, wanted)
        and all(chosen(key, [getattr(cell, key)]) for key in ("dataset", "method", "seed"))
    ]
    references = tuple(chosen("protocol", suite.references) if suite.lines == LINES else suite.references)
    cells += [
        ReferenceCell(dataset, references, line, **suite.data)
        for line in chosen("method", suite.lines)
        for dataset in chosen("dataset", suite.datasets)
        if references
    ]
    if not cells:
        raise UsageError(f"the filter leaves no cell of suite {suite.name}: what it names never comes together.")
    return cells


def _has_budget(budget: Budget, wanted: Mapping[str, set[str]]) -> bool:
    """Whether a filter lets a budget through: one that names neither IPC nor fraction, or this one."""
    asked = {"ipc": budget.ipc, "fraction": budget.fraction}
    return not asked.keys() & wanted.keys() or any(str(value) in wanted.get(key, ()) for key, value in asked.items())


def _is_run_at(method: str | Variant, budget: Budget) -> bool:
    return isinstance(method, str) or method.ipc is None or budget.ipc in method.ipc


def _variant(method: str | Variant) -> dict[str, Any]:
    return {"of": method.method, "settings": method.set} if isinstance(method, Variant) else {}


def _given_sets(suite: Suite) -> list[GivenSetCell]:
    """The cells of sets that are there already.

    Raises:
        UsageError: the registry has no such set, one is of another dataset than the suite, or two have one name.
        DataError: one is not downloaded, or cannot be read.
    """
    cells = list[GivenSetCell]()
    for each in suite.sets:
        file = Path(each) if each.endswith(_SET_ENDING) else obtain(each, may_download=False).paths[0]
        name, card = (file.stem if each.endswith(_SET_ENDING) else each), load_distilled(file).card
        if card.source.name not in suite.datasets:
            datasets = ", ".join(suite.datasets)
            raise UsageError(f"suite {suite.name}: the set {each} is of {card.source.name}; the suite has {datasets}.")
        if name in [cell.name for cell in cells]:
            raise UsageError(f"suite {suite.name} has two sets called {name}; their results would be one file.")
        budget = card.budget
        about = (card.method, budget.ipc, budget.fraction, card.seed or 0, card.preset or name)
        cells.append(GivenSetCell(card.source.name, name, str(file.absolute()), *about, suite.protocols, **suite.data))
    return cells


def _axes(suite: Suite) -> dict[str, list[str]]:
    """What a filter can name, by its key."""
    references = [each for each in suite.references if each not in suite.protocols]
    axes: dict[str, list[object]] = {
        "dataset": [*suite.datasets],
        "method": [*suite.methods, *suite.lines],
        "ipc": [*suite.ipc],
        "fraction": [*suite.fraction],
        "seed": [*suite.seeds],
        "protocol": [*suite.protocols, *references],
    }
    return {key: list(map(str, values)) for key, values in axes.items()}


def _check_grid(suite: Suite) -> None:
    for key, values in _axes(suite).items():
        for value in values:
            _check_value(suite, key, value)
        twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        if key == "method":
            twice = [name for name in twice if _come_together(suite, name)]
        if twice:
            advice = f" To run it alone, give `only=method={twice[0]}`." if key == "method" else ""
            raise UsageError(f"suite {suite.name} has the {key} {twice[0]} twice; name it once.{advice}")
    recipes = [
        load_method(name).recipe
        for name in (*list_recipes(), *(each.method if isinstance(each, Variant) else each for each in suite.methods))
    ]
    presets = {preset for recipe in recipes for preset in recipe.presets}
    if suite.preset not in {*presets, TEST}:
        hint = did_you_mean(suite.preset, presets)
        raise UsageError(
            f"suite {suite.name}: no recipe has a preset {suite.preset!r}. Known: {', '.join(sorted(presets))}.{hint}"
        )


def _come_together(suite: Suite, name: str) -> bool:
    """Whether methods of one name are run at one budget, so that their results would be one file."""
    named = [each for each in suite.methods if str(each) == name]
    budgets = [budget for each in named for budget in suite.budgets if _is_run_at(each, budget)]
    return name in suite.lines or len(budgets) > len(set(budgets))


def _check_value(suite: Suite, key: str, value: str) -> None:
    try:
        checked_name(value, f"suite {suite.name}: a {key}", LONGEST_PATH)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def _check_filter(suite: Suite, given: list[GivenSetCell], wanted: dict[str, set[str]]) -> None:
    for key, values in _axes(suite).items():
        if key in _OF_SETS:
            own = (getattr(cell, key) for cell in given)
            values = list(dict.fromkeys([*values, *(str(value) for value in own if value is not None)]))
        strange = sorted(wanted.get(key, set()) - set(values))
        if strange:
            hint = did_you_mean(strange[0], values)
            there = f"{key} {', '.join(values)}" if values else f"no {key}"
            raise UsageError(f"`only={key}={strange[0]}`: suite {suite.name} has {there}.{hint}")
