"""Recipes: what a method is run with. One TOML file a method, every value with its source.

The hyper-parameters of a run are resolved from these tables, later ones winning:
``[defaults]``, ``[side.N]`` (by the images' shorter side in pixels), ``[ipc.K]``, ``[dataset.<name>]``,
``[cell.<dataset>.<ipc>]``; the same of the preset (``[preset.cpu]``, ``[preset.cpu.ipc.K]``, …); then what the user
sets.
A value may be a table of its own (``[defaults.teacher]``), of which a later one replaces what it names.

Of tables by number, sides and IPCs alike, the nearest at or below counts. A cell holds from its IPC to the next one
that is tabulated, for all datasets or for its own.

A table's dataset may be several: ``[cell."mnist, fashion_mnist".1]``.

A recipe with a ``base`` holds only what differs: its tables are laid over those of the recipe it names, key by key.
So are ``[variant.<name>]`` over the file's own: a variant is a recipe under that name. A recipe that has ``flip`` among
its defaults has the variant ``fyi-<name>`` with it; what FYI changes besides stands in a table of that name.

``[preset.test]`` makes a method quick on digits. It is what the tests run, and not offered.
"""

import contextlib
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError, field_validator

from distill_bench.errors import UsageError, describe, did_you_mean, unknown
from distill_bench.runtime.files import read_toml

FOLDER = Path(__file__).parent
PAPER, TEST = "paper", "test"
_FLIPPED = "fyi-"
FYI = "Son et al., ECCV 2024, arXiv 2407.08113"

PRETRAINED = ("teacher", "expert", "experts")
"""The fields that a preset ``paper-…`` may have, see ``has_papers_values``."""

Values = dict[str, str | int | float | bool | list[Any] | dict[str, Any]]


class Tables(BaseModel):
    """Values by the images' side, by IPC, by dataset, and by dataset and IPC."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: dict[int, Values] = {}
    ipc: dict[int, Values] = {}
    dataset: dict[str, Values] = {}
    cell: dict[str, dict[int, Values]] = {}

    @field_validator("dataset", "cell", mode="before")
    @classmethod
    def _by_dataset(cls, tables: Any) -> Any:
        """Tables by name of one dataset each."""
        if not isinstance(tables, Mapping):
            return tables
        split: dict[str, Any] = {}
        for names, table in tables.items():
            for name in re.split(r", *", names):
                split = merge(split, {name: table})
        return split

    def layers(self, dataset: str, ipc: int, side: int | None) -> dict[str, Values]:
        """What applies to a dataset, an IPC and a side, in order, by the tables' names.

        Args:
            dataset: its name.
            ipc: images per class.
            side: None if it is not known: then no table of sides applies.

        Returns:
            Values by the name of their table; later ones override earlier ones.
        """
        own = self.cell.get(dataset, {})
        of_side, of_ipc, of_cell = nearest(self.side, side), nearest(self.ipc, ipc), nearest(own, ipc)
        layers = {} if of_side is None else {f"side.{of_side}": self.side[of_side]}
        if of_ipc is not None:
            layers[f"ipc.{of_ipc}"] = self.ipc[of_ipc]
        if dataset in self.dataset:
            layers[f"dataset.{dataset}"] = self.dataset[dataset]
        if of_cell is not None and (of_ipc is None or of_cell >= of_ipc):
            layers[f"cell.{dataset}.{of_cell}"] = own[of_cell]
        return layers


class Preset(Tables):
    """A named variant: values for everything, and tables of its own."""

    model_config = ConfigDict(frozen=True, extra="allow")

    __pydantic_extra__: Values

    @property
    def named(self) -> set[str]:
        """The fields that any of its tables has."""
        cells = (table for tables in self.cell.values() for table in tables.values())
        tables = [self.model_extra or {}, *self.side.values(), *self.ipc.values(), *self.dataset.values(), *cells]
        return {field for table in tables for field in table}


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
        function: ``module:function``, as Python imports it.
        protocol: the paper's evaluation protocol.
        preset: named variants, such as ``cpu``.
        resources: what its cells ask a cluster for.
    """

    title: str
    paper: str | None = None
    function: str
    protocol: str = "standard-v1"
    defaults: Values = {}
    preset: dict[str, Preset] = {}
    resources: Resources = Resources()

    @field_validator("preset")
    @classmethod
    def _papers_values_stay(cls, presets: dict[str, Preset]) -> dict[str, Preset]:
        for name, preset in presets.items():
            if has_papers_values(name) and (other := sorted(preset.named - {*PRETRAINED})):
                raise ValueError(
                    f"{name}: {other[0]} is not of pretrained networks ({', '.join(PRETRAINED)}), which alone differ "
                    f"in presets whose names begin with {PAPER}: name it otherwise"
                )
        return presets

    @property
    def presets(self) -> list[str]:
        """The presets that users are offered."""
        return [PAPER, *(name for name in self.preset if name != TEST)]

    def resolve(self, dataset: str, ipc: int, preset: str, overrides: Values, side: int | None = None) -> Values:
        """The values for a run, not yet checked against the method's fields. Arguments and errors: see ``tables``."""
        merged: Values = {}
        for layer in [*self.tables(dataset, ipc, preset, side).values(), overrides]:
            merged = merge(merged, layer)
        return merged

    def tables(self, dataset: str, ipc: int, preset: str, side: int | None = None) -> dict[str, Values]:
        """The tables that apply to a run, by name, in order.

        Args:
            dataset: its name.
            ipc: images per class.
            preset: its name.
            side: of the images, the shorter one, in pixels; None if it is not known.

        Returns:
            Values by the name of their table; later ones override earlier ones.

        Raises:
            UsageError: there is no such preset.
        """
        tables = {"defaults": self.defaults} | self.layers(dataset, ipc, side)
        if preset in self.preset:
            own = self.preset[preset]
            tables[f"preset.{preset}"] = own.model_extra or {}
            tables |= {f"preset.{preset}.{name}": table for name, table in own.layers(dataset, ipc, side).items()}
        elif preset != PAPER:
            hint = did_you_mean(preset, self.presets)
            raise UsageError(f"there is no preset {preset!r} here.{hint} Known: {', '.join(self.presets)}.")
        return tables

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


