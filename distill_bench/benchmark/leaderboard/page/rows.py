"""What the page knows: one JSON block of rows, recipes, methods and datasets."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from distill_bench.benchmark.leaderboard.claimed import OTHER, claims_table
from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.benchmark.leaderboard.collect import Row, budget_of, class_count
from distill_bench.benchmark.leaderboard.colours import PALETTE, family_order, style_of
from distill_bench.benchmark.leaderboard.merged import CONDITION
from distill_bench.benchmark.leaderboard.page.commands import commands
from distill_bench.benchmark.leaderboard.page.pictures import pictures_of
from distill_bench.benchmark.leaderboard.page.recipes import about_method, sourced
from distill_bench.benchmark.leaderboard.tables import RANDOM
from distill_bench.evaluation import Result
from distill_bench.evaluation.compare import Difference
from distill_bench.evaluation.result import LINES
from distill_bench.evaluation.statistics import half_width
from distill_bench.runtime.hashing import canonical_hash

_PLAIN = (
    "dataset", "method", "images", "preset", "protocol", "network", "labels", "strict", "pixel_space", "accuracy",
    "ci_low", "ci_high", "networks", "seeds", "bytes", "needs", "synthesis_seconds", "pretraining_seconds",
    "peak_memory_mb", "status", "full", "origin", "suites",
)  # fmt: skip
_CLAIMED = (
    "claimed", "claimed_std", "claimed_networks", "claimed_protocol", "paper", "source", "difference", "margin",
    "verdict", "why",
)  # fmt: skip
_VERSIONS = (
    "torch", "numpy", "python", "system", "cpu", "cores", "threads", "device", "instructions", "git_commit", "dirty",
    "finished",
)  # fmt: skip
_PRETRAINED = {"teacher", "expert", "encoder"}
"""Fields of recipes that say how a network is trained that the set needs."""
_DIGITS = 6
"""So many that the page, which rounds once more, writes what Python writes."""


def page_data(rows: Sequence[Row], claims: Sequence[Claim] = (), folders: Sequence[Path] = ()) -> dict[str, Any]:
    """All that the page shows, JSON-safe.

    Args:
        rows: of ``merged_rows``.
        claims: published accuracies.
        folders: of the results, for the pictures there.

    Returns:
        ``rows``, ``recipes`` by key, ``methods`` by name, ``datasets`` in order, the lines ``random``,
        ``families`` in order, the ``palette`` and ``pictures`` by the sha256 of sets.
    """
    recipes: dict[str, Any] = {}
    results = [each for row in rows for each in row["results"] if isinstance(each, Result)]
    smallest_first = sorted(results, key=lambda each: (each.seed or 0, each.images or each.ipc or 0))
    pictures = pictures_of(smallest_first, folders)
    shown = [_row(row, claims, recipes) for row in rows]
    methods = {name: about_method(name) | _style(name) for name in sorted({row["method"] for row in rows} - {*LINES})}
    return {
        "rows": shown,
        "recipes": recipes,
        "methods": methods,
        "datasets": list(dict.fromkeys(row["dataset"] for row in rows)),
        "random": [*RANDOM],
        "families": sorted({about["family"] for about in methods.values()}, key=family_order),
        "palette": PALETTE,
        "pictures": pictures,
    }


def bits_per_class(row: Row) -> float | None:
    """Storage of a row's sets in bits for each class; None where the number of classes is not known."""
    results = [each for each in row["results"] if isinstance(each, Result)]
    classes = class_count(results[0]) if results else None
    return None if classes is None or row["bytes"] is None else round(row["bytes"] * 8 / classes, 1)


def _style(method: str) -> dict[str, Any]:
    style = style_of(method)
    return {"family": style.family, "colour": style.colour, "dash": style.dash, "shape": style.shape}


def _row(row: Row, claims: Sequence[Claim], recipes: dict[str, Any]) -> dict[str, Any]:
    place, results = row["place"], [each for each in row["results"] if isinstance(each, Result)]
    half = half_width(row["accuracy"], row["ci_low"], row["ci_high"])
    return {
        "id": canonical_hash([row[key] for key in (*CONDITION, "origin")])[:8],
        "budget": budget_of(row) or None,
        **{key: row[key] for key in _PLAIN},
        "pretraining_unknown": _pretraining_unknown(row, results),
        "half": None if half is None else round(half, _DIGITS),
        "bits": bits_per_class(row),
        "rank": place and place.rank,
        "behind": _points(place and place.lead),
        "random": _points(row["vs_random"]),
        "gap": _points(row["gap"]),
        "notes": _notes(row, results),
        "claim": _claim(row, claims),
        "scores": [_score(each) for each in results],
        "versions": _versions(results),
        "recipe": _recipe(row, results, recipes),
        "commands": commands(row),
    }


def _pretraining_unknown(row: Row, results: Iterable[Result]) -> bool:
    """Whether the sets need pretrained networks, and nothing says what these took."""
    made = (each.recipe or {} for each in results if each.synthesis)
    return row["pretraining_seconds"] is None and any(_PRETRAINED & recipe.keys() for recipe in made)


def _points(difference: Difference | None) -> list[float | None] | None:
    """A difference in points, and half of its interval."""
    if difference is None:
        return None
    half = difference.half_width
    return [round(difference.difference, _DIGITS), None if half is None else round(half, _DIGITS)]


def _notes(row: Row, results: Iterable[Result]) -> list[str]:
    """What makes the number doubtful, each once."""
    notes = [note for each in results for note in each.notes]
    errors = [each.error for each in row["results"] if not isinstance(each, Result)]
    return list(dict.fromkeys([*notes, *errors]))


def _claim(row: Row, claims: Sequence[Claim]) -> dict[str, Any] | None:
    """What is claimed for a row, and whether it holds, see ``claims_table``."""
    for found in claims_table([row], claims):
        return {key: found[key] for key in _CLAIMED} | {"comparable": found["verdict"] != OTHER}
    return None


def _score(result: Result) -> dict[str, Any]:
    return {
        "seed": result.seed,
        "set": result.set_sha256,
        "mean": round(fmean(result.accuracies), 2),
        "accuracies": [round(each, 2) for each in result.accuracies],
    }


def _versions(results: Sequence[Result]) -> dict[str, list[str]]:
    """What sets were made and scored with: the different values of each, in order of appearance."""
    blocks = [each.run for each in results]
    blocks += [each.synthesis.model_extra or {} for each in results if each.synthesis]
    found = {key: list(dict.fromkeys(str(b[key]) for b in blocks if b.get(key) is not None)) for key in _VERSIONS}
    found["finished"] = sorted(found["finished"])[-1:]
    return {key: values for key, values in found.items() if values}


def _recipe(row: Row, results: Sequence[Result], recipes: dict[str, Any]) -> str | None:
    """The key of the row's recipe among ``recipes``, where it is put."""
    first = next((each for each in results if each.recipe), None)
    if first is None or first.recipe is None:
        return None
    found = sourced(first.method, first.dataset, first.ipc or 1, first.preset, first.size, first.recipe)
    key = canonical_hash(found)[:10]
    recipes[key] = found
    return key
