"""What is claimed for a set, in words."""

import statistics

from distill_bench.distilled_set import DistilledSet
from distill_bench.hub.registry import Entry, Listed, Stated
from distill_bench.leaderboard.claims import Claim, load_claims
from distill_bench.package_data import package_data


def claimed(entry: Entry, made: DistilledSet | None = None) -> str:
    """The claim for a published set, in percent.

    Args:
        made: the set, which may have the claim in its file.
    """
    if entry.claim == "stored":
        has = made is not None and made.card.origin is not None and made.card.origin.stored_accuracies
        return stored_accuracies(made) if made is not None and has else "claimed: the accuracies stored in its file"
    if isinstance(entry.claim, Listed):
        claim = listed_claim(entry, entry.claim)
        spread = "" if claim.std is None else f" ± {claim.std:g}"
        note = f"; {claim.note}" if claim.note else ""
        return (
            f"claimed: {claim.accuracy:g}{spread} % ({claim.paper}, protocol {claim.protocol}, {claim.network}, "
            f"{claim.labels} labels, {claim.selection.replace('-', ' ')}; {claim.source}, {claim.reading}{note})"
        )
    if isinstance(entry.claim, Stated):
        spread = "" if entry.claim.std is None else f" ± {entry.claim.std:g}"
        trained = f", {entry.claim.networks} networks" if entry.claim.networks else ""
        return f"claimed: {entry.claim.accuracy:g}{spread} % ({entry.claim.source}{trained})"
    return "claimed: nothing"


def listed_claim(entry: Entry, named: Listed) -> Claim:
    """The line of ``published.csv`` that an entry names. Raises ValueError unless it is exactly one."""
    wanted = named.model_dump(exclude_none=True) | entry.model_dump(include={"method", "dataset", "ipc"})
    found = [
        claim
        for claim in load_claims(package_data("baselines/published.csv"))
        if claim.size in (None, entry.size) and claim.model_dump(include=set(wanted)) == wanted
    ]
    (claim,) = found
    return claim


def stored_accuracies(made: DistilledSet) -> str:
    """The accuracies that a release brought along, in percent."""
    assert made.card.origin is not None
    return "stored in the release: " + "; ".join(
        f"{network} {100 * statistics.fmean(values):.2f} ± {100 * statistics.pstdev(values):.2f} "
        f"({len(values)} networks, {made.card.origin.sets} sets)"
        for network, values in made.card.origin.stored_accuracies.items()
        if values
    )
