"""The claims of papers beside what was measured: a row each, with a verdict where the two can be compared."""

import re
from collections.abc import Iterable, Sequence

from distill_bench.benchmark.leaderboard.changed import BY_HAND
from distill_bench.benchmark.leaderboard.claims import (
    Claim,
    claim_beside,
    differences,
    mismatches,
    network_kind,
)
from distill_bench.benchmark.leaderboard.collect import BUDGET, Row
from distill_bench.evaluation.claim import ClaimVerdict, check_claim, claim_of
from distill_bench.evaluation.protocol import without_network
from distill_bench.methods.recipe import PAPER, has_papers_values, list_recipes, load_recipe

OTHER = "other conditions"
"""The verdict of a row that was not measured as the paper says."""
_OF_ROW = (
    "suite", "dataset", "method", *BUDGET, "preset", "protocol", "network", "labels", "pixel_space", "networks",
    "seeds",
)  # fmt: skip


def claims_table(rows: Iterable[Row], claims: Sequence[Claim]) -> list[Row]:
    """What is claimed for the rows of a board, and whether it holds, JSON-safe.

    A row is the mean over all sets that were measured under its conditions: over all sets of a release, or all seeds.

    Args:
        rows: of a board, see ``leaderboard_rows``.
        claims: the published accuracies.

    Returns:
        In the order of the rows, one for each that has an accuracy and a claim, see ``claim_beside``. Its keys:
        those that say what was measured, as boards have them; ``measured``, ``ci_low`` and ``ci_high``; ``claimed``,
        ``claimed_std``, ``claimed_networks`` (over how many that is), ``claimed_protocol``, ``paper`` and ``source``;
        ``difference`` (measured minus claimed, in points), ``standard_error``, ``standard_errors`` and ``margin`` as
        ``ClaimVerdict`` has them; ``verdict``: its ``outcome``, or ``OTHER`` with neither error nor margin; ``why``: a
        list of what differs and what must be known.
    """
    table = []
    for row in rows:
        claim = claim_beside(row, claims)
        if claim is not None and row["accuracy"] is not None:
            table.append(_row(row, claim))
    return table


def _row(row: Row, claim: Claim) -> Row:
    found = check_claim(list(row["accuracies"].values()), claim_of(claim.accuracy, claim.std, claim.networks))
    preset = [f"preset {row['preset']}, not the paper's recipe"] if _scaled_down(row) else []
    other = [*other_conditions(claim, row), *preset]
    return {
        **{key: row[key] for key in _OF_ROW},
        "measured": row["accuracy"],
        "ci_low": row["ci_low"],
        "ci_high": row["ci_high"],
        "claimed": claim.accuracy,
        "claimed_std": claim.std,
        "claimed_networks": claim.networks,
        "claimed_protocol": claim.protocol,
        "paper": claim.paper,
        "source": claim.source,
        "difference": found.difference,
        "standard_error": None if other else found.standard_error,
        "standard_errors": None if other else found.standard_errors,
        "margin": None if other else found.margin,
        "verdict": OTHER if other else found.outcome,
        "why": [*other, *best_of_several(claim), *([] if other else _known(found, row)), *filter(None, [claim.note])],
    }


def _known(found: ClaimVerdict, row: Row) -> list[str]:
    pretrained = row["preset"] not in (None, PAPER) and has_papers_values(row["preset"])
    return [
        *found.assumptions,
        *(["one set: the error is of its evaluation only"] if found.sets == 1 else []),
        *([f"preset {row['preset']}: other pretrained networks than the paper's"] if pretrained else []),
    ]


def other_conditions(claim: Claim, row: Row) -> list[str]:
    """In what something was measured otherwise than a claim was, in words: not to be compared then.

    The networks are compared by themselves, so that it is the same protocol with another network.

    Args:
        claim: the claim.
        row: of a board, or what of its keys says how something was measured: ``dataset``, ``ipc``, ``protocol``,
            ``network``, ``labels``, ``pixel_space`` and ``strict``.

    Returns:
        An entry for each difference.
    """
    network, protocol = row["network"], row["protocol"]
    data = [] if claim.is_of(row["dataset"]) else [f"on {claim.dataset}"]
    rules = [] if without_network(protocol) == without_network(claim.protocol) else [f"under {claim.protocol}"]
    unlike = [f"of {each}" for each in mismatches(claim, network, row["labels"], row["pixel_space"])]
    same_kind = network_kind(claim.network) == network_kind(network)
    if same_kind and _depth_and_width(claim.network) != _depth_and_width(network):
        unlike.append(f"of {claim.network}")
    if claim.ipc != row["ipc"]:
        unlike.append(f"of the whole set, ipc {claim.ipc}, and this is ipc {row['ipc']} of it")
    strict = ["classes and the protocol's rate in place of the set's own"] if row["strict"] else []
    return [*(f"the claim is {each}" for each in (*data, *rules, *unlike)), *strict]


def _depth_and_width(network: str) -> list[str]:
    return re.findall(r"[DW]\d+", network) if network.startswith("ConvNet") else []


def _scaled_down(row: Row) -> bool:
    """Whether a set was made by other values than the paper's; what has no preset was not made here."""
    preset, method = row["preset"], row["method"]
    if preset is None or preset.startswith("set "):
        return False
    if BY_HAND in preset:
        return True
    if has_papers_values(preset):
        return False
    if method not in list_recipes() or preset not in (recipe := load_recipe(method)).presets:
        return True
    given, papers = (recipe.resolve(row["dataset"], row["ipc"], name, {}) for name in (preset, "paper"))
    return given != papers


def best_of_several(claim: Claim) -> list[str]:
    """Whether a claim is the best of several measurements, in words: one entry, or none."""
    return [f"the claim is the {each}" for each in differences(claim, None, None)]
