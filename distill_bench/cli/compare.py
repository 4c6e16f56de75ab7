"""compare: whether one of two sets, or methods, is better."""

import os
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import typer

from distill_bench.benchmark import leaderboard as boards
from distill_bench.benchmark.leaderboard.collect import BUDGET
from distill_bench.benchmark.leaderboard.tables import grouped
from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, show, show_json
from distill_bench.distilled.budget import shown
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import UsageError, unknown
from distill_bench.evaluation import Result, evaluate, protocol_for, score_folder
from distill_bench.evaluation.compare import Difference, accuracies_by_seed, compare, with_half_width
from distill_bench.evaluation.statistics import percent_interval
from distill_bench.hub.registry.registry import load_registry
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.paths import cache_dir

Row = dict[str, Any]
_CONDITION = ("dataset", *BUDGET, "protocol", "network")
"""What two rows of boards have in common that are compared."""
_TELLS_APART = ("labels", "preset", "pixel_space", "suite")


def compare_command(
    a: Annotated[str, typer.Argument(help="A distilled set, the id of a published one, or a method on a board.")],
    b: Annotated[str, typer.Argument(help="Another of the same kind.")],
    protocol: options.Protocol = None,
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3BN, ResNet18BN or ViT.")] = None,
    dataset: options.TestDataset = None,
    ipc: Annotated[int | None, typer.Option("--ipc", min=1, help="Of methods: at so many images per class.")] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", help="Of methods: at this part of the data.")] = None,
    results: options.Results = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Of sets: stored (unless given) or hard.")] = None,
    networks: options.Networks = None,
    allow_leak: options.AllowLeak = False,
    device: options.Device = "auto",
    registry: options.Registry = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say which of two sets, or methods, is better, by how much, and whether that is resolved.

    Sets are evaluated; of methods every condition is compared that a folder of results has both under.
    """
    of_sets = {"labels": labels, "networks": networks, "allow_leak": allow_leak or None, "registry": registry}
    if _both_sets(a, b, registry):
        _check_unused("sets are evaluated, not looked up", {"ipc": ipc, "fraction": fraction, "results": results})
        options.choice("--labels", labels, options.LABEL_USES)
        resolve_device(device)
        settings: Row = {
            "network": network,
            "networks": networks,
            "labels": labels or "stored",
            "allow_leak": allow_leak,
        }
        settings |= {"device": device, "monitor": options.listening_monitor(quiet), "cache": score_folder()}
        found = [_of_sets(_evaluated(a, b, protocol, dataset, registry, settings))]
    else:
        _check_unused("methods are looked up on boards, not evaluated", of_sets)
        asked = {"dataset": dataset, "ipc": ipc, "fraction": fraction, "protocol": protocol, "network": network}
        found = _of_methods(a, b, results or cache_dir() / "results", asked)
    if as_json:
        show_json(found)
    else:
        show(*(line for each in found for line in _described(each)))


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
    if named := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
        raise UsageError(f"{' and '.join(named)} would not be used: {why}.")


def _evaluated(
    a: str, b: str, protocol: str | None, dataset: str | None, registry: Path | None, settings: Row
) -> list[tuple[str, list[Result]]]:
    """The results of both, of all sets that an id stands for."""
    sides = {name: _sets(name, registry) for name in (a, b)}
    rules = {name: protocol_for(sets[0], protocol).id for name, sets in sides.items()}
    if len({*rules.values()}) > 1:
        cards = " and ".join(f"{name} {rule}" for name, rule in rules.items())
        raise UsageError(f"the cards name different protocols ({cards}): name one for both, `protocol={rules[a]}`.")
    data = {name: options.dataset_of_set(sets[0], dataset) for name, sets in sides.items()}
    if len({each.test.fingerprint for each in data.values()}) > 1:
        raise UsageError(f"{a} is tested on {data[a].name} and {b} on {data[b].name}, on different images.")
    return [
        (name, [evaluate(distilled, data[name], rules[name], **settings) for distilled in sets])
        for name, sets in sides.items()
    ]


def _sets(name: str, registry: Path | None) -> list[DistilledSet]:
    paths = options.set_files(name, registry if name in load_registry(registry) else None)
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
    """Every pair of rows under one condition, in the order of the boards; of two suites only where none has both."""
    found = []
    for key, group in grouped(_rows(folder, (a, b), asked), _CONDITION):
        sides = [_distinct(row for row in group if row["method"] == name) for name in (a, b)]
        pairs = list(product(*sides))
        for pair in [pair for pair in pairs if pair[0]["suite"] == pair[1]["suite"]] or pairs:
            first, second = ((_name(row, [*sides[0], *sides[1]]), row["accuracies"]) for row in pair)
            found.append(_compared(dict(zip(_CONDITION, key, strict=True)), first, second))
    if not found:
        words = " ".join(f"--{key} {value}" for key, value in asked.items() if value is not None)
        raise UsageError(
            f"{folder} has no results of {a} and {b} under the same conditions{words and ' with '}{words}."
        )
    return found


def _rows(folder: Path, methods: Sequence[str], asked: Row) -> list[Row]:
    """The rows of a folder that fit. Raises UsageError for a method, or anything asked for, that none has."""
    rows = [row for row in boards.board(folder) if row["accuracy"] is not None] if os.path.isdir(folder) else []
    if not rows:
        raise UsageError(f"{folder} has no results. Run distill-bench bench digits first, or give --results DIR.")
    for key, value in [*(("method", name) for name in methods), *asked.items()]:
        known = [*dict.fromkeys(str(row[key]) for row in rows if row[key] is not None)]
        if value is not None and str(value) not in known:
            more = " Nor is it a set: a file, or the id of a published one." if key == "method" else ""
            raise UsageError(f"{folder}: {unknown(key, str(value), sorted(known))}{more}")
    return [row for row in rows if all(value in (None, row[key]) for key, value in asked.items())]


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Rows without those that another suite measured to the same accuracies."""
    return list({str((row["labels"], row["preset"], row["accuracies"])): row for row in rows}.values())


def _name(row: Row, others: Sequence[Row]) -> str:
    """A method, and what tells its row apart from others under the condition."""
    more = [row[key] or "–" for key in _TELLS_APART if len({other[key] for other in others}) > 1]
    return row["method"] + (f" ({', '.join(more)})" if more else "")


def _compared(condition: Row, a: tuple[str, dict], b: tuple[str, dict]) -> Row:
    difference = compare(a[1], b[1])
    sides = {key: {"name": name, "accuracies": by_seed} for key, (name, by_seed) in (("a", a), ("b", b))}
    said = {"resolved": difference.resolved, "verdict": difference.verdict(a[0], b[0])}
    return {**condition, **sides, **difference.model_dump(mode="json"), **said, "notes": []}


def _described(found: Row) -> list[str]:
    difference = Difference.model_validate({key: found[key] for key in Difference.model_fields})
    sides = " against ".join(_accuracy(found[key]) for key in ("a", "b"))
    budget = shown(found["ipc"], found["fraction"])
    budget = f"{'IPC ' if found['ipc'] else ''}{budget}, " if budget else ""
    return [
        f"{found['verdict']} ({sides} %)",
        f"{found['dataset']}, {budget}{found['protocol']}, {found['network']}; {difference.about}",
        *notes_shown(found["notes"]),
    ]


def _accuracy(side: Row) -> str:
    by_seed = list(side["accuracies"].values())
    mean, (low, high) = fmean(map(fmean, by_seed)), percent_interval(by_seed)
    return with_half_width(mean, None if low is None or high is None else max(mean - low, high - mean))
