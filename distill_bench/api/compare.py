"""Whether one of two sets, or methods, is better."""

import os
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

from distill_bench.api.named import Data, data_of, protocol_of, set_files
from distill_bench.benchmark import leaderboard as boards
from distill_bench.benchmark.leaderboard.collect import BUDGET
from distill_bench.benchmark.leaderboard.tables import grouped
from distill_bench.datasets import Dataset
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import UsageError, unknown
from distill_bench.evaluation import Result, evaluate, protocol_for, score_folder
from distill_bench.evaluation import compare as comparing
from distill_bench.evaluation.compare import accuracies_by_seed
from distill_bench.hub.registry.registry import load_registry
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.shown import monitor_of

Row = dict[str, Any]
_CONDITION = ("dataset", *BUDGET, "protocol", "network")
"""What two rows of boards have in common that are compared."""
_TELLS_APART = ("labels", "preset", "pixel_space", "suite")


def compare(
    a: str,
    b: str,
    *,
    protocol: str | None = None,
    network: str | None = None,
    dataset: Data | None = None,
    ipc: int | None = None,
    fraction: float | None = None,
    results: str | Path | None = None,
    labels: Literal["stored", "hard"] | None = None,
    networks: int | None = None,
    allow_leak: bool = False,
    device: str = "auto",
    registry: Path | None = None,
    progress: bool | None = None,
    monitor: Monitor | None = None,
) -> list[Row]:
    """Which of two sets, or methods, is better, by how much, and whether that is resolved.

    Sets are evaluated; of methods every condition is compared that a folder of results has both under.

    Args:
        a: the file of a set, the id of a published one that was downloaded, or a method on a board.
        b: another of the same kind.
        protocol, network, dataset: of sets how, and where, they are tested; of methods the one condition to compare.
        ipc, fraction: of methods: at so many images per class, or this part of the data, alone.
        results: of methods: the folder of results; in the cache unless given.
        labels, networks, allow_leak, device: of sets, as for ``evaluate``.
        registry: of sets: a registry of one's own.
        progress, monitor: as for ``evaluate``.

    Returns:
        A dictionary a condition: ``dataset``, ``ipc``, ``fraction``, ``protocol``, ``network``; ``a`` and ``b`` with
        their ``accuracies`` in percent by seed; the fields of ``evaluation.compare.Difference`` in points;
        ``resolved``, ``verdict`` in words, and ``notes``.

    Raises:
        UsageError: there are no two of a kind, nothing to compare, or an argument that would not be used.
        DataError: a set or a dataset is not there, or damaged.
    """
    of_sets = {"labels": labels, "networks": networks, "allow_leak": allow_leak or None, "registry": registry}
    if _both_sets(a, b, registry):
        _check_unused("sets are evaluated, not looked up", {"ipc": ipc, "fraction": fraction, "results": results})
        resolve_device(device)
        settings: Row = {"network": network, "networks": networks, "labels": labels or "stored"}
        settings |= {"allow_leak": allow_leak, "device": device, "cache": score_folder()}
        settings["monitor"] = monitor_of(progress, monitor)
        return [_of_sets(_evaluated(a, b, protocol, dataset, registry, settings))]
    _check_unused("methods are looked up on boards, not evaluated", of_sets)
    asked = {"ipc": ipc, "fraction": fraction, "protocol": protocol, "network": network}
    asked |= {"dataset": dataset.name if isinstance(dataset, Dataset) else dataset}
    return _of_methods(a, b, Path(results) if results else cache_dir() / "results", asked)


def _both_sets(a: str, b: str, registry: Path | None) -> bool:
    """Whether two sets are named, or two methods. Raises UsageError for one of each."""
    known = load_registry(registry)
    sets = [name for name in (a, b) if name.endswith(".safetensors") or os.path.isfile(name) or name in known]
    if len(sets) == 1:
        other = b if sets[0] == a else a
        raise UsageError(f"{sets[0]} is a set, and {other} neither a file nor a published one: compare two of a kind.")
    if a == b:
        raise UsageError(f"{a} is named twice: name two to compare.")
    return bool(sets)


def _check_unused(why: str, given: Row) -> None:
    if named := [f"`{name}`" for name, value in given.items() if value is not None]:
        raise UsageError(f"{' and '.join(named)} would not be used: {why}.")


