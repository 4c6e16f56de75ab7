"""compare: whether one of two sets, or methods, is better."""

from __future__ import annotations

from statistics import fmean
from typing import Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, show, show_json

Row = dict[str, Any]


def compare_command(
    a: Annotated[str, typer.Argument(help="A distilled set, the id of a published one, or a method on a board.")],
    b: Annotated[str, typer.Argument(help="Another of the same kind.")],
    protocol: options.Protocol = None,
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3BN, ResNet18BN or ViT.")] = None,
    dataset: options.TestDataset = None,
    ipc: Annotated[int | None, typer.Option("--ipc", min=1, help="Of methods: at so many images per class.")] = None,
    fraction: Annotated[float | None, typer.Option("--fraction", help="Of methods: at this part of the data.")] = None,
    results: options.Results = None,
    labels: Annotated[str | None, typer.Option("--labels", help="Of sets: stored (unless given) or hard.")] = None,
    networks: options.Networks = None,
    allow_leak: options.AllowLeak = False,
    device: options.Device = "auto",
    registry: options.Registry = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say which of two sets, or methods, is better, by how much, and whether that is resolved.

    Sets are evaluated; of methods every condition is compared that a folder of results has both under.
    """
    from distill_bench.api.compare import compare

    options.choice("--labels", labels, options.LABEL_USES)
    how: Row = {"protocol": protocol, "network": network, "dataset": dataset, "ipc": ipc}
    how |= {"fraction": fraction, "results": results}
    how |= {"labels": labels, "networks": networks, "allow_leak": allow_leak, "device": device, "registry": registry}
    found = compare(a, b, **how, monitor=options.listening_monitor(quiet))
    if as_json:
        show_json(found)
    else:
        show(*(line for each in found for line in _described(each)))


def _described(found: Row) -> list[str]:
    from distill_bench.distilled.budget import shown
    from distill_bench.evaluation.compare import Difference

    difference = Difference.model_validate({key: found[key] for key in Difference.model_fields})
    sides = " against ".join(_accuracy(found[key]) for key in ("a", "b"))
    budget = shown(found["ipc"], found["fraction"])
    budget = f"{'IPC ' if found['ipc'] else ''}{budget}, " if budget else ""
    return [
        f"{found['verdict']} ({sides} %)",
        f"{found['dataset']}, {budget}{found['protocol']}, {found['network']}; {difference.about}",
        *notes_shown(found["notes"]),
    ]


def _accuracy(side: Row) -> str:
    from distill_bench.evaluation.compare import with_half_width
    from distill_bench.evaluation.statistics import half_width, shown_interval

    by_seed = list(side["accuracies"].values())
    mean = fmean(map(fmean, by_seed))
    return with_half_width(mean, half_width(mean, *shown_interval(by_seed)))
