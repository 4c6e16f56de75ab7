"""From results to leaderboard rows."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from distill_bench.benchmark.leaderboard.changed import BY_HAND, is_changed
from distill_bench.benchmark.leaderboard.claims import Claim, claim_beside
from distill_bench.benchmark.leaderboard.registered import (
    EntriesByFiles,
    entries_by_files,
    entry_of,
    registered_claim,
)
from distill_bench.benchmark.results import Filed
from distill_bench.benchmark.suite import EVALUATED
from distill_bench.datasets import dataset_info, is_own
from distill_bench.distilled.budget import shown
from distill_bench.errors import DataError
from distill_bench.evaluation import Result
from distill_bench.evaluation.compare import accuracies_by_seed
from distill_bench.evaluation.result import LINES
from distill_bench.evaluation.result_file import CHANGED
from distill_bench.evaluation.statistics import shown_interval
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.log import log

if TYPE_CHECKING:
    import pandas

Row = dict[str, Any]
DataNames = Callable[[Filed], str]

ROW_KEYS = (
    "suite", "dataset", "method", "ipc", "fraction", "images", "preset", "protocol", "network", "labels", "strict",
    "pixel_space", "accuracy", "ci_low", "ci_high", "networks", "seeds", "bytes", "needs", "synthesis_seconds",
    "pretraining_seconds", "peak_memory_mb", "claimed", "status", "accuracies",
    "registered",
)  # fmt: skip
"""Of a row. ``accuracies`` are those of all networks by synthesis seed; what has none goes by the sum of its set.
``strict``: whether one is of classes and the protocol's rate where the set has labels or a rate of its own.
``registered``: of a published set, the claim of its entry in the registry, as a dictionary, empty where that claims
nothing; None of other sets."""
BUDGET = ("ipc", "fraction")
"""What says together how many images a set was made for, see ``budget_of``."""
_CELL_KEYS = ["suite", "dataset", "method", *BUDGET, "preset"]
_SLOT_KEYS = ["suite", "dataset", "given", "method", *BUDGET, "seed", "asked"]
"""What says which results a cell has; ``asked`` is the preset, whether or not the recipe was changed."""
_GROUP_KEYS = [*_CELL_KEYS, "protocol", "network", "labels", "strict", "pixel_space"]


def leaderboard_rows(
    results: Iterable[Filed], claims: Sequence[Claim] = (), names: DataNames | None = None
) -> list[Row]:
    """Pool results over synthesis seeds: one row per condition and one per failed cell, JSON-safe.

    A result that was filed before its cell failed with other code or hyper-parameters is none of that cell, and a
    failure of a cell that was scored since is forgotten. Sets of no suite that differ in what made them are told apart
    in the column ``preset``, so that no two rows have the same condition. Data of one's own that have one name and
    several images, as folders that are called alike have, or one that was changed, are told apart in the column
    ``dataset``.

    Args:
        results: what ``read_results`` found.
        claims: published accuracies, to stand beside them.
        names: of their data, where other results stand beside these; see ``names_of_data``.

    Returns:
        Rows with the keys ``ROW_KEYS``, sorted by suite, dataset, protocol, number of images and falling accuracy;
        within a dataset failures follow, then ``full`` and ``untrained``.
    """
    return [row for row, _ in pooled(results, claims, names)]


def pooled(
    results: Iterable[Filed], claims: Sequence[Claim] = (), names: DataNames | None = None
) -> list[tuple[Row, list[Filed]]]:
    """The rows of ``leaderboard_rows``, each with the results or failures that it is made of."""
    import pandas  # here, because importing it takes a moment

    results = list(results)
    names = names or names_of_data(results)
    columns = dict.fromkeys([*_GROUP_KEYS, *_SLOT_KEYS, "cell_key", "variant", "finished"])
    flat = [{**_flat(each), "dataset": names(each)} for each in results]
    filed = pandas.DataFrame(flat, columns=[*columns, "result"], dtype=object)
    scored = filed["result"].map(lambda each: isinstance(each, Result)).astype(bool)
    scores, failures = filed[scored], filed[~scored].drop_duplicates(_SLOT_KEYS, keep="last")
    beside = scores.merge(
        failures[[*_SLOT_KEYS, "cell_key"]], "left", _SLOT_KEYS, suffixes=("", "_failed"), indicator=True
    )
    outdated = (beside["_merge"] == "both") & (beside["cell_key"].fillna("") != beside["cell_key_failed"].fillna(""))
    scores = beside[~outdated]
    last = scores.sort_values("finished").drop_duplicates(_SLOT_KEYS, keep="last")[[*_SLOT_KEYS, "finished"]]
    failed = filed[~scored].merge(last, "left", _SLOT_KEYS, suffixes=("", "_scored"))
    still = failed["finished_scored"].isna() | (failed["finished"] > failed["finished_scored"].fillna(""))
    entries = entries_by_files()
    rows = [
        (_score_row(group, claims, entries), [*group["result"]])
        for _, group in _groups(_told_apart(scores), _GROUP_KEYS)
    ]
    rows += [(_row(group, claims, "failed", {}), [*group["result"]]) for _, group in _groups(failed[still], _CELL_KEYS)]
    return sorted(rows, key=lambda pair: _order(pair[0]))


def of_suite(rows: Iterable[Row], suite: str) -> list[Row]:
    """The rows of a suite's board: its own, and as guests those of its data that ``evaluate --results`` filed.

    The board of ``evaluated`` has those of data that no suite has.
    """
    rows = list(rows)
    if suite == EVALUATED:
        asked = {row["dataset"] for row in rows if row["suite"] != suite}
        return [row for row in rows if row["suite"] == suite and row["dataset"] not in asked]
    asked = {row["dataset"] for row in rows if row["suite"] == suite}
    return [row for row in rows if row["suite"] == suite or (row["suite"] == EVALUATED and row["dataset"] in asked)]


def as_shown(rows: Iterable[Row]) -> list[Row]:
    """Rows by the board they stand on: guests under every suite that has their data, marked so."""
    rows = list(rows)
    suites = sorted({row["suite"] for row in rows})
    shown = [
        {**row, "suite": suite, "guest": row["suite"] != suite} for suite in suites for row in of_suite(rows, suite)
    ]
    return sorted(shown, key=_order)


def _flat(filed: Filed) -> Row:
    facts = {key: getattr(filed, key, None) for key in (*_GROUP_KEYS, "given", "seed", "cell_key")}
    return {
        **facts,
        "preset": _preset(filed),
        "asked": filed.preset,
        "suite": filed.suite or EVALUATED,
        "variant": _variant(filed),
        "finished": str(filed.run.get("finished") or ""),
        "result": filed,
    }


def names_of_data(results: Iterable[Filed]) -> DataNames:
    """What boards call the data of each: with the sum of its images where one name is that of several.

    Args:
        results: all that stand side by side.

    Returns:
        From a result to its data's name. A failure, which does not say its images, has those of the newest result.
    """
    newest: dict[str, dict[str, str]] = {}
    for each in results:
        if own := _images_sum(each):
            found = newest.setdefault(each.data, {})
            found[own] = max(found.get(own, ""), str(each.run.get("finished") or ""))

    def name(filed: Filed) -> str:
        found = newest.get(filed.data, {})
        if len(found) < 2:
            return filed.data
        own = _images_sum(filed) or max(found, key=lambda each: found[each])
        return f"{filed.data} (images {own})"

    return name


def _images_sum(filed: Filed) -> str:
    """Tells images of one's own data from others; empty for named data, whose images are known, and for failures."""
    if not isinstance(filed, Result) or not is_own(filed.dataset):
        return ""
    return canonical_hash([filed.train_fingerprint, filed.test_fingerprint])[:6]


