"""What is claimed for a set, in words."""

import statistics
from collections.abc import Sequence

from distill_bench.benchmark.leaderboard import published
from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.distilled.distilled_set import DistilledSet
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
        spread = "" if claim.std is None else f" ± {claim.std:g}"
        note = f"; {claim.note}" if claim.note else ""
        return (
            f"claimed: {claim.accuracy:g}{spread} % ({claim.paper}, protocol {claim.protocol}, {claim.network}, "
            f"{claim.labels} labels, {claim.selection.replace('-', ' ')}; {claim.source}, {claim.reading}{note})"
        )
    if isinstance(entry.claim, InlineClaim):
        spread = "" if entry.claim.std is None else f" ± {entry.claim.std:g}"
        trained = f", {entry.claim.networks} networks" if entry.claim.networks else ""
        return f"claimed: {entry.claim.accuracy:g}{spread} % ({entry.claim.source}{trained})"
    return "claimed: nothing"


def listed_claim(entry: Entry, named: CsvClaim) -> Claim:
    """The line of ``published.csv`` that an entry names. Raises ValueError unless it is exactly one."""
    wanted = named.model_dump(exclude_none=True) | entry.model_dump(include={"method", "dataset", "ipc"})
    matching = [
        claim
        for claim in published()
        if claim.size in (None, entry.size) and claim.model_dump(include=set(wanted)) == wanted
    ]
    (claim,) = matching
    return claim


def describe_stored(distilled: DistilledSet) -> str | None:
    """The accuracies that a release brought along, in percent: of all its sets, and of this one. None without any.

    Experiments follow one another in a file, so that those of set k are the k-th part.
    """
    origin, lines = distilled.card.origin, []
    if origin is None or not origin.stored_accuracies:
        return None
    for network, values in origin.stored_accuracies.items():
        if not values:
            continue
        each = len(values) // origin.sets
        text = f"{network} {_spread(values)}"
        if origin.sets > 1:
            text += f" of {origin.sets} sets"
            if each * origin.sets == len(values):
                text += f"; of this one {_spread(values[each * origin.set_index :][:each])}"
        lines.append(text)
    return "stored in the release: " + ("; ".join(lines) or "no accuracies")


def _spread(values: Sequence[float]) -> str:
    mean, count = 100 * statistics.fmean(values), len(values)
    spread = f" ± {100 * statistics.pstdev(values):.2f}" if count > 1 else ""
    return f"{mean:.2f}{spread} ({counted(count, 'network')})"
