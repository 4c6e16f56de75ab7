"""verify: repeat a claim."""

from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, show, show_json
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import UsageError
from distill_bench.evaluation import Result
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
        Path, typer.Argument(help="What is claimed of it: a .json of evaluate --json, or a line of a .jsonl of bench.")
    ],
    networks: options.Networks = None,
    dataset: options.TestDataset = None,
    allow_leak: options.AllowLeak = False,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    registry: options.Registry = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Evaluate a set once more as a result says it was, and say whether the result holds: exit code 0, or 4 if not."""
    resolve_device(device)
    cached = options.downloaded(file, registry)
    alone = None if result.suffix == LINES else read_result(result)
    path = _of_claim(cached, alone) if cached else Path(file)
    distilled = load_distilled(path)
    claimed = alone or _only(read_results_of(result, path), result)
    check_belongs(claimed, result, distilled, path)
    split = "test" if claimed.holdout is None else None
    data = options.dataset_of_set(distilled, dataset, claimed.size, claimed.holdout, split, flip_invariant, classes)
    if threads := threads_to_repeat(claimed):
        torch.set_num_threads(threads)  # sums are ordered by it
    settings: dict[str, Any] = {"device": device, "monitor": options.listening_monitor(quiet), "allow_leak": allow_leak}
    verdict = verify(distilled, claimed, data, networks, path=result, **settings)
    if as_json:
        show_json(verdict.model_dump(mode="json"))
    else:
        show(*_answer(verdict))
    if not verdict.holds:
        raise typer.Exit(_DOES_NOT_HOLD)


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
    ipc = f", ipc {verdict.ipc}" if verdict.ipc else ""
    counts = len(verdict.claimed_accuracies), len(verdict.accuracies)
    outcome = "holds" if verdict.holds else "undecided" if verdict.basis == "undecided" else "does not hold"
    return [
        f"{outcome}: {verdict.method} on {verdict.dataset}{ipc}, protocol {verdict.protocol}, network "
        f"{verdict.network}, labels {verdict.labels}",
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