def _preset(filed: Filed) -> str | None:
    """A recipe's preset, whether or not it was changed; of a given set that has none its name."""
    if filed.preset is None:
        return f"set {filed.given}" if filed.given else None
    return filed.preset + (BY_HAND if isinstance(filed, Result) and is_changed(filed) else "")


def _variant(filed: Filed) -> str:
    """What tells apart sets that no suite made under one name: their recipes, files, or content."""
    if not isinstance(filed, Result) or filed.synthesis is not None or filed.set_sha256 is None:
        return ""
    files = filed.origin.files if filed.origin else filed.set_sha256 if filed.seed is None else None
    return canonical_hash([filed.recipe, files])[:8]


def _groups(frame: "pandas.DataFrame", keys: Sequence[str]) -> "Iterable[tuple[Any, pandas.DataFrame]]":
    return frame.groupby([*keys], dropna=False, sort=False)


def _told_apart(scores: "pandas.DataFrame") -> "pandas.DataFrame":
    alike = scores.groupby(_GROUP_KEYS, dropna=False, sort=False)
    several = alike[["variant"]].transform("nunique") > 1
    named = (scores["preset"].fillna("set") + " " + scores["variant"]).str.strip()
    return scores.assign(preset=scores["preset"].mask(several["variant"], named))


