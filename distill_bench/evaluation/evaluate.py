"""The fixed evaluator: trains freshly initialised networks on a set, the same way whatever made the set."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy
import torch
from torch import Tensor, nn

from distill_bench.augmentations import dc, dsa, views
from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.datasets.pixel_space import PixelSpace, Transform, pixel_space_of
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset
from distill_bench.distilled.playback import Playback, stored_teacher
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.errors import RunFailed, UsageError, first_line, is_out_of_memory
from distill_bench.evaluation.cache import NOTHING_KEPT, Kept
from distill_bench.evaluation.doubts import notes_of
from distill_bench.evaluation.labels import mixing, taught
from distill_bench.evaluation.protocol import PROTOCOLS, Protocol, load_protocol
from distill_bench.evaluation.result import LabelUse, Result, data_facts
from distill_bench.evaluation.statistics import student_interval
from distill_bench.networks import build_network, resolve_network
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.progress import SILENT, Monitor, stopped
from distill_bench.runtime.seeds import generator
from distill_bench.training import compilation
from distill_bench.training.train import Augment, Fetch, Lesson, Plan, accuracy, train

WITHOUT_LEARNED_RATE = (
    " The rate is the set's own. Its images can be evaluated with the protocol's rate and hard labels: --labels hard."
)


@dataclass(frozen=True)
class Material:
    """What networks are trained on."""

    fetch: Fetch
    targets: Tensor
    plan: Plan
    labels: LabelUse
    lesson: Lesson | None = None


def evaluate(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    compile: compilation.Choice = "auto",
    monitor: Monitor = SILENT,
    kept: Kept = NOTHING_KEPT,
    allow_leak: bool = False,
) -> Result:
    """Train networks on a distilled set and test them on its source's test split.

    Args:
        dataset: where to test; the one on the set's card unless given.
        protocol: an id, see ``PROTOCOLS``; the one on the set's card unless given.
        network: instead of the protocol's.
        networks: how many, instead of the protocol's usual number. Network k is the same for every set.
        labels: ``"stored"`` uses soft labels and a learned rate where the set has them; ``"hard"`` is the strict
            evaluation with classes and the protocol's own rate.
        kept: where tested networks are kept, such as ``KeptNetworks(score_key(…))``; nowhere unless given.
        compile: ``"on"``, ``"off"``, or ``"auto"``: where that pays (see ``runs_compiled``).
        allow_leak: whether a set may be tested on images that it was made from; the result's notes say it then.

    Raises:
        UsageError: unknown names, a set that does not fit the source, or one made from its test images.
        RunFailed: a network's training diverged.
        Interrupted: the monitor was asked to stop; ``kept`` has all networks that were tested.
    """
    if labels not in ("stored", "hard"):
        raise UsageError(f"--labels {labels!r}: give stored or hard.")
    rules, card = protocol_for(distilled, protocol), distilled.card
    dataset = dataset or dataset_of(card.source)
    check_same_dataset(distilled, dataset)
    notes = notes_of(distilled, dataset, rules.id, allow_leak)
    flops = network_flops(dataset, rules.id, len(distilled.images), network)
    exam = exam_of(dataset, rules, card.pixel_space, network, networks, device, monitor, compile, flops)
    material = _material(distilled, exam, labels)
    accuracies = exam.accuracies(material, card.method, kept)
    return Result(
        method=card.method,
        ipc=card.ipc,
        preset=card.preset,
        seed=card.seed,
        strict=labels == "hard" and distilled.has_strict_score,
        bytes=distilled.nbytes,
        set_sha256=distilled.sha256,
        origin=card.origin,
        recipe=card.recipe or None,
        notes=notes,
        **exam.findings(material, accuracies),
    )


def protocol_for(distilled: DistilledSet, protocol: str | None = None) -> Protocol:
    """The protocol a set is evaluated under: the one on its card unless another is named.

    Raises:
        UsageError: there is none of that id, or it is not for distilled sets.
    """
    if protocol is None and distilled.card.protocol not in PROTOCOLS:
        raise UsageError(
            f"the set's card names the protocol {distilled.card.protocol!r}, which this version does not have: name "
            f"one to evaluate it under, --protocol {', '.join(PROTOCOLS)}."
        )
    rules = load_protocol(distilled.card.protocol if protocol is None else protocol)
    if rules.trains_on == "full":
        raise UsageError(
            f"{rules.id} scores a whole training split, not a distilled set: name another protocol for the set, or "
            "leave the set out and name the --dataset (in Python: use evaluate_full)."
        )
    return rules


def evaluate_full(
    dataset: Dataset,
    protocol: str = "full-v1",
    network: str | None = None,
    networks: int | None = None,
    *,
    device: str = "auto",
    compile: compilation.Choice = "auto",
    monitor: Monitor = SILENT,
    kept: Kept = NOTHING_KEPT,
) -> Result:
    """The reference line: networks trained on the whole training split. Arguments and errors as ``evaluate``."""
    rules = load_protocol(protocol)
    if rules.trains_on != "full":
        raise UsageError(f"{protocol} scores distilled sets; full-v1 scores a whole training split.")
    space, flops = pixel_space_of(dataset, "normalized"), network_flops(dataset, protocol, len(dataset.train), network)
    exam = exam_of(dataset, rules, space, network, networks, device, monitor, compile, flops)
    split = dataset.train
    fetch, targets = exam.transform.fetch(split, exam.device), split.labels.to(exam.device)
    material = Material(fetch, targets, exam.rules.plan(len(split)), "hard")
    accuracies = exam.accuracies(material, "full", kept)
    return Result(
        method="full",
        ipc=None,
        seed=0,
        bytes=len(split) * (torch.Size(split.shape).numel() + split.labels.element_size()),
        set_sha256=None,
        notes=dataset.notes,
        **exam.findings(material, accuracies),
    )


def network_flops(dataset: Dataset, protocol: str, images: int, network: str | None = None) -> float:
    """Floating-point operations to train one network of a protocol on so many images, and to test it."""
    rules = load_protocol(protocol).for_dataset(dataset.name)
    shape, classes = dataset.train.shape, len(dataset.class_names)
    built = build_network(rules.network if network is None else network, shape, classes, generator("flops"))
    return compilation.training_flops(built, shape, rules.plan(images).epochs * images, len(dataset.test))


def runs_compiled(
    dataset: Dataset, protocol: str, images: int, network: str | None = None, *, device: str = "auto", compile: str
) -> bool:
    """What ``evaluate`` makes of its argument ``compile``: the same for every number of networks.

    Compiled and eager networks differ in the last bits, so that this is settled before the first one and kept.
    """
    return compilation.decide(compile, resolve_device(device), network_flops(dataset, protocol, images, network))


@dataclass(frozen=True)
class Exam:
    """Everything of an evaluation but what is trained on: equal for all sets of one table."""

    dataset: Dataset
    rules: Protocol
    space: PixelSpace
    transform: Transform
    network: str
    count: int
    device: torch.device
    monitor: Monitor
    compiled: bool

    def accuracies(self, material: Material, method: str, kept: Kept) -> list[float]:
        """Train and test the networks, but for those that are kept or that another process is at."""
        test = self.transform.fetch(self.dataset.test, self.device)
        labels = self.dataset.test.labels.to(self.device)
        found, waiting, epochs = dict[int, float](), list(range(self.count)), material.plan.epochs
        seen = {index for index in kept.tested if index < self.count}
        title = f"evaluate {method}, {self.rules.id}, {self.network}"
        with self.monitor.stage(title, self.count * epochs, len(seen) * epochs) as stage:

            def tick() -> None:
                stage.advance()
                if self.monitor.stop_requested:
                    raise stopped(f"{len(found)} of {self.count} networks tested")

            def tested(index: int) -> float:
                seen.add(index)
                try:
                    return accuracy(self.train_network(index, material, tick), test, labels, compiled=self.compiled)
                except RunFailed as error:
                    raise self._diverged(index, material, error) from error
                except (MemoryError, RuntimeError) as error:
                    if is_out_of_memory(error):
                        raise self._out_of_memory(index, material, error) from error
                    raise

            while waiting:
                index = kept.take(waiting)
                found[index] = kept.obtain(index, partial(tested, index), self.monitor)
                stage.advance(0 if index in seen else epochs)
                stage.note(f"accuracy {found[index]:.1f} %")
        return [found[index] for index in range(self.count)]

    def train_network(self, index: int, material: Material, after_epoch: Callable[[], None]) -> nn.Module:
        """Network ``index``, trained. Its seeds are the same for every set, so that sets are compared in pairs."""
        seeds = (self.dataset.kind, self.rules.id, index)
        shape, classes = self.dataset.train.shape, len(self.dataset.class_names)
        network = build_network(self.network, shape, classes, generator(*seeds, "weights")).to(self.device)
        augment, draws = _augmentation(self.rules, self.dataset), generator(*seeds, "training")
        told = (network, material.fetch, material.targets, material.plan, draws, augment, after_epoch)
        train(*told, lesson=material.lesson, compiled=self.compiled)
        return network

    def _diverged(self, index: int, material: Material, error: RunFailed) -> RunFailed:
        learned = material.plan.learning_rate != self.rules.learning_rate
        return RunFailed(f"network {index}: {error}{WITHOUT_LEARNED_RATE if learned else ''}")

    def _out_of_memory(self, index: int, material: Material, error: BaseException) -> RunFailed:
        return RunFailed(
            f"network {index}: ran out of memory ({first_line(error)}). Batches of {material.plan.batch_size} images "
            f"and the network {self.network} are the protocol's: take more memory. Run fewer cells at a time (--jobs), "
            "on another device (--device), or another network (--network)."
        )

    def findings(self, material: Material, accuracies: list[float]) -> dict[str, Any]:
        """The fields of a result that do not depend on the set's card."""
        low, high = student_interval(accuracies)
        return {
            **data_facts(self.dataset),
            "protocol": self.rules.id,
            "network": self.network,
            "labels": material.labels,
            "learning_rate": material.plan.learning_rate,
            "pixel_space": self.space.kind,
            "accuracy": float(numpy.mean(accuracies)),
            "std": float(numpy.std(accuracies)),
            "ci_low": low,
            "ci_high": high,
            "accuracies": tuple(accuracies),
            "networks": len(accuracies),
            "train_fingerprint": self.dataset.train.fingerprint,
            "test_fingerprint": self.dataset.test.fingerprint,
        }


