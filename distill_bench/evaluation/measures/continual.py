"""Class-incremental learning: classes arrive in steps, and the distilled images of those seen are all that is kept.

Source: Zhao & Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023), section 4.3, after Prabhu, Torr &
Dokania, "GDumb" (ECCV 2020): after every step a new network is trained from scratch on the memory.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import torch
from pydantic import computed_field

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset
from distill_bench.errors import UsageError
from distill_bench.evaluation import Result, evaluate, protocol_for
from distill_bench.evaluation.measures.measured import Estimated, Measured, check_whole, epochs_of, facts_of, one_stage
from distill_bench.evaluation.setup import MOST_NETWORKS
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.seeds import generator

STEPS = 5
ORDERS = 5


class Continual(Measured):
    """Accuracy over the classes seen after every step.

    Attributes:
        network: that was trained.
        networks: how many a step of an order.
        classes_seen: after every step.
        accuracies: by order and step, in percent of the test images of the classes seen; means over networks.
        class_orders: labels in the order in which they arrived.
    """

    kind: Literal["continual"] = "continual"
    network: str
    networks: int
    classes_seen: tuple[int, ...]
    class_orders: tuple[tuple[int, ...], ...]
    accuracies: tuple[tuple[float, ...], ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def steps(self) -> tuple[Estimated, ...]:
        """Of every step the mean over orders, in percent, with Student's 95 % interval over them."""
        return tuple(Estimated.mean(values, 0, 100) for values in zip(*self.accuracies, strict=True))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def average(self) -> Estimated:
        """The mean over steps, in percent, with Student's 95 % interval over orders."""
        return Estimated.mean([fmean(order) for order in self.accuracies], 0, 100)


@dataclass(frozen=True)
class _Setting:
    """What all steps have in common."""

    distilled: DistilledSet
    dataset: Dataset
    protocol: str
    network: str | None
    options: dict[str, Any]

    def score(self, labels: list[int], numbers: range, monitor: Monitor) -> Result:
        """Networks of these numbers, trained on the images of some classes and tested on these classes."""
        memory, data = memory_of(self.distilled, labels), self.dataset.tested_on(labels)
        return evaluate(memory, data, self.protocol, self.network, numbers, monitor=monitor, **self.options)


def continual(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int = 1,
    *,
    steps: int = STEPS,
    orders: int = ORDERS,
    device: str = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    allow_leak: bool = False,
) -> Continual:
    """Let a set's classes arrive in steps, in several orders, and train on the images of those seen after each.

    Labels are classes and the rate is the protocol's: soft labels speak of classes that have not come yet. A network
    has an output for every class from the beginning. Order k trains networks of its own, from number k · ``networks``
    on, so that an interval over orders holds the randomness of training too.

    Args:
        distilled, dataset, protocol, network, device, monitor, cache, allow_leak: as for ``evaluate``.
        networks: how many are trained a step of an order.
        steps: into which the classes are cut, as equal as can be, the larger ones first.
        orders: how many class orders; order k is drawn from the generator of ("class order", k).

    Returns:
        The accuracies.

    Raises:
        UsageError: as ``evaluate``; or more steps than classes, or a class without images of the set or of the test.
        RunFailed: a network's training diverged.
        Interrupted: the monitor was asked to stop; the cache has all networks that were tested.
    """
    check_whole(distilled, "continual")
    rules = protocol_for(distilled, protocol)
    dataset = dataset or dataset_of(distilled.card.source)
    check_same_dataset(distilled, dataset)
    classes = len(dataset.class_names)
    _check(distilled, dataset, networks, steps, orders)
    options = {"device": device, "cache": cache, "allow_leak": allow_leak}
    setting = _Setting(distilled, dataset, rules.id, network, options)
    epochs = epochs_of(rules, dataset, distilled)
    results: list[list[Result]] = []
    with one_stage(monitor, f"continual, {distilled.card.method}", orders * steps * networks * epochs) as part:
        for index in range(orders):
            arrived = seen_after(class_order(classes, index), steps)
            numbers = range(index * networks, (index + 1) * networks)
            results.append([setting.score(seen, numbers, part) for seen in arrived])
    whole = results[0][-1]  # of which alone the set's notes are true
    return Continual(
        **facts_of(distilled, whole),
        network=whole.network,
        networks=networks,
        classes_seen=tuple(map(len, arrived)),
        class_orders=tuple(tuple(class_order(classes, index)) for index in range(orders)),
        accuracies=tuple(tuple(result.accuracy for result in order) for order in results),
    )


def class_order(classes: int, index: int) -> list[int]:
    """The labels 0 … ``classes`` - 1 in the order of that number."""
    return torch.randperm(classes, generator=generator("class order", index)).tolist()


def seen_after(order: list[int], steps: int) -> list[list[int]]:
    """The labels seen after each of so many steps, which are as equal as can be, the larger ones first.

    >>> seen_after([3, 1, 2, 0], 3)
    [[3, 1], [3, 1, 2], [3, 1, 2, 0]]
    """
    sizes = [len(order) // steps + (step < len(order) % steps) for step in range(steps)]
    return [order[: sum(sizes[: step + 1])] for step in range(steps)]


def memory_of(distilled: DistilledSet, labels: list[int]) -> DistilledSet:
    """The images of some classes of a set, in its order, with their classes for labels and no rate of their own."""
    kept = torch.isin(distilled.labels, torch.tensor(labels))
    plain = {"label_kind": "hard", "temperature": 1.0, "teacher": None, "projector": None, "requires": ()}
    card = distilled.card.model_copy(update=plain)
    return DistilledSet(distilled.images[kept], distilled.labels[kept], card)


def _check(distilled: DistilledSet, dataset: Dataset, networks: int, steps: int, orders: int) -> None:
    """Raise UsageError where classes cannot arrive so."""
    names = dataset.class_names
    if not 1 <= steps <= len(names):
        raise UsageError(f"`steps={steps}`: there are {len(names)} classes; give 1 to {len(names)} steps.")
    if orders < 1:
        raise UsageError(f"`orders={orders}`: give one class order at least.")
    if networks < 1:
        raise UsageError(f"`networks={networks}`: at least one network must be trained.")
    if orders * networks > MOST_NETWORKS:
        raise UsageError(
            f"`orders={orders}` of {networks} networks each are too many: {MOST_NETWORKS:,} networks at most."
        )
    for what, labels in (("the set", distilled.labels), (f"the test split of {dataset.name}", dataset.test.labels)):
        absent = set(range(len(names))) - set(labels.tolist())
        if absent:
            raise UsageError(
                f"{what} has no image of the class {names[min(absent)]!r}: classes can arrive one after the other "
                "where each has images."
            )