def _score_row(group: "pandas.DataFrame", claims: Sequence[Claim], entries: EntriesByFiles) -> Row:
    results: list[Result] = list(group["result"])
    changed = any(CHANGED in result.notes for result in results)
    known = measured(results) | {"registered": _registered(results, entries)}
    return _row(group, claims, "changed" if changed else "done", known)


def _registered(results: Sequence[Result], entries: EntriesByFiles) -> Row | None:
    """See ``ROW_KEYS``: of a row all of whose sets are of one release."""
    entry = entry_of(results[0], entries)
    if entry is None or any(entry_of(result, entries) is not entry for result in results):
        return None
    try:
        claim = registered_claim(entry, results)
    except DataError as error:
        log.warning("a board goes on without a claim: %s", error)
        claim = None
    return {} if claim is None else claim.model_dump()


def measured(results: Sequence[Result]) -> Row:
    """What the results of one condition say together: accuracy, interval, size, cost and how many there are."""
    accuracies = accuracies_by_seed(results)
    by_seed = list(accuracies.values())
    low, high = shown_interval(by_seed)
    synthesis = [result.synthesis for result in results if result.synthesis]
    pretraining = [block.pretraining_seconds for block in synthesis]
    return {
        "accuracy": _number(fmean(map(fmean, by_seed))),
        "ci_low": _number(low),
        "ci_high": _number(high),
        "networks": min(map(len, by_seed)),
        "seeds": _seeds(results),
        "bytes": max((result.bytes for result in results if result.bytes is not None), default=None),
        "needs": _needs(results),
        "synthesis_seconds": _mean(block.seconds for block in synthesis),
        "pretraining_seconds": None if None in pretraining else _mean(pretraining),
        "peak_memory_mb": _mean(block.peak_memory_mb for block in synthesis),
        "accuracies": accuracies,
    }


def _row(group: "pandas.DataFrame", claims: Sequence[Claim], status: str, values: Row) -> Row:
    first = group.iloc[0]
    condition: Row = {key: None if first[key] != first[key] else first[key] for key in _GROUP_KEYS}  # NaN is None here
    claim = claim_beside({"registered": None} | condition | values, claims)
    known = {
        **condition,
        "strict": bool(condition["strict"]),
        "images": _images([*group["result"]]),
        "seeds": len({each.seed for each in group["result"]}),
        **values,
        "claimed": claim.accuracy if claim else None,
        "status": status,
    }
    return {key: known.get(key) for key in ROW_KEYS}


def budget_of(row: Row) -> str:
    """A row's budget as boards show it: ``10`` images per class, ``10 %`` of the training split."""
    return shown(*(row[key] for key in BUDGET))


def size_order(row: Row) -> tuple[float, ...]:
    """By what rows of a dataset are in the order of their numbers of images."""
    return row["images"] or 0, row["ipc"] or 0, row["fraction"] or 0


def class_count(result: Filed) -> int | None:
    """How many classes the data of a result has; None where that is not known."""
    if result.classes:
        return len(result.classes)
    info = dataset_info(result.dataset)
    return None if info is None else info.class_count


def _images(results: Sequence[Filed]) -> int | None:
    """How many images a budget is: its IPC for every class, though a set with parts beside its images holds fewer.

    Of a fraction, and where the classes are not known, those of the sets.
    """
    known, first = [each.images for each in results if each.images is not None], results[0]
    classes = class_count(first)
    if first.ipc is not None and (classes or not known):
        return first.ipc * (classes or 1)
    return max(known, default=None)


def _needs(results: Sequence[Result]) -> str | None:
    """The external weights that labels need, with their size and the first digits of their sha256; None without."""
    needed = dict.fromkeys(each for result in results for each in result.requires)
    return ", ".join(f"{each.id} ({each.bytes:,} B, sha256 {each.sha256[:12]})" for each in needed) or None


def _seeds(results: Iterable[Result]) -> int:
    return len({result.set_sha256 if result.seed is None else result.seed for result in results})


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return _number(fmean(present)) if present else None


def _number(value: float | None) -> float | None:
    # Four decimals are beyond any accuracy's resolution, and hide the float noise of averaging (88.10000000000001).
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _order(row: Row) -> tuple:
    accuracy = math.inf if row["accuracy"] is None else -row["accuracy"]
    return (
        row["suite"], row["dataset"], row["method"] in LINES, row["protocol"] is None, row["protocol"] or "",
        *size_order(row), accuracy, row["method"], row["labels"] or "", row["preset"] or "", row.get("guest", False),
    )  # fmt: skip
