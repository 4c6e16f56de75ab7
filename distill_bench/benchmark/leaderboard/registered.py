"""What the registry claims for the published sets that results are of."""

import statistics
from collections.abc import Sequence
from typing import Any

from distill_bench.benchmark.leaderboard.claims import Claim, network_kind, published
from distill_bench.distilled.card import Origin
from distill_bench.errors import DataError
from distill_bench.evaluation import Result
from distill_bench.hub.registry.registry import BUILT_IN, CsvClaim, Entry, InlineClaim, load_registry, read_registry
from distill_bench.runtime.log import log

EntriesByFiles = dict[frozenset[str], Entry]


def entries_by_files() -> EntriesByFiles:
    """The registry's entries whose files' sums are known, by these; the package's alone where one's own cannot be read.

    A board needs no registry, so that a warning in the log is all.
    """
    try:
        registry = load_registry()
    except DataError as error:
        log.warning("claims of your registry are left out: %s", error)
        registry = read_registry(BUILT_IN)
    sums = {name: [file.sha256 for file in entry.files] for name, entry in registry.items()}
    return {frozenset(filter(None, sums[name])): entry for name, entry in registry.items() if all(sums[name])}


def entry_of(result: Result, entries: EntriesByFiles) -> Entry | None:
    """The entry whose very files a result's set came from, or whose file it is; None where there is none."""
    files = result.origin.files.values() if result.origin else [result.set_sha256 or ""]
    return entries.get(frozenset(files))


def registered_claim(entry: Entry, results: Sequence[Result]) -> Claim | None:
    """What is claimed for a published set, in the one form; what it does not say is as it was measured.

    Args:
        entry: of the registry.
        results: of its sets, under one protocol.

    Returns:
        The claim; None where nothing is claimed, or nothing for the network that was measured.

    Raises:
        DataError: the entry names no line of ``published.csv``, or several.
    """
    if isinstance(entry.claim, CsvClaim):
        return listed_claim(entry, entry.claim)
    if isinstance(entry.claim, InlineClaim):
        says: dict[str, Any] | None = entry.claim.model_dump(exclude_none=True)
    else:
        says = _stored_figure(entry, results) if entry.claim == "stored" else None
    if says is None:
        return None
    first = results[0]
    of_set = entry.model_dump(include={"method", "dataset", "size", "ipc", "protocol"}) | {"paper": entry.paper or ""}
    unsaid = {"std": None, "networks": None, "norm": "unknown", "pixels": "unknown", "selection": "unknown"}
    unsaid |= {"network": first.network, "labels": first.labels, "reading": "first-hand", "note": ""}
    if data := says.pop("data", None):
        of_set |= {"dataset": data, "size": None}
    # not validated: a registry of one's own may name labels or networks that nothing here has, and differs then
    return Claim.model_construct(**{**of_set, **unsaid, **says})


def listed_claim(entry: Entry, named: CsvClaim) -> Claim:
    """The line of ``published.csv`` that an entry names. Raises DataError unless it is exactly one."""
    wanted = named.model_dump(exclude_none=True) | entry.model_dump(include={"method", "dataset", "ipc"})
    matching = [
        claim
        for claim in published()
        if claim.size in (None, entry.size) and claim.model_dump(include=set(wanted)) == wanted
    ]
    if len(matching) != 1:
        told = ", ".join(f"{key} {value}" for key, value in wanted.items() if value is not None)
        raise DataError(
            f"the registry's claim ({told}) names {len(matching)} lines of published.csv, and one is wanted."
        )
    return matching[0]


def _stored_figure(entry: Entry, results: Sequence[Result]) -> dict[str, Any] | None:
    """The accuracy that a release brought along, of all its sets or of the one evaluated; None without any."""
    origin, source = results[0].origin, {"source": "stored in the release"}
    if origin is None:
        return None
    if not origin.stored_accuracies and entry.stored is not None and len(results) == origin.sets:
        return entry.stored.model_dump() | source
    kinds = {network_kind(name): values for name, values in origin.stored_accuracies.items()}
    values: Sequence[float] = kinds.get(network_kind(results[0].network), ())
    if len(results) < origin.sets:
        values = of_set(origin, values) or values
    if not values:
        return None
    std = 100 * statistics.pstdev(values) if len(values) > 1 else None
    return {"accuracy": 100 * statistics.fmean(values), "std": std, "networks": len(values)} | source


def of_set(origin: Origin, values: Sequence[float]) -> Sequence[float]:
    """Those of one set: experiments follow one another in a file. None where they do not divide evenly."""
    each, rest = divmod(len(values), origin.sets)
    return () if rest else values[each * origin.set_index :][:each]
