"""verify: repeat a result, or put a claimed accuracy to the test."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from distill_bench.cli import options
from distill_bench.cli.claims import verdict_lines
from distill_bench.cli.output import notes_shown, peak_line, show, show_json
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import UsageError
from distill_bench.evaluation import Result, evaluate, protocol_for, score_folder
from distill_bench.evaluation.claim import Claimed, ClaimVerdict, check_claim, claim_of
from distill_bench.evaluation.memory import evaluation_bytes
from distill_bench.hub.formats.result_file import LINES, check_belongs, read_result, read_results_of
from distill_bench.hub.registry.published import CachedSet
from distill_bench.hub.verify import CONFIDENCE, Verdict, threads_to_repeat, verify
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.text import counted

_DOES_NOT_HOLD = 4


def verify_command(
    file: options.SetName,
    result: Annotated[
        Path | None,
        typer.Argument(help="What is claimed of it: a .json of evaluate --json, or a line of a .jsonl of bench."),
    ] = None,
    claim: Annotated[
        float | None, typer.Option("--claim", help="Instead of a result: the accuracy that is claimed, in percent.")
    ] = None,
    std: Annotated[
        float | None, typer.Option("--std", help="Of --claim: the standard deviation over its networks, in points.")
    ] = None,
    claimed_networks: Annotated[
        int | None,
        typer.Option("--claimed-networks", help="Of --claim: how many networks; as many as --networks unless given."),
    ] = None,
    networks: options.Networks = None,
    protocol: options.Protocol = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Of --claim: stored (unless given) or hard.")] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Of --claim: the network, if not the protocol's.")
    ] = None,
    dataset: options.TestDataset = None,
    allow_leak: options.AllowLeak = False,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    registry: options.Registry = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a set once more, and say whether a result, or a claimed accuracy, holds: exit code 0, or 4 if not."""
    of_claim: dict[str, Any] = {"claim": claim, "std": std, "claimed_networks": claimed_networks}
    of_claim |= {"protocol": protocol, "labels": labels, "network": network}
    _check_one_claim(result, of_claim)
    resolve_device(device)
    own = {"dataset": dataset, "flip": flip_invariant, "classes": classes}
    settings: dict[str, Any] = {"device": device, "allow_leak": allow_leak}
    settings |= {"monitor": options.listening_monitor(quiet)}
    if claim is not None:
        figure = claim_of(claim, std, networks if claimed_networks is None else claimed_networks)
        settings |= {"protocol": protocol, "labels": labels or "stored", "network": network, "networks": networks}
        holds = _verify_figure(options.set_files(file, registry), figure, own, settings, as_json)
    else:
        assert result is not None
        holds = _verify_result(file, result, registry, networks, own, settings, as_json)
    if not holds:
        raise typer.Exit(_DOES_NOT_HOLD)


def _check_one_claim(result: Path | None, of_claim: dict[str, Any]) -> None:
    """Raise UsageError unless there is a result or a claimed accuracy, and nothing that would not be used."""
    if result is None and of_claim["claim"] is None:
        raise UsageError("what is claimed? Give a result, as evaluate --json writes it, or an accuracy: --claim 66.8.")
    given = [f"--{name.replace('_', '-')} {value}" for name, value in of_claim.items() if value is not None]
    if result is not None and given:
        raise UsageError(
            f"{', '.join(given)}: the result {result} says what is claimed, and how it was found. Give one."
        )


def _verify_figure(
    paths: Sequence[Path], figure: Claimed, own: dict[str, Any], settings: dict[str, Any], as_json: bool
) -> bool:
    """Hold a claimed accuracy against the sets that it is of; says whether it holds."""
    options.choice("--labels", settings["labels"], options.LABEL_USES)
    sets = [load_distilled(path) for path in paths]
    data = options.dataset_of_set(sets[0], **own)
    rules, images = protocol_for(sets[0], settings["protocol"]), len(sets[0].images)
    settings["monitor"].say(peak_line(evaluation_bytes(data, rules.id, images, settings["network"])))
    results = [evaluate(distilled, data, cache=score_folder(), **settings) for distilled in sets]
    verdict = check_claim([result.accuracies for result in results], figure)
    if as_json:
        show_json(_as_json(verdict, results))
    else:
        outcome, *reasons = verdict_lines(verdict)
        notes = dict.fromkeys(note for result in results for note in result.notes)
        show(outcome, _subject(results[0], results[0].data), *reasons, *notes_shown(notes))
    return verdict.outcome == "holds"


