"""Recipes: what a method is run with. One TOML file a method, every value with its source.

The hyper-parameters of a run are resolved from these tables, later ones winning:
``[defaults]``, ``[side.N]`` (by the images' shorter side in pixels), ``[ipc.K]``, ``[dataset.<name>]``,
``[cell.<dataset>.<ipc>]``; the same of the preset (``[preset.cpu]``, ``[preset.cpu.ipc.K]``, …); then what the user
sets.
A value may be a table of its own (``[defaults.teacher]``), of which a later one replaces what it names.

Of tables by number, sides and IPCs alike, the nearest at or below counts. A cell holds from its IPC to the next one
that is tabulated, for all datasets or for its own.

A recipe with a ``base`` holds only what differs: its tables are laid over those of the recipe it names, key by key.
"""

import contextlib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError, field_validator

from distill_bench.errors import UsageError, describe, did_you_mean, unknown
from distill_bench.runtime.files import read_toml

FOLDER = Path(__file__).parent
PAPER = "paper"

Values = dict[str, str | int | float | bool | list[Any] | dict[str, Any]]


class Tables(BaseModel):
    """Values by the images' side, by IPC, by dataset, and by dataset and IPC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: dict[int, Values] = {}
    ipc: dict[int, Values] = {}
    dataset: dict[str, Values] = {}
    cell: dict[str, dict[int, Values]] = {}

    def layers(self, dataset: str, ipc: int, side: int | None) -> dict[str, Values]:
        """What applies to a dataset, an IPC and a side, in order, by the tables' names.

        Args:
            side: None where it is not known: then no table of sides applies.
        """
        own = self.cell.get(dataset, {})
        of_side, of_ipc, of_cell = nearest(self.side, side), nearest(self.ipc, ipc), nearest(own, ipc)
        found = {} if of_side is None else {f"side.{of_side}": self.side[of_side]}
        if of_ipc is not None:
            found[f"ipc.{of_ipc}"] = self.ipc[of_ipc]
        if dataset in self.dataset:
            found[f"dataset.{dataset}"] = self.dataset[dataset]
        if of_cell is not None and (of_ipc is None or of_cell >= of_ipc):
            found[f"cell.{dataset}.{of_cell}"] = own[of_cell]
        return found


class Preset(Tables):
    """A named variant: values for everything, and tables of its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: Values


class Resources(BaseModel):
    """What a cell asks a cluster for.

    Attributes:
        cpus: at least so many, where the cell has fewer threads.
        gpus: of a node where cells run on GPUs; a part of one where several cells may share it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpus: PositiveInt = 1
    gpus: PositiveFloat = 1.0

    @field_validator("gpus")
    @classmethod
    def _whole_or_a_part(cls, gpus: float) -> float:
        if gpus > 1 and not gpus.is_integer():
            raise ValueError("above 1, whole GPUs alone can be asked for")
        return gpus


class Recipe(Tables):
    """A method's recipe file.

    Attributes:
        synthesizer: the name of a built-in synthesizer function, or ``module:function``.
        protocol: the paper's evaluation protocol.
        preset: named variants, such as ``cpu``.
        resources: what its cells ask a cluster for.
    """

    title: str
    paper: str | None = None
    synthesizer: str
    protocol: str = "standard-v1"
    defaults: Values = {}
    preset: dict[str, Preset] = {}
    resources: Resources = Resources()

    def resolve(self, dataset: str, ipc: int, preset: str, overrides: Values, side: int | None = None) -> Values:
        """The values for a run, not yet checked against the method's fields. Arguments and errors: see ``tables``."""
        merged: Values = {}
        for layer in [*self.tables(dataset, ipc, preset, side).values(), overrides]:
            merged = merge(merged, layer)
        return merged

    def tables(self, dataset: str, ipc: int, preset: str, side: int | None = None) -> dict[str, Values]:
        """The tables that apply to a run, by name, in order.

        Args:
            side: of the images, the shorter one, in pixels; None where it is not known.

        Raises:
            UsageError: there is no such preset.
        """
        found = {"defaults": self.defaults} | self.layers(dataset, ipc, side)
        if preset in self.preset:
            own = self.preset[preset]
            found[f"preset.{preset}"] = own.model_extra or {}
            found |= {f"preset.{preset}.{name}": table for name, table in own.layers(dataset, ipc, side).items()}
        elif preset != PAPER:
            known = [PAPER, *self.preset]
            raise UsageError(
                f"there is no preset {preset!r} here.{did_you_mean(preset, known)} Known: {', '.join(known)}."
            )
        return found

    def sides(self, preset: str) -> list[int]:
        """The sides with tables, those of the preset included; none where the size of images does not matter."""
        return sorted(self.side.keys() | self.preset.get(preset, Tables()).side.keys())

    def tabulated(self, preset: str) -> set[tuple[str, int]]:
        """Every (dataset, IPC) a preset has a table for, with dataset "" for tables of all datasets; and ("", 1)."""
        cells = {("", 1)}
        for tables in (self, self.preset.get(preset, Tables())):
            cells |= {("", ipc) for ipc in tables.ipc} | {(dataset, 1) for dataset in tables.dataset}
            cells |= {(dataset, ipc) for dataset, by_ipc in tables.cell.items() for ipc in by_ipc}
        return cells