def exam_of(
    dataset: Dataset,
    rules: Protocol,
    space: PixelSpace,
    network: str | None = None,
    networks: int | None = None,
    device: str = "auto",
    monitor: Monitor = SILENT,
    compile: compilation.Choice = "off",
    flops: float = 0.0,
) -> Exam:
    """Everything of an evaluation but what is trained on. One network takes ``flops``, see ``compilation.decide``.

    Raises:
        UsageError: unknown names, or no networks.
    """
    rules = rules.for_dataset(dataset.name)
    count = rules.networks if networks is None else networks
    if count < 1:
        raise UsageError(f"--networks {count}: at least one network must be trained.")
    place = resolve_device(device)
    return Exam(
        dataset=dataset,
        rules=rules,
        space=space,
        transform=Transform(space, dataset.train),
        network=resolve_network(rules.network if network is None else network, dataset.train.shape),
        count=count,
        device=place,
        monitor=monitor,
        compiled=compilation.decide(compile, place, flops),
    )


def _material(distilled: DistilledSet, exam: Exam, labels: str) -> Material:
    card, images, device = distilled.card, distilled.images, exam.device
    rules, classes, mirror = exam.rules, len(card.class_names), exam.dataset.flip_invariant
    pixels = (exam.transform.encode(images) if images.dtype == torch.uint8 else images.float()).to(device)
    kind = "hard" if labels == "hard" else card.label_kind
    plan = rules.plan(
        len(images),
        distilled.learning_rate if labels == "stored" else None,
        1.0 if kind == "hard" else card.temperature,
        classes,
    )
    hard, fetch = distilled.labels.to(device), pixels.__getitem__
    if kind == "teacher":
        teacher = stored_teacher(distilled).to(device)
        lesson = taught(fetch, _augmentation(rules, exam.dataset), teacher, card.temperature)
        return Material(fetch, hard, plan, "teacher", lesson)
    if kind == "recorded":
        playback = Playback(pixels, RecordedLabels.stored(distilled.stored, classes), card.temperature)
        return Material(fetch, hard, plan, "teacher", lambda epoch, indices, draws: playback(epoch, indices))
    targets = hard if kind == "hard" else _probabilities(distilled).to(device)
    mixed = mixing(fetch, targets, classes, rules.views, mirror) if rules.augmentation == "views" else None
    return Material(fetch, targets, plan, "hard" if kind == "hard" else "soft", mixed)


def _probabilities(distilled: DistilledSet) -> Tensor:
    assert distilled.soft_labels is not None
    soft, card = distilled.soft_labels.float(), distilled.card
    return (soft / card.temperature).softmax(dim=1) if card.label_kind == "logits" else soft


def _augmentation(rules: Protocol, dataset: Dataset) -> Augment | None:
    if rules.augmentation == "dc":
        return lambda images, draws: dc.augment(images, rules.dc_operations, draws)
    if rules.augmentation == "views":
        return views.augmentation(rules.views, dataset.flip_invariant)
    return dsa.augmentation(dataset.flip_invariant) if rules.augmentation == "dsa" else None