def _as_json(verdict: ClaimVerdict, results: Sequence[Result]) -> dict[str, Any]:
    claimed, first = verdict.claimed, results[0]
    return {
        "holds": verdict.outcome == "holds",
        **verdict.model_dump(mode="json"),
        "claimed": claimed.accuracy,
        "claimed_std": claimed.std,
        "claimed_networks": claimed.networks,
        "accuracies": [result.accuracies for result in results],
        "notes": [*dict.fromkeys(note for result in results for note in result.notes)],
        "dataset": first.data,
        **first.model_dump(include={"method", "ipc", "fraction", "protocol", "network", "labels"}),
        "set_sha256": [result.set_sha256 for result in results],
    }


def _subject(of: Result | Verdict, data: str) -> str:
    budget = f", {of.budget}" if of.budget else ""
    return f"{of.method} on {data}{budget}, protocol {of.protocol}, network {of.network}, labels {of.labels}"


def _verify_result(
    file: str,
    result: Path,
    registry: Path | None,
    networks: int | None,
    own: dict[str, Any],
    settings: dict[str, Any],
    as_json: bool,
) -> bool:
    """Repeat a result; says whether it holds."""
    cached = options.downloaded(file, registry)
    alone = None if result.suffix == LINES else read_result(result)
    path = _of_claim(cached, alone) if cached else Path(file)
    distilled = load_distilled(path)
    claimed = alone or _only(read_results_of(result, path), result)
    check_belongs(claimed, result, distilled, path)
    split = "test" if claimed.holdout is None else None
    data = options.dataset_of_set(distilled, size=claimed.size, holdout=claimed.holdout, split=split, **own)
    if threads := threads_to_repeat(claimed):
        torch.set_num_threads(threads)  # sums are ordered by it
    verdict = verify(distilled, claimed, data, networks, path=result, **settings)
    if as_json:
        show_json(verdict.model_dump(mode="json"))
    else:
        show(*_answer(verdict))
    return verdict.holds


def _of_claim(cached: CachedSet, claimed: Result | None) -> Path:
    """The file of a published set: of several independent ones that which the claim is of."""
    fitting = (path for path in cached.paths if claimed and sha256_of(path) == claimed.set_sha256)
    return next(fitting, cached.paths[0])


def _only(claims: list[Result], path: Path) -> Result:
    if len(claims) > 1:
        kinds = ", ".join(f"{each.protocol}{' strict' * each.strict} on {each.network}" for each in claims)
        raise UsageError(
            f"{path} has {len(claims)} results of this set ({kinds}): give the line of one as a .json file."
        )
    return claims[0]


def _answer(verdict: Verdict) -> list[str]:
    counts = len(verdict.claimed_accuracies), len(verdict.accuracies)
    outcome = "holds" if verdict.holds else "undecided" if verdict.basis == "undecided" else "does not hold"
    return [
        f"{outcome}: {_subject(verdict, verdict.dataset)}",
        f"claimed {verdict.claimed:.2f} % ({counted(counts[0], 'network')}), measured {verdict.measured:.2f} % "
        f"({counted(counts[1], 'network')})",
        *_reason(verdict),
        *notes_shown(verdict.notes),
    ]


def _reason(verdict: Verdict) -> list[str]:
    shared = min(len(verdict.claimed_accuracies), len(verdict.accuracies))
    untested = len(verdict.claimed_accuracies) - shared
    fewer = f" Not trained: the claim's other {counted(untested, 'network')}." if untested else ""
    if verdict.basis == "equal":
        return [f"{counted(shared, 'network')} with exactly the claimed accuracy.{fewer}"]
    if verdict.basis == "unequal":
        return [
            "versions, threads and processor are those of the claim, which gives every accuracy to the last digit; "
            f"claimed {_list(verdict.claimed_accuracies)}, measured {_list(verdict.accuracies)}.{fewer}"
        ]
    margin = "" if verdict.margin is None else f"; chance explains up to {verdict.margin:.2f} ({CONFIDENCE:.0%})"
    few = ", too much to tell: train more with --networks" if verdict.basis == "undecided" else ""
    return [
        f"apart by {verdict.difference:+.2f} points{margin}{few}.{fewer}",
        "The same digits are not to be expected; other than in the claim, or not recorded there: "
        f"{', '.join(verdict.unlike)}.",
    ]


def _list(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
