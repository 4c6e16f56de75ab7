"""What a suite expands to: its cells, or those that a filter lets through."""

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill_bench.benchmark.cells import Cell, GivenSetCell, ReferenceCell, SetCell
from distill_bench.benchmark.suite import CARD, PUBLISHED, SET_ENDING, Suite, Variant, is_run_at
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import UsageError, did_you_mean
from distill_bench.evaluation.protocol import is_known, known_protocol, members
from distill_bench.evaluation.result import FULL, LINES
from distill_bench.hub.registry.published import obtain
from distill_bench.methods import load_method
from distill_bench.methods.recipe import TEST, list_recipes
from distill_bench.runtime.names import LONGEST_PATH, checked_name

_OF_SETS = ("dataset", "method", "ipc", "fraction", "seed")
_FILTERS = ("dataset", "method", "ipc", "fraction", "seed", "protocol")


def parse_only(text: str) -> dict[str, set[str]]:
    """Read a filter such as ``"method=dm,ipc=1,ipc=10"``; values of one key are alternatives, and may have commas.

    Raises:
        UsageError: it is not a list of key=value, or a key is unknown.
    """
    wanted: dict[str, set[str]] = {}
    # a piece without = goes on with the one before
    for part in filter(None, re.split(r",(?=[^,]*=)", text.strip(", "))):
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

    cells: list[Cell] = [
        SetCell(dataset, str(method), budget.ipc, seed, suite.preset, protocols, **more, **_variant(method))
        for dataset in chosen("dataset", suite.datasets)
        for budget in suite.budgets
        if _has_budget(budget, wanted)
        for more in [{**suite.data, "fraction": budget.fraction}]
        for method in chosen("method", suite.methods)
        if is_run_at(method, budget)
        for protocols in [tuple(chosen("protocol", protocols_of(suite, method)))]
        if protocols
        for seed in chosen("seed", suite.seeds)
    ]
    cells += [
        replace(cell, protocols=protocols)
        for cell in given
        for protocols in [tuple(chosen("protocol", cell.protocols))]
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
        if not wanted:
            raise UsageError(f"suite {suite.name} has no cell: give methods and ipc (or fraction), or sets.")
        raise UsageError(f"the filter leaves no cell of suite {suite.name}: what it names never comes together.")
    return cells


def protocols_of(suite: Suite, method: str | Variant) -> tuple[str, ...]:
    """Under which a method's sets are scored. Raises UsageError if there is no such method."""
    if CARD not in suite.protocols:
        return suite.protocols
    return suite.protocols_with(load_method(method.method if isinstance(method, Variant) else method).recipe.protocol)


def _has_budget(budget: Budget, wanted: Mapping[str, set[str]]) -> bool:
    """Whether a filter lets a budget through: one that names neither IPC nor fraction, or this one."""
    asked = {"ipc": budget.ipc, "fraction": budget.fraction}
    return not asked.keys() & wanted.keys() or any(str(value) in wanted.get(key, ()) for key, value in asked.items())


def _variant(method: str | Variant) -> dict[str, Any]:
    """What a cell has besides of a variant; published sets among its values are their files."""
    if not isinstance(method, Variant):
        return {}
    return {"of": method.method, "settings": {name: _file_of(value) for name, value in method.set.items()}}


def _file_of(value: Any) -> Any:
    """A value as it is, or of ``"published:ID"`` the file in the cache. Raises as ``obtain`` where it is not there."""
    if not isinstance(value, str) or not value.startswith(PUBLISHED):
        return value
    return str(obtain(value.removeprefix(PUBLISHED), may_download=False).paths[0])


def _given_sets(suite: Suite) -> list[GivenSetCell]:
    """The cells of sets that are there already.

    Raises:
        UsageError: the registry has no such set, one is of another dataset than the suite, or two have one name.
        DataError: one is not downloaded, or cannot be read.
    """
    cells = list[GivenSetCell]()
    for each in suite.sets:
        file = Path(each) if each.endswith(SET_ENDING) else obtain(each, may_download=False).paths[0]
        name, card = (file.stem if each.endswith(SET_ENDING) else each), load_distilled(file).card
        if card.source.name not in suite.datasets:
            datasets = ", ".join(suite.datasets)
            raise UsageError(f"suite {suite.name}: the set {each} is of {card.source.name}; the suite has {datasets}.")
        if name in [cell.name for cell in cells]:
            raise UsageError(f"suite {suite.name} has two sets called {name}; their results would be one file.")
        budget = card.budget
        about = (card.method, budget.ipc, budget.fraction, card.seed or 0, card.preset or name)
        if CARD in suite.protocols:
            _check_card(f"suite {suite.name}: the set {each}", card.protocol)
        protocols = suite.protocols_with(card.protocol)
        cells.append(GivenSetCell(card.source.name, name, str(file.absolute()), *about, protocols, **suite.data))
    return cells


def _check_card(what: str, protocol: str) -> None:
    """Raises UsageError where a card names no protocol of this project for sets: what a file names is not loaded."""
    if not is_known(protocol) or any(known_protocol(each).trains_on == FULL for each in members(protocol)):
        raise UsageError(
            f"{what}: its card's protocol {protocol!r} is none of this project's for sets. Leave card out."
        )


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
    for budget in suite.budgets:
        if suite.methods and not any(is_run_at(each, budget) for each in suite.methods):
            raise UsageError(f"suite {suite.name} has no method at {budget}: its variants have an ipc of their own.")
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
    budgets = [budget for each in named for budget in suite.budgets if is_run_at(each, budget)]
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
        if key == "protocol" and CARD in values:
            scored = [name for each in suite.methods for name in protocols_of(suite, each)]
            scored += [name for cell in given for name in cell.protocols]
            values = list(dict.fromkeys([*scored, *(name for name in values if name != CARD)]))
        strange = sorted(wanted.get(key, set()) - set(values))
        if strange:
            hint = did_you_mean(strange[0], values)
            there = f"{key} {', '.join(values)}" if values else f"no {key}"
            raise UsageError(f"`only={key}={strange[0]}`: suite {suite.name} has {there}.{hint}")