def has_papers_values(preset: str) -> bool:
    """Whether a preset has the paper's values: ``paper``, or a ``paper-…``, whose pretrained networks alone differ."""
    return preset == PAPER or preset.startswith(f"{PAPER}-")


def nearest(table: Mapping[int, Any], at: int | None) -> int | None:
    """The greatest number of a table that is not above ``at``; None if there is none, or nothing to look for.

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
        UsageError: a pair has no ``=``, or two set one key, or a table and what is in it.
    """
    values: Values = {}
    seen = set[tuple[str, ...]]()
    for pair in pairs:
        key, equals, text = pair.partition("=")
        names = key.strip().split(".")
        if not equals or not all(names):
            raise UsageError(f"--set {pair!r} is not key=value.")
        value: Any = text
        with contextlib.suppress(ValueError, RecursionError):
            read = tomllib.loads(f"value = {text}")
            value = read["value"] if len(read) == 1 else text  # what follows on further lines is no value
        for name in reversed(names):
            value = {name: value}
        for path in _paths(value):
            if any(path[: len(other)] == other[: len(path)] for other in seen):
                raise UsageError(f"{'.'.join(path)} is set more than once, last by {pair!r}: set it once.")
            seen.add(path)
        values = merge(values, value)
    return values


def _paths(values: Values) -> list[tuple[str, ...]]:
    """The keys that lead to each value that is no table."""
    return [
        (name, *rest)
        for name, value in values.items()
        for rest in (_paths(value) if isinstance(value, dict) and value else [()])
    ]


def list_recipes() -> list[str]:
    """The names of the built-in recipes, their variants included."""
    return sorted(_built_in())


def recipe_file(name: str) -> Path:
    """The file that a built-in recipe stands in; a variant's is that of the recipe it varies."""
    return _built_in()[name][0]


def load_recipe(name: str) -> Recipe:
    """A built-in recipe by name, or the one in a TOML file.

    Args:
        name: of a recipe in a family's folder, of a variant, or the path of a ``.toml`` file.

    Returns:
        The recipe, validated.

    Raises:
        UsageError: there is none, or it is invalid, or so is the recipe it is based on.
    """
    try:
        return Recipe.model_validate(_content(name, ()))
    except ValidationError as error:
        raise UsageError(f"{_built_in().get(name, (name,))[0]}: {describe(error, Recipe.model_fields)}.") from error


@cache
def _built_in() -> dict[str, tuple[Path, Values]]:
    """The files in the families' folders by the names of their recipes, with what a variant lays over the file's."""
    files: dict[str, tuple[Path, Values]] = {}
    for path in FOLDER.glob("*/*.toml"):
        content = read_toml(path)
        files[path.stem] = path, {}
        variants: dict[str, Any] = content.get("variant", {})
        if "flip" in content.get("defaults", {}):
            title = f"FYI on {path.stem.upper()}: every synthetic batch is followed by its mirror images"
            flipped = {"title": title, "paper": FYI, "defaults": {"flip": True}}
            variants = merge({_FLIPPED + path.stem: flipped}, variants)
        files |= {name: (path, variant) for name, variant in variants.items()}
    return files


def beside(path: Path, base: str) -> str:
    """The recipe that one in a file is based on: a name, or a file in the same folder, or else as it is given."""
    near = path.parent / base
    return str(near) if base.endswith(".toml") and near.is_file() else base


def _content(name: str, above: tuple[Path, ...]) -> Values:
    """What a recipe's file says, laid over its base's."""
    if name not in _built_in() and not (name.endswith(".toml") and os.path.isfile(name)):
        raise UsageError(unknown("method", name, list_recipes(), "; your own: module:function, or a recipe's .toml"))
    path, variant = _built_in().get(name, (Path(name), {}))
    content = read_toml(path)
    content.pop("variant", None)
    base = content.pop("base", None)
    if base is not None:
        if not isinstance(base, str) or path.resolve() in above:
            raise UsageError(f"{path}: base = {base!r} must name another recipe, and one that is not based on this.")
        content = merge(_content(beside(path, base), (*above, path.resolve())), content)
    return merge(content, variant)
