"""measure: a set otherwise than by one accuracy."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.output import show, show_json
from distill_bench.errors import UsageError, unknown

_ONE, _USUAL = ("network", "networks"), ("labels", "network", "networks")
_TAKES = {
    "transfer": _USUAL,
    "continual": (*_ONE, "steps", "orders"),
    "nas": _USUAL,
    "lrs": (*_ONE, "random"),
    "ars": (*_USUAL, "random"),
    "privacy": _USUAL,
}
"""The measures, and the options that each takes besides those that all take."""
_SEVERAL = ("transfer", "nas")
"""Those that take several networks."""


def measure_command(
    file: options.SetName,
    what: Annotated[str, typer.Argument(help=", ".join(_TAKES))],
    protocol: options.Protocol = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="stored or hard, as for evaluate; not for continual and lrs.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option("--network", help="Instead of the usual; transfer and nas: repeatable.")
    ] = None,
    networks: options.Networks = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="continual: into which the classes are cut; 5 unless given.")
    ] = None,
    orders: Annotated[
        int | None, typer.Option("--orders", min=1, help="continual: how many class orders; 5 unless given.")
    ] = None,
    random: Annotated[
        str | None,
        typer.Option("--random", help="lrs, ars: a set of random images to compare with; made unless given."),
    ] = None,
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
    """Measure a set otherwise than by one accuracy.

    transfer: its accuracy on every network.

    continual: accuracy over the classes seen, while classes arrive in steps.

    nas: whether it orders networks as the whole training split does.

    lrs, ars: DD-Ranking's label-robust and augmentation-robust scores.

    privacy: how near it comes to training images, and whether losses give them away.
    """
    from distill_bench.api.named import protocol_of
    from distill_bench.cli.measures import MEASURES, Request
    from distill_bench.distilled.distilled_set import load_distilled
    from distill_bench.evaluation import protocol_for
    from distill_bench.runtime.device import resolve_device
    from distill_bench.runtime.run_info import run_block

    asked = {"labels": labels, "network": network, "networks": networks, "steps": steps, "orders": orders}
    given = {name: value for name, value in (asked | {"random": random}).items() if value is not None}
    _check_used(what, given)
    options.choice("--labels", labels, options.LABEL_USES)
    place = resolve_device(device)
    distilled = load_distilled(options.set_file(file))
    data = options.dataset_of_set(distilled, dataset, size, holdout, split, flip_invariant, classes)
    protocol = protocol_of(file, protocol)
    protocol_for(distilled, protocol)
    monitor, began = options.listening_monitor(quiet), time.monotonic()
    shared = {"protocol": protocol, "device": device, "monitor": monitor, "allow_leak": allow_leak}
    measure = MEASURES[what]
    result = measure.run(Request(distilled, data, given, shared))
    if as_json:
        show_json(result.model_dump(mode="json") | {"run": run_block(time.monotonic() - began, place)})
    else:
        show(*measure.lines(result, distilled))


def _check_used(what: str, given: dict[str, Any]) -> None:
    """Raise UsageError where there is no such measure, or where an option would not be used."""
    if what not in _TAKES:
        raise UsageError(unknown("measure", what, _TAKES))
    for name in given:
        if name not in _TAKES[what]:
            others = ", ".join(other for other, takes in _TAKES.items() if name in takes)
            raise UsageError(f"--{name} is not for {what}, but for {others}.")
    if what not in _SEVERAL and len(given.get("network", ())) > 1:
        raise UsageError(f"{what} trains one network: give --network once.")
