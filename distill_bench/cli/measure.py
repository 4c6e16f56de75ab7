"""measure: a set otherwise than by one accuracy."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from distill_bench.benchmark.beside import random_beside
from distill_bench.cli import options
from distill_bench.cli.measured import continual_lines, nas_lines, privacy_lines, robust_lines, transfer_lines
from distill_bench.cli.output import show, show_json
from distill_bench.datasets import Dataset
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import UsageError, unknown
from distill_bench.evaluation import protocol_for, score_folder
from distill_bench.evaluation.measures import ars, continual, lrs, nas, privacy, transfer
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.run_info import run_block


@dataclass(frozen=True)
class Request:
    """What a measure is asked for.

    Attributes:
        given: options that were given, by their names.
        shared: what all measures take: protocol, device, monitor, allow_leak.
    """

    distilled: DistilledSet
    data: Dataset
    given: dict[str, Any]
    shared: dict[str, Any]

    @property
    def cached(self) -> dict[str, Any]:
        """``shared``, with the folder of tested networks."""
        return self.shared | {"cache": score_folder()}

    def of(self, *names: str) -> dict[str, Any]:
        """Those options of these names that were given; of several networks the only one."""
        chosen = {name: self.given[name] for name in names if name in self.given}
        if "network" in chosen:
            (chosen["network"],) = chosen["network"]
        return chosen

    def random_set(self, labels: str = "stored") -> DistilledSet:
        """The random images beside the set: those that were given, or new ones."""
        if "random" in self.given:
            return load_distilled(options.set_file(self.given["random"]))
        place: dict[str, Any] = {name: self.shared[name] for name in ("device", "monitor")}
        return random_beside(self.distilled, self.data, labels, **place)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Measure:
    """One of the measures.

    Attributes:
        run: makes it.
        lines: shows it.
        takes: the options that it takes besides those that all take.
        many: whether it takes several networks.
    """

    run: Callable[[Request], BaseModel]
    lines: Callable[[Any, DistilledSet], list[str]]
    takes: frozenset[str]
    many: bool = False


def _transfer(asked: Request) -> BaseModel:
    names = asked.given.get("network", ())
    return transfer(asked.distilled, asked.data, names=names, **asked.of("networks", "labels"), **asked.cached)


def _continual(asked: Request) -> BaseModel:
    chosen = asked.of("network", "networks", "steps", "orders")
    return continual(asked.distilled, asked.data, **chosen, **asked.cached)


def _nas(asked: Request) -> BaseModel:
    names = tuple(asked.given.get("network", ()))
    return nas(asked.distilled, asked.data, names=names, **asked.of("networks", "labels"), **asked.cached)


def _lrs(asked: Request) -> BaseModel:
    chosen = asked.of("network", "networks")
    return lrs(asked.distilled, asked.random_set(), asked.data, **chosen, **asked.cached)


def _ars(asked: Request) -> BaseModel:
    """With classes for labels where they are recorded, unless told otherwise."""
    usual = "hard" if asked.distilled.card.label_kind == "recorded" else "stored"
    labels = asked.given.get("labels", usual)
    chosen = asked.of("network", "networks") | {"labels": labels}
    return ars(asked.distilled, asked.random_set(labels), asked.data, **chosen, **asked.cached)


def _privacy(asked: Request) -> BaseModel:
    return privacy(asked.distilled, asked.data, **asked.of("network", "networks", "labels"), **asked.shared)


_ONE, _USUAL = frozenset({"network", "networks"}), frozenset({"labels", "network", "networks"})
MEASURES = {
    "transfer": Measure(_transfer, transfer_lines, _USUAL, many=True),
    "continual": Measure(_continual, continual_lines, _ONE | {"steps", "orders"}),
    "nas": Measure(_nas, nas_lines, _USUAL, many=True),
    "lrs": Measure(_lrs, robust_lines, _ONE | {"random"}),
    "ars": Measure(_ars, robust_lines, _USUAL | {"random"}),
    "privacy": Measure(_privacy, privacy_lines, _USUAL),
}


def measure_command(
    file: options.SetName,
    what: Annotated[str, typer.Argument(help=", ".join(MEASURES))],
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
    asked = {"labels": labels, "network": network, "networks": networks, "steps": steps, "orders": orders}
    given = {name: value for name, value in (asked | {"random": random}).items() if value is not None}
    measure = _measure(what, given)
    options.choice("--labels", labels, options.LABEL_USES)
    place = resolve_device(device)
    distilled = load_distilled(options.set_file(file))
    data = options.dataset_of_set(distilled, dataset, size, holdout, split, flip_invariant, classes)
    protocol_for(distilled, protocol)
    monitor: Monitor = options.listening_monitor(quiet)
    began = time.monotonic()
    shared = {"protocol": protocol, "device": device, "monitor": monitor, "allow_leak": allow_leak}
    result = measure.run(Request(distilled, data, given, shared))
    if as_json:
        show_json(result.model_dump(mode="json") | {"run": run_block(time.monotonic() - began, place)})
    else:
        show(*measure.lines(result, distilled))


def _measure(what: str, given: dict[str, Any]) -> Measure:
    """The measure of a name; UsageError where there is none, or where an option would not be used."""
    if what not in MEASURES:
        raise UsageError(unknown("measure", what, MEASURES))
    measure = MEASURES[what]
    for name in given.keys() - measure.takes:
        others = ", ".join(other for other, each in MEASURES.items() if name in each.takes)
        raise UsageError(f"--{name} is not for {what}, but for {others}.")
    if not measure.many and len(given.get("network", ())) > 1:
        raise UsageError(f"{what} trains one network: give --network once.")
    return measure
