"""What is claimed for a set, and whether it holds, in words."""

import statistics
from collections.abc import Sequence

from distill_bench.benchmark.leaderboard.claimed import best_of_several, other_conditions
from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.benchmark.leaderboard.registered import listed_claim, of_set, registered_claim
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation import Result
from distill_bench.evaluation.claim import Claimed, ClaimVerdict, check_claim
from distill_bench.hub.registry.registry import CsvClaim, Entry, InlineClaim
from distill_bench.runtime.text import counted


def claimed(entry: Entry, distilled: DistilledSet | None = None) -> str:
    """The claim for a published set, in percent.

    Args:
        entry: of the registry.
        distilled: the set, which may have the claim in its file.

    Returns:
        One line or more.
    """
    if entry.claim == "stored":
        stored = None if distilled is None else describe_stored(distilled)
        return stored or "claimed: the accuracies stored in its file"
    if isinstance(entry.claim, CsvClaim):
        claim = listed_claim(entry, entry.claim)
        note = f"; {claim.note}" if claim.note else ""
        return (
            f"claimed: {_figure(claim)} ({claim.paper}, protocol {claim.protocol}, "
            f"{claim.network}, {claim.labels} labels, {claim.selection.replace('-', ' ')}; {claim.source}, "
            f"{claim.reading}{note})"
        )
    if isinstance(entry.claim, InlineClaim):
        return f"claimed: {_figure(entry.claim)} ({entry.claim.source})"
    return "claimed: nothing"


def _figure(claim: Claim | InlineClaim) -> Claimed:
    return Claimed(accuracy=claim.accuracy, std=claim.std, networks=claim.networks)


def judged(entry: Entry, results: Sequence[Result]) -> list[str]:
    """Whether the claim for a published set holds, in words.

    Args:
        entry: of the registry.
        results: of its sets, under one protocol.

    Returns:
        The lines; none where nothing is claimed.
    """
    first = results[0]
    claim = registered_claim(entry, results)
    if claim is None:
        return []
    measured = first.model_dump(include={"ipc", "protocol", "network", "labels", "pixel_space", "strict"})
    if other := other_conditions(claim, {"dataset": first.data, **measured}):
        return [f"no verdict: {'; '.join(other)}"]
    verdict = check_claim([result.accuracies for result in results], _figure(claim))
    return verdict_lines(verdict, best_of_several(claim))


def verdict_lines(verdict: ClaimVerdict, notes: Sequence[str] = ()) -> list[str]:
    """A verdict in words: outcome, both sides, the difference with its standard errors, and what was assumed.

    Args:
        verdict: of ``check_claim``.
        notes: what else must be known.

    Returns:
        The lines.
    """
    trained = counted(verdict.networks, "network") + (f" of {verdict.sets} sets" if verdict.sets > 1 else " of one set")
    lines = [f"{verdict.outcome}: claimed {verdict.claimed}; measured {verdict.measured:.2f} % ({trained})"]
    apart = f"apart by {verdict.difference:+.2f} points"
    if verdict.margin is None or verdict.standard_errors is None:
        lines.append(f"{apart}; there is no standard error of it: train more with --networks")
    else:
        few = ", too much to tell: train more with --networks" if verdict.outcome == "not resolved" else ""
        lines.append(
            f"{apart}, {abs(verdict.standard_errors):.1f} standard errors of {verdict.standard_error:.2f}; chance "
            f"explains up to {verdict.margin:.2f} (95 %){few}"
        )
    return [*lines, *(f"note: {note}" for note in (*notes, *verdict.assumptions))]


def describe_stored(distilled: DistilledSet) -> str | None:
    """The accuracies that a release brought along, in percent: of all its sets, and of this one. None without any."""
    origin, lines = distilled.card.origin, []
    if origin is None or not origin.stored_accuracies:
        return None
    for network, values in origin.stored_accuracies.items():
        if not values:
            continue
        text = f"{network} {_spread(values)}"
        if origin.sets > 1:
            text += f" of {origin.sets} sets"
            if own := of_set(origin, values):
                text += f"; of this one {_spread(own)}"
        lines.append(text)
    return "stored in the release: " + ("; ".join(lines) or "no accuracies")


def _spread(values: Sequence[float]) -> str:
    mean, count = 100 * statistics.fmean(values), len(values)
    spread = f", std {100 * statistics.pstdev(values):.2f}" if count > 1 else ""
    return f"{mean:.2f}{spread} ({counted(count, 'network')})"