def nearest(table: Mapping[int, Any], at: int | None) -> int | None:
    """The greatest number of a table that is not above ``at``; None where there is none, or nothing to look for.

    >>> nearest({1: "a", 10: "b"}, 9), nearest({10: "b"}, 9), nearest({1: "a"}, None)
    (1, None, None)
    """
    return max((number for number in table if at is not None and number <= at), default=None)


def merge(earlier: Values, later: Values) -> Values:
    """Both layers' values; where they share a key the later's, or the two tables' merged.

    >>> merge({"a": 1, "t": {"b": 2, "c": 3}}, {"t": {"c": 4}})
    {'a': 1, 't': {'b': 2, 'c': 4}}
    """
    merged = earlier | later
    for key in earlier.keys() & later.keys():
        old, new = earlier[key], later[key]
        if isinstance(old, dict) and isinstance(new, dict):
            merged[key] = merge(old, new)
    return merged


def parse_values(pairs: list[str]) -> Values:
    """Read ``key=value`` pairs, as ``--set`` takes them: values are TOML, and text where they are not.

    A dot in the key leads into a table: ``teacher.epochs=3``.

    Raises:
        UsageError: a pair has no ``=``, or two have one key.
    """
    values: Values = {}
    seen = set[str]()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {pair!r} is not key=value.")
        if key.strip() in seen:
            raise UsageError(f"{key.strip()} is set more than once, last by {pair!r}: set it once.")
        seen.add(key.strip())
        value: Any = text
        with contextlib.suppress(ValueError, RecursionError):
            value = tomllib.loads(f"value = {text}")["value"]
        *tables, name = key.strip().split(".")
        pair_values: Values = {name: value}
        for table in reversed(tables):
            pair_values = {table: pair_values}
        values = merge(values, pair_values)
    return values


def list_recipes() -> list[str]:
    """The names of the built-in recipes."""
    return sorted(_built_in())


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or the one in a TOML file.

    Raises:
        UsageError: there is none, or it is invalid, or so is the recipe it is based on.
    """
    path = _path(name)
    try:
        return Recipe.model_validate(_tables(path, ()))
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error, Recipe.model_fields)}.") from error


def _built_in() -> dict[str, Path]:
    """The recipes in the families' folders, by name."""
    return {path.stem: path for path in FOLDER.glob("*/*.toml")}


def _path(name: str) -> Path:
    if name in list_recipes():
        return _built_in()[name]
    if not name.endswith(".toml") or not Path(name).is_file():
        raise UsageError(unknown("method", name, list_recipes(), "; your own: module:function, or a recipe's .toml"))
    return Path(name)


def _tables(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """A recipe file's content, laid over that of its base."""
    content = read_toml(path)
    base = content.pop("base", None)
    if base is None:
        return content
    if not isinstance(base, str) or path in above:
        raise UsageError(f"{path}: base = {base!r} must name another recipe, and one that is not based on this.")
    return merge(_tables(_path(base), (*above, path)), content)
