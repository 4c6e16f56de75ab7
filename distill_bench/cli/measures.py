"""The measures as the command makes them, and how they are shown: in Markdown, ± for half of the 95 % interval."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from distill_bench.benchmark.beside import random_beside
from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, protocol_named
from distill_bench.datasets import Dataset
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.recorded_labels import RECORDED_KINDS
from distill_bench.evaluation import score_folder
from distill_bench.evaluation.compare import with_half_width
from distill_bench.evaluation.measures import (
    ArchitectureSearch,
    Continual,
    Estimated,
    Measured,
    Privacy,
    RobustScore,
    Transfer,
    ars,
    continual,
    lrs,
    nas,
    privacy,
    shown,
    transfer,
)
from distill_bench.runtime.text import counted

_NEVER = "no interval"


def transfer_lines(result: Transfer, distilled: DistilledSet) -> list[str]:
    """A network a row."""
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
    return [*lines, *left_out_lines(result.left_out)]


def continual_lines(result: Continual, distilled: DistilledSet) -> list[str]:
    """A step a row."""
    rows = zip(result.classes_seen, result.steps, strict=True)
    table = [f"| {number} | {seen} | {percent(step)} |" for number, (seen, step) in enumerate(rows, start=1)]
    orders = len(result.class_orders)
    return [
        *_head(result, result.network),
        "| step | classes seen | accuracy over them (%) |",
        "| --: | --: | --: |",
        *table,
        f"| mean | | {percent(result.average)} |",
        "",
        f"Class orders: {orders}, networks a step of an order: {result.networks}. {_over('class orders', orders)}",
        *notes_shown(result.notes),
    ]


def nas_lines(result: ArchitectureSearch, distilled: DistilledSet) -> list[str]:
    """A network a row, then the correlation."""
    found = result.correlation
    interval = _NEVER if found.ci_low is None else f"95 % interval {found.ci_low:.2f} to {found.ci_high:.2f}"
    said = "none: an accuracy is the same for all" if found.value is None else f"{found.value:.2f} ({interval})"
    return [
        *_head(result),
        f"| network | on the set (%) | on the whole split, {result.reference} (%) |",
        "| :-- | --: | --: |",
        *(f"| {each.network} | {each.on_set:.1f} | {each.on_whole:.1f} |" for each in result.candidates),
        "",
        f"Spearman's rank correlation over {len(result.candidates)} networks: {said}.",
        "The interval is Fisher's z: of which networks these are, not of how each was trained.",
        f"The set puts {result.chosen.network} first, which has {result.chosen.on_whole:.1f} % on the whole split; the "
        f"best has {result.best.on_whole:.1f} %, {result.best.network}.",
        *notes_shown(result.notes),
        *left_out_lines(result.left_out),
    ]


def robust_lines(result: RobustScore, distilled: DistilledSet) -> list[str]:
    """The score, its two parts, and the accuracies they are differences of."""
    networks = len(result.gains)
    names = {"IOR": "improvement over random (IOR)", "HLR": "hard label recovery (HLR)"}
    score = result.score
    ends = "" if score.ci_low is None else f", 95 % interval {score.ci_low:.3f} to {score.ci_high:.3f}"
    means = {name: Estimated.mean(values, 0, 100) for name, values in result.accuracies.items()}
    return [
        *_head(result, result.network),
        f"{result.kind.upper()} {score.value:.3f}{ends}, of 0 to 1; no gain at all is 0.269",
        "",
        "| of it, as fractions | |",
        "| :-- | --: |",
        *(f"| {names.get(name, f'over random, {name}')} | {fraction(part)} |" for name, part in result.parts.items()),
        "",
        "| trained on | accuracy (%) |",
        "| :-- | --: |",
        *(f"| {name} | {percent(mean)} |" for name, mean in means.items()),
        "",
        _over("networks", networks),
        *notes_shown(result.notes),
    ]


def privacy_lines(result: Privacy, distilled: DistilledSet) -> list[str]:
    """Distances, then losses."""
    near, membership = result.nearest, result.membership
    return [
        *_head(result, result.network),
        "| to the nearest training image, RMS of pixels in 0 … 1 | median | least |",
        "| :-- | --: | --: |",
        f"| {len(near.distances)} distilled images | {near.median:.4f} | {min(near.distances):.4f} |",
        f"| {len(near.reference)} test images | {near.reference_median:.4f} | {min(near.reference):.4f} |",
        "",
        f"{near.copies} are training images in 8 bits; {near.nearer:.0%} are nearer to one than 19 in 20 test images.",
        "",
        f"| loss after training on the set, of {counted(result.networks, 'network')} | mean (nats) |",
        "| :-- | --: |",
        f"| {membership.members} training images | {membership.member_loss:.4f} |",
        f"| {membership.others} test images | {membership.other_loss:.4f} |",
        "",
        f"Membership by loss: area under the ROC curve {fraction(membership.area)}, where 0.5 tells nothing; "
        "± is half of DeLong's 95 % interval over images.",
        *notes_shown(result.notes),
    ]


def left_out_lines(left_out: dict[str, str]) -> list[str]:
    """A line a network without a score."""
    return [f"left out {name}: {reason}" for name, reason in left_out.items()]


def percent(estimate: Estimated) -> str:
    """A percentage with half of its interval."""
    assert estimate.value is not None
    return with_half_width(estimate.value, estimate.half_width)


def fraction(estimate: Estimated) -> str:
    """A fraction with half of its interval."""
    value = "–" if estimate.value is None else f"{estimate.value:.3f}".replace("-", "−")
    return value if estimate.half_width is None else f"{value} ± {estimate.half_width:.3f}"


def _head(result: Measured, network: str | None = None) -> Iterable[str]:
    return (result.about + (f", network {network}" if network else ""), "")


def _over(what: str, count: int) -> str:
    if count < 2:
        return f"One of the {what}: no interval."
    return f"± is half of the 95 % Student-t interval over {count} {what}."


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
    """

    run: Callable[[Request], BaseModel]
    lines: Callable[[Any, DistilledSet], list[str]]


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
    usual = "hard" if asked.distilled.card.label_kind in RECORDED_KINDS else "stored"
    labels = asked.given.get("labels", usual)
    chosen = asked.of("network", "networks") | {"labels": labels}
    return ars(asked.distilled, asked.random_set(labels), asked.data, **chosen, **asked.cached)


def _privacy(asked: Request) -> BaseModel:
    return privacy(asked.distilled, asked.data, **asked.of("network", "networks", "labels"), **asked.shared)


MEASURES = {
    "transfer": Measure(_transfer, transfer_lines),
    "continual": Measure(_continual, continual_lines),
    "nas": Measure(_nas, nas_lines),
    "lrs": Measure(_lrs, robust_lines),
    "ars": Measure(_ars, robust_lines),
    "privacy": Measure(_privacy, privacy_lines),
}
