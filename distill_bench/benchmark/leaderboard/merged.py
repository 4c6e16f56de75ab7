"""One board a dataset: the rows of all suites, and of several folders, each measurement once, with ranks."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.benchmark.leaderboard.collect import (
    BUDGET,
    Row,
    budget_of,
    measured,
    names_of_data,
    pooled,
    size_order,
)
from distill_bench.benchmark.leaderboard.ranking import places
from distill_bench.benchmark.leaderboard.tables import RANDOM, compared, grouped
from distill_bench.benchmark.suite import EVALUATED, list_suites, load_suite
from distill_bench.evaluation import Result
from distill_bench.evaluation.result import LINES
from distill_bench.evaluation.result_file import Filed
from distill_bench.runtime.run_info import comes_with_checkout

HERE, CHECKOUT = "here", "checkout"
CONDITION = ("dataset", "method", *BUDGET, "preset", "protocol", "network", "labels", "strict", "pixel_space")
GROUP = ("dataset", *BUDGET, "protocol", "network")
"""What rows share that are ranked against each other."""


@dataclass(frozen=True)
class Source:
    """The results of a folder.

    Attributes:
        origin: where they come from, see ``origin_of``, or what else tells the folder from another.
        filed: what ``read_results`` found.
        folder: where; None of what was not read from one.
    """

    origin: str
    filed: Sequence[Filed]
    folder: Path | None = None


def origin_of(folder: Path) -> str:
    """``"checkout"`` for a folder that came with the package's repository; ``"here"`` for one of this machine's."""
    return CHECKOUT if comes_with_checkout(folder) else HERE


def merged_rows(sources: Iterable[Source], claims: Sequence[Claim] = ()) -> list[Row]:
    """The rows of all datasets, by dataset, protocol, network, number of images and rank.

    A set that several suites scored stands in one row, with the most networks. Where their accuracies of it differ,
    they are those of the suite that is named like the dataset, else of one that is no study, and the result's notes
    have the others. Where suites have different sets of one seed under one condition, their names stand after the
    preset. Rows of different folders are never made one.

    Args:
        sources: folders of results; a row's *random* and *full* are its own folder's where that has them.
        claims: see ``leaderboard_rows``.

    Returns:
        Rows as of ``leaderboard_rows``, the dataset's name being their suite's, with the keys of ``compared`` and
        ``origin``, ``suites``, ``results`` (what the row is made of) and ``place`` (None for a failure, ``full``, and a
        study's variant, which is named after its method with a space).
    """
    sources = list(sources)
    names = names_of_data(each for source in sources for each in source.filed)
    rows = compared(
        {**row, "origin": source.origin}
        for source in sources
        for row in _of_all_suites(pooled(source.filed, claims, names))
    )
    for row in rows:
        row["place"] = None
    for _, group in grouped(rows, GROUP):
        ranked = [row for row in group if budget_of(row) and not _of_a_study(row)]
        for row, place in zip(ranked, places(ranked), strict=True):
            row["place"] = place
    return sorted(rows, key=_order)


def _of_a_study(row: Row) -> bool:
    """Whether a suite made it under a variant's name, its method's and a space: the best of many is no method's."""
    made = any(isinstance(each, Result) and each.synthesis is not None for each in row["results"])
    return made and " " in row["method"]


def without_studies(rows: Sequence[Row]) -> list[Row]:
    """The rows but for what studies varied, of which there are many, and which have pages of their own.

    Args:
        rows: of ``merged_rows``.

    Returns:
        Those of other suites, and a study's rows under a method's own name but for its random images; all, where every
        suite is a study.
    """
    studies = _studies()
    if {suite for row in rows for suite in row["suites"]} <= studies:
        return [*rows]
    return [
        row for row in rows if not (studies.issuperset(row["suites"]) and (_of_a_study(row) or row["method"] in RANDOM))
    ]


def _studies() -> set[str]:
    return {name for name in list_suites() if load_suite(name).study}


def _of_all_suites(pairs: Iterable[tuple[Row, list[Filed]]]) -> list[Row]:
    rows: list[Row] = []
    studies = _studies()
    for _, same in grouped([{**row, "results": filed} for row, filed in pairs], CONDITION):
        made: list[Row] = []
        for row in sorted(same, key=lambda row: (row["suite"] != row["dataset"], row["suite"] in studies)):
            fitting = next((each for each in made if _agree(each, row)), None)
            if fitting is None:
                made.append({**row, "suites": [row["suite"]]})
            else:
                made[made.index(fitting)] = _joined(fitting, row)
        rows += [_named(row) for row in made] if len(made) > 1 else made
    return [{**row, "suite": row["dataset"]} for row in rows]


def _agree(one: Row, other: Row) -> bool:
    """Whether two suites' rows have no different sets of any seed, so that they are parts of one measurement."""
    if one["status"] == "failed" or other["status"] == "failed":
        return one["status"] == other["status"]
    first, second = ({_seed(each): each.set_sha256 for each in row["results"]} for row in (one, other))
    recipes = [next(iter(row["results"])).recipe for row in (one, other)]
    return recipes[0] == recipes[1] and all(first[seed] == second[seed] for seed in first.keys() & second.keys())


def _joined(one: Row, other: Row) -> Row:
    suites = [*one["suites"], other["suite"]]
    if one["status"] == "failed":
        return {**one, "suites": suites}
    results = {_seed(each): each for each in one["results"]}
    for each in other["results"]:
        seed = _seed(each)
        results[seed] = _of_one_set(results[seed], each) if seed in results else each
    status = next((row["status"] for row in (one, other) if row["status"] == "changed"), one["status"])
    return {**one, **measured([*results.values()]), "status": status, "results": [*results.values()], "suites": suites}


def _of_one_set(shown: Result, other: Result) -> Result:
    """Of two results of a set that with more networks, if these go on; else the first, with a note of the other's."""
    if all(one == another for one, another in zip(shown.accuracies, other.accuracies, strict=False)):
        return max(shown, other, key=lambda each: each.networks)
    each = ", ".join(f"{value:.2f}" for value in other.accuracies)
    note = f"measured otherwise in the suite {other.suite or EVALUATED}: {other.accuracy:.2f} % ({each})"
    return shown.model_copy(update={"notes": (*shown.notes, note)})


def _seed(result: Result) -> object:
    return result.set_sha256 if result.seed is None else result.seed


def _named(row: Row) -> Row:
    return {**row, "preset": f"{row['preset'] or 'set'} ({', '.join(row['suites'])})"}


def _order(row: Row) -> tuple:
    rank = row["place"].rank if row["place"] else math.inf
    return (
        row["dataset"], row["method"] in LINES, row["protocol"] is None, row["protocol"] or "", row["network"] or "",
        *size_order(row), rank, -(row["accuracy"] or 0), row["method"], row["labels"] or "", row["preset"] or "",
        row["origin"],
    )  # fmt: skip
