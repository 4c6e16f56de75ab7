"""From a folder of result files to leaderboard rows."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, PositiveInt, ValidationError

from distill_bench.benchmark.leaderboard.claims import Claim, claim_for
from distill_bench.errors import DataError, describe
from distill_bench.evaluation.statistics import hierarchical_interval
from distill_bench.runtime.log import log
from distill_bench.runtime.names import LONGEST_PATH, checked_name

Result = dict[str, Any]
Row = dict[str, Any]

ROW_KEYS = (
    "suite", "dataset", "method", "ipc", "preset", "protocol", "network", "labels", "pixel_space", "accuracy", "ci_low",
    "ci_high", "networks", "seeds", "bytes", "synthesis_seconds", "peak_memory_mb", "claimed", "status",
)  # fmt: skip
STRICT = ".hard"
CELL_KEYS = ("suite", "dataset", "method", "ipc", "preset")
SLOT_KEYS = ("suite", "dataset", "method", "ipc", "seed")
"""What says which result file a cell has; another preset takes the same one."""
GROUP_KEYS = (*CELL_KEYS, "protocol", "network", "labels", "pixel_space")
CLAIM_KEYS = ("method", "dataset", "ipc", "protocol", "network", "labels")
NAMES = {"suite", "dataset", "method", "preset", "protocol", "network", "labels", "pixel_space"}
"""Text of a result that boards show, and that a stranger may have written."""
REQUIRED = {"score": (*GROUP_KEYS, "seed", "accuracies"), "failure": (*CELL_KEYS, "seed")}


class ResultFile(BaseModel):
    """The types that a result's fields have; further fields may be there."""

    model_config = ConfigDict(strict=True, extra="allow")

    suite: str
    dataset: str
    method: str
    ipc: PositiveInt | None
    preset: str
    seed: int
    cell_key: str | None = None