def _evaluated(
    a: str, b: str, protocol: str | None, dataset: Data | None, registry: Path | None, settings: Row
) -> list[tuple[str, list[Result]]]:
    """The results of both, of all sets that an id stands for."""
    sides = {name: _sets(name, registry) for name in (a, b)}
    asked = {name: protocol_of(name, protocol, registry) for name in sides}
    rules = {name: protocol_for(sets[0], asked[name]).id for name, sets in sides.items()}
    if len({*rules.values()}) > 1:
        said = " and ".join(f"{name} {rule}" for name, rule in rules.items())
        raise UsageError(f"the sets go with different protocols ({said}): name one for both, `protocol={rules[a]}`.")
    data = {name: data_of(sets[0], dataset) for name, sets in sides.items()}
    if len({each.test.fingerprint for each in data.values()}) > 1:
        raise UsageError(f"{a} is tested on {data[a].name} and {b} on {data[b].name}, on different images.")
    return [
        (name, [evaluate(distilled, data[name], rules[name], **settings) for distilled in sets])
        for name, sets in sides.items()
    ]


def _sets(name: str, registry: Path | None) -> list[DistilledSet]:
    paths = set_files(name, registry if name in load_registry(registry) else None)
    return [load_distilled(path) for path in paths]


def _of_sets(sides: Sequence[tuple[str, list[Result]]]) -> Row:
    first = sides[0][1][0]
    condition: Row = {"dataset": first.data, "protocol": first.protocol, "network": first.network}
    notes = dict.fromkeys(f"{name}: {note}" for name, results in sides for each in results for note in each.notes)
    a, b = ((name, accuracies_by_seed(results)) for name, results in sides)
    alike = len({results[0].budget for _, results in sides}) == 1
    condition |= {key: getattr(first, key) if alike else None for key in BUDGET}
    return _compared(condition, a, b) | {"notes": [*notes]}


def _of_methods(a: str, b: str, folder: Path, asked: Row) -> list[Row]:
    """Every pair of rows under one condition that are scored alike, in the order of the boards.

    Of two suites only where none has both.
    """

    found = []
    for key, group in grouped(_rows(folder, (a, b), asked), _CONDITION):
        sides = [_distinct(row for row in group if row["method"] == name) for name in (a, b)]
        pairs = [pair for pair in product(*sides) if _scored_alike(pair, sides)]
        for pair in [pair for pair in pairs if pair[0]["suite"] == pair[1]["suite"]] or pairs:
            first, second = ((_name(row, [*sides[0], *sides[1]]), row["accuracies"]) for row in pair)
            found.append(_compared(dict(zip(_CONDITION, key, strict=True)), first, second))
    if not found:
        words = " ".join(f"`{key}={value}`" for key, value in asked.items() if value is not None)
        raise UsageError(
            f"{folder} has no results of {a} and {b} under the same conditions{words and ' with '}{words}."
        )
    return found


def _rows(folder: Path, methods: Sequence[str], asked: Row) -> list[Row]:
    """The rows of a folder that fit. Raises UsageError for a method, or anything asked for, that none has."""

    rows = [row for row in boards.board(folder) if row["accuracy"] is not None] if os.path.isdir(folder) else []
    if not rows:
        raise UsageError(f"{folder} has no results. Run distill-bench bench digits first, or give `results=DIR`.")
    for key, value in [*(("method", name) for name in methods), *asked.items()]:
        known = [*dict.fromkeys(str(row[key]) for row in rows if row[key] is not None)]
        if value is not None and str(value) not in known:
            more = " Nor is it a set: a file, or the id of a published one." if key == "method" else ""
            raise UsageError(f"{folder}: {unknown(key, str(value), sorted(known))}{more}")
    return [row for row in rows if all(value in (None, row[key]) for key, value in asked.items())]


def _scored_alike(pair: Sequence[Row], sides: Sequence[Sequence[Row]]) -> bool:
    """Whether both are strict or neither; the one score of a method without labels or a rate of its own is either."""
    only_stored = [not any(row["strict"] for row in side) for side in sides]
    strict = [row["strict"] for row in pair]
    return not any(strict) or all(map(max, strict, only_stored))


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Rows without those that another suite measured to the same accuracies."""
    return list({str((row["labels"], row["strict"], row["preset"], row["accuracies"])): row for row in rows}.values())


def _name(row: Row, others: Sequence[Row]) -> str:
    """A method, and what tells its row apart from others under the condition."""
    more = [row[key] or "–" for key in _TELLS_APART if len({other[key] for other in others}) > 1]
    more += ["strict"] if row["strict"] and not all(other["strict"] for other in others) else []
    return row["method"] + (f" ({', '.join(more)})" if more else "")


def _compared(condition: Row, a: tuple[str, dict], b: tuple[str, dict]) -> Row:

    difference = comparing.compare(a[1], b[1])
    sides = {key: {"name": name, "accuracies": by_seed} for key, (name, by_seed) in (("a", a), ("b", b))}
    said = {"resolved": difference.resolved, "verdict": difference.verdict(a[0], b[0])}
    return {**condition, **sides, **difference.model_dump(mode="json"), **said, "notes": []}
