"""measure: a set otherwise than by one accuracy."""

import time
from typing import Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, protocol_named, show, show_json
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import UsageError, unknown
from distill_bench.evaluation import protocol_for, score_folder
from distill_bench.evaluation.measures import Transfer, shown, transfer
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.run_info import run_block

_MEASURES = ("transfer",)


def measure_command(
    file: options.SetName,
    what: Annotated[str, typer.Argument(help=", ".join(_MEASURES))],
    protocol: options.Protocol = None,
    labels: options.Labels = "stored",
    network: Annotated[list[str] | None, typer.Option("--network", help="Instead of all networks; repeatable.")] = None,
    networks: options.Networks = None,
    dataset: options.TestDataset = None,
    size: options.Size = None,
    holdout: options.Holdout = None,
    split: options.Split = None,
    allow_leak: options.AllowLeak = False,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a set otherwise than by one accuracy. transfer: its accuracy on every network."""
    if what not in _MEASURES:
        raise UsageError(unknown("measure", what, _MEASURES))
    options.choice("--labels", labels, options.LABEL_USES)
    place = resolve_device(device)
    distilled = load_distilled(options.set_file(file))
    data = options.dataset_of_set(distilled, dataset, size, holdout, split, flip_invariant, classes)
    protocol_for(distilled, protocol)
    monitor, began = options.listening_monitor(quiet), time.monotonic()
    settings: dict[str, Any] = {"device": device, "monitor": monitor, "cache": score_folder()}
    result = transfer(distilled, data, protocol, network or (), networks, labels, allow_leak=allow_leak, **settings)  # type: ignore[arg-type]
    if as_json:
        show_json(result.model_dump(mode="json") | {"run": run_block(time.monotonic() - began, place)})
    else:
        show(*_transfer_table(result, distilled))


def _transfer_table(result: Transfer, distilled: DistilledSet) -> list[str]:
    first = result.scores[0]
    lines = [
        f"{first.method} on {first.dataset}, {first.budget}, {protocol_named(first, distilled)}, labels {first.labels}",
        "",
    ]
    lines += ["| network | accuracy (%) | networks |", "| :-- | --: | --: |"]
    lines += [f"| {s.network} | {shown(s)} | {s.networks} |" for s in result.scores]
    if result.mean_of_others is not None:
        measured = result.home in [score.network for score in result.scores]
        mean = f"mean without {result.home}" if measured else "mean"
        lines.append(f"| {mean} | {result.mean_of_others:.1f} | |")
    if any(score.networks > 1 for score in result.scores):
        lines += ["", "± is half of the 95 % Student-t interval over the networks trained on the set."]
    lines += ["", result.about_home, *notes_shown(result.notes)]
    return [*lines, *(f"left out {name}: {reason}" for name, reason in result.left_out.items())]
