"""verify: repeat a result, or put a claimed accuracy to the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.output import as_flags, notes_shown, show, show_json
from distill_bench.errors import UsageError
from distill_bench.runtime.text import counted

if TYPE_CHECKING:
    from distill_bench.evaluation import Result
    from distill_bench.evaluation.claim import ClaimVerdict
    from distill_bench.hub.verify import Verdict

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
    split: Annotated[
        str | None,
        typer.Option("--split", help="Of --claim: test; or holdout, usual for a set made with one."),
    ] = None,
    allow_leak: options.AllowLeak = False,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    registry: options.Registry = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a set once more, and say whether a result, or a claimed accuracy, holds: exit code 0, or 4 if not."""
    from distill_bench.api.released import verify, verify_claim
    from distill_bench.runtime.device import resolve_device

    of_claim: dict[str, Any] = {"claim": claim, "std": std, "claimed_networks": claimed_networks}
    of_claim |= {"protocol": protocol, "labels": labels, "network": network, "split": split}
    _check_one_claim(result, of_claim)
    resolve_device(device)
    settings: dict[str, Any] = {"dataset": dataset, "device": device, "allow_leak": allow_leak, "registry": registry}
    settings |= options.own_data(flip_invariant, classes)
    settings |= {"networks": networks, "monitor": options.listening_monitor(quiet)}
    if claim is not None:
        options.choice("--labels", labels, options.LABEL_USES)
        how: dict[str, Any] = {"protocol": protocol, "labels": labels or "stored", "network": network, "split": split}
        figure, found = verify_claim(file, claim, std, claimed_networks, **how, **settings)
        said = tuple(map(as_flags, figure.assumptions))
        holds = _show_figure(figure.model_copy(update={"assumptions": said}), found, as_json)
    else:
        assert result is not None
        verdict = verify(file, result, **settings)
        holds = verdict.holds
        if as_json:
            show_json(verdict.model_dump(mode="json"))
        else:
            show(*_answer(verdict))
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


def _show_figure(verdict: ClaimVerdict, results: Sequence[Result], as_json: bool) -> bool:
    """Show whether a claimed accuracy holds; says it too."""
    from distill_bench.cli.claims import verdict_lines

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
    from distill_bench.hub.verify import CONFIDENCE

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