class Synthesis(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    seconds: float | None = None
    peak_memory_mb: float | None = None


class ScoreFile(ResultFile):
    protocol: str
    network: str
    labels: str
    pixel_space: str
    accuracies: list[FiniteFloat]
    bytes: int | None = None
    synthesis: Synthesis | None = None


def read_results(folder: Path) -> list[Result]:
    """Every score and failure below ``folder``, in path order; JSON of another kind is skipped.

    A file that cannot be read, or has a name that cannot be shown, is left out, and a line in the log says so.

    Each gets ``"strict"``: whether its file is a strict row (``.hard.json``: hard labels and the protocol's own
    learning rate). A set with hard labels and a learned rate has two scores that differ in nothing else.

    Raises:
        DataError: the folder does not exist, or a result lacks a field of its kind, or has one of another type.
    """
    if not folder.is_dir():
        raise DataError(f"no results: {folder} is not a folder.")
    loaded = ((path, _load(path)) for path in sorted(folder.rglob("*.json")))
    return [
        {**content, "strict": path.stem.endswith(STRICT)}
        for path, content in loaded
        if isinstance(content, dict)
        and content.get("kind") in tuple(REQUIRED)
        and _complete(content, path)
        and _shown_as_it_is(content, path)
    ]


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        log.warning("cannot read the result %s (%s): it is left out.", path, error)
        return None


def _complete(result: Result, path: Path) -> bool:
    missing = [key for key in REQUIRED[result["kind"]] if key not in result]
    if missing:
        raise DataError(f"the {result['kind']} {path} lacks {', '.join(missing)}.")
    if result["kind"] == "score" and not result["accuracies"]:
        raise DataError(f"the score {path} has an empty list of accuracies.")
    try:
        (ScoreFile if result["kind"] == "score" else ResultFile).model_validate(result)
    except ValidationError as error:
        raise DataError(f"the {result['kind']} {path} is not one that bench wrote: {describe(error)}.") from error
    return True


def _shown_as_it_is(result: Result, path: Path) -> bool:
    try:
        for key in sorted(NAMES & set(result)):
            checked_name(str(result[key]), f"the {key} of the result {path}", LONGEST_PATH)
    except ValueError as error:
        log.warning("%s: it is left out.", error)
        return False
    return True


def leaderboard_rows(results: Iterable[Result], claims: Sequence[Claim] = ()) -> list[Row]:
    """One JSON-safe row per method and condition, seeds pooled, with exactly the keys of ``ROW_KEYS``.

    ``accuracy`` is the mean over seeds of the mean over networks, in percent, and ``ci_low`` to ``ci_high`` its 95 %
    interval. Seconds and MB are means over seeds, bytes the largest set, ``networks`` the fewest per seed.

    Cells that failed and have no score since are rows of status ``"failed"``, whose ``seeds`` counts the failed ones.
    Which came later, their ``cell_key`` says: a score of the same address was found since, one of another address is
    of an older method or data, and is left out.

    A strict score that differs from the set's other score only in its learning rate (hard labels, learned rate) gets
    ``.hard`` after its protocol, as its file has it, so that no two rows have the same condition.

    Sorted by suite, dataset, protocol, ipc and falling accuracy; within a dataset failures follow, then ``full``.
    """
    results = list(results)
    scores = [result for result in results if result["kind"] == "score"]
    failed = {_key(result, SLOT_KEYS): result.get("cell_key") for result in results if result["kind"] == "failure"}
    scores = [score for score in scores if not _outdated(score, failed)]
    scored = {_key(score, SLOT_KEYS) for score in scores}
    failures = [result for result in results if result["kind"] == "failure" and _key(result, SLOT_KEYS) not in scored]
    rows = [_score_row(group, claims) for group in _grouped(_told_apart(scores), GROUP_KEYS)]
    rows += [_failure_row(group, claims) for group in _grouped(failures, CELL_KEYS)]
    return sorted(rows, key=_order)


def _outdated(score: Result, failed: dict[tuple, str | None]) -> bool:
    slot = _key(score, SLOT_KEYS)
    return slot in failed and failed[slot] != score.get("cell_key")


def _key(result: Result, keys: Sequence[str]) -> tuple:
    return tuple(result.get(key) for key in keys)


def _grouped(results: Iterable[Result], keys: Sequence[str]) -> list[list[Result]]:
    groups = defaultdict(list)
    for result in results:
        groups[_key(result, keys)].append(result)
    return list(groups.values())


def _told_apart(scores: list[Result]) -> list[Result]:
    as_stored = {_key(score, GROUP_KEYS) for score in scores if not score.get("strict")}
    return [
        {**score, "protocol": score["protocol"] + STRICT}
        if score.get("strict") and _key(score, GROUP_KEYS) in as_stored
        else score
        for score in scores
    ]


def _score_row(scores: list[Result], claims: Sequence[Claim]) -> Row:
    by_seed = [score["accuracies"] for score in scores]
    low, high = hierarchical_interval(by_seed)
    synthesis = [score.get("synthesis") or {} for score in scores]
    values = {
        "accuracy": _number(fmean(map(fmean, by_seed))),
        "ci_low": _number(low),
        "ci_high": _number(high),
        "networks": min(map(len, by_seed)),
        "bytes": max((score["bytes"] for score in scores if score.get("bytes") is not None), default=None),
        "synthesis_seconds": _mean(block.get("seconds") for block in synthesis),
        "peak_memory_mb": _mean(block.get("peak_memory_mb") for block in synthesis),
    }
    return _row(scores, claims, "done", values)


def _failure_row(failures: list[Result], claims: Sequence[Claim]) -> Row:
    return _row(failures, claims, "failed", {})


def _row(group: list[Result], claims: Sequence[Claim], status: str, values: Row) -> Row:
    condition: Row = {key: group[0].get(key) for key in GROUP_KEYS}
    claim = claim_for(claims, *(condition[key] for key in CLAIM_KEYS))
    known = {
        **condition,
        **values,
        "seeds": len({result["seed"] for result in group}),
        "claimed": claim.accuracy if claim else None,
        "status": status,
    }
    return {key: known.get(key) for key in ROW_KEYS}


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return _number(fmean(present)) if present else None


def _number(value: float | None) -> float | None:
    # Four decimals are beyond any accuracy's resolution, and hide the float noise of averaging (88.10000000000001).
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _order(row: Row) -> tuple:
    accuracy = math.inf if row["accuracy"] is None else -row["accuracy"]
    return (
        row["suite"], row["dataset"], row["method"] == "full", row["protocol"] is None, row["protocol"] or "",
        row["ipc"] or 0, accuracy, row["method"], row["labels"] or "", row["preset"] or "",
    )  # fmt: skip
