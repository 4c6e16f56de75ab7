"""What networks are trained on: a set, as its labels and the protocol's augmentation have it, or the whole split."""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from distill_bench.augmentations import dc, dsa, views
from distill_bench.datasets import Dataset
from distill_bench.distilled.card import TARGETS, Card
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import Playback, stored_projector, stored_teacher
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.distilled.replay import IN_TURN
from distill_bench.errors import UsageError
from distill_bench.evaluation.labels import (
    balanced_batches,
    both,
    cut_batches,
    distance_batches,
    mixed_batches,
    recorded_batches,
    softened,
    teacher_labelled,
)
from distill_bench.evaluation.protocol import PROBE, WITHOUT_AUGMENTATION, Protocol, members
from distill_bench.evaluation.result import LabelUse
from distill_bench.evaluation.setup import EvalSetup
from distill_bench.runtime.device import take
from distill_bench.training.train import Augment, BatchFn, Plan, table_batches


@dataclass(frozen=True)
class TrainInputs:
    """What networks are trained on.

    Attributes:
        batches: of images and targets.
        count: of the images of an epoch.
        plan: how they are trained.
        labels: what is learned of an image.
        outputs: of a network, where it is pre-trained by targets of so many features; 0: one a class.
        source: the sum of the set that it is pre-trained on.
        line: which line is probed, where there is no set.
    """

    batches: BatchFn
    count: int
    plan: Plan
    labels: LabelUse
    outputs: int = 0
    source: str = ""
    line: str = ""


def check_labels(distilled: DistilledSet, rules: Protocol, labels: str) -> None:
    """Check that a protocol can train on a set's labels.

    Args:
        distilled: the set.
        rules: the protocol.
        labels: ``"stored"`` or ``"hard"``, as for ``evaluate``.

    Raises:
        UsageError: it cannot.
    """
    kind, rules = _kind(distilled, labels), rules.for_dataset(distilled.card.source.name)
    if rules.images_per_class and kind in ("recorded", "distances"):
        raise UsageError(
            f"{rules.id} takes {rules.images_per_class} images of every class a step, and labels here are of recorded "
            "batches. Name another protocol, `protocol=standard-v1`; or take the classes of its images for labels, "
            "`labels=hard`."
        )
    if rules.probe is not None and kind != "targets":
        raise UsageError(
            f"{rules.id} pre-trains networks by targets, features of every image, and labels here are of the kind "
            f"{kind!r}. Name a protocol that trains on labels, `protocol=standard-v1`; sets of targets are made by "
            "random-targets and krr-st."
        )
    if rules.probe is None and kind == "targets":
        features, classes = distilled.stored[TARGETS].shape[1], len(distilled.card.class_names)
        raise UsageError(
            f"the set has targets, {features} features an image to pre-train a network by, and {rules.id} trains "
            f"on labels of {classes} classes. Name a protocol that pre-trains, of {', '.join(members(PROBE))}; or take "
            "the classes of its images for labels, `labels=hard`."
        )


def _kind(distilled: DistilledSet, labels: str) -> str:
    return "hard" if labels == "hard" else distilled.card.trained_kind


def train_inputs(distilled: DistilledSet, setup: EvalSetup, labels: str) -> TrainInputs:
    """What networks are trained on of a set.

    Args:
        distilled: the set, whose labels the protocol can train on (``check_labels``).
        setup: the evaluation.
        labels: ``"stored"`` or ``"hard"``, as for ``evaluate``.

    Returns:
        Its images and labels, augmented and mixed as the protocol says.
    """
    card, shown, kind = distilled.card, distilled.shown(setup.dataset), _kind(distilled, labels)
    pixels, own, classes = shown.images.to(setup.device), shown.labels.to(setup.device), len(card.class_names)
    plan, alpha = _plan(distilled, setup.rules, labels, len(pixels)), _alpha(card, kind)
    inputs = partial(TrainInputs, count=len(pixels), plan=plan)
    augmented = partial(_augmented, pixels=pixels, own=shown.labels, classes=classes, setup=setup)
    if kind == "hard":
        return inputs(augmented(own), labels="hard")
    if kind == "targets":
        targets = distilled.stored[TARGETS].to(setup.device)
        batches = table_batches(partial(take, pixels), targets)
        return inputs(batches, labels="targets", outputs=targets.shape[1], source=distilled.sha256)
    if kind == "teacher":
        teacher = stored_teacher(distilled).to(setup.device)
        return inputs(teacher_labelled(augmented(own), teacher, card.temperature, alpha), labels="teacher")
    if kind == "projector":
        projector = stored_projector(distilled).to(setup.device)
        return inputs(teacher_labelled(augmented(own), projector, card.temperature, alpha), labels="projector")
    if kind == "distances":
        batches = distance_batches(RecordedLabels.stored(distilled.stored, classes), pixels, own)
        return inputs(batches, labels="teacher")
    if kind == "recorded":
        recording = RecordedLabels.stored(distilled.stored, classes)
        playback = Playback(pixels, recording, card.temperature, card.replay or IN_TURN)
        return inputs(recorded_batches(playback, augmented(own), own, classes, alpha), labels="teacher")
    late = kind == "logits" and setup.rules.augmentation == "views" and setup.rules.mixed == "logits"
    assert shown.soft_labels is not None
    targets = _targets(shown.soft_labels, card, late).to(setup.device)
    batches = augmented(targets if alpha == 1 else both(targets, own))
    return inputs(softened(batches, card.temperature, alpha) if late else batches, labels="soft")


def _alpha(card: Card, kind: str) -> float:
    """The weight of the labels beside that of the classes."""
    return 1.0 if kind == "hard" else card.alpha


def _plan(distilled: DistilledSet, rules: Protocol, labels: str, shown: int) -> Plan:
    """How networks are trained on a set.

    Args:
        distilled, labels: as for ``train_inputs``.
        rules: the protocol.
        shown: how many images there are once they are decoded.
    """
    card, kind = distilled.card, _kind(distilled, labels)
    plan = rules.plan(
        distilled.budget_count,
        distilled.learning_rate if labels == "stored" else None,
        1.0 if kind == "hard" else card.temperature,
        len(card.class_names),
        shown,
    )
    return replace(
        plan,
        alpha=_alpha(card, kind),
        distance_weight=card.distance_weight if kind == "distances" else 0.0,
    )


def _augmented(targets: Tensor, pixels: Tensor, own: Tensor, classes: int, setup: EvalSetup) -> BatchFn:
    """Batches of a set's images, augmented and mixed by the protocol.

    Args:
        targets: classes, probabilities, logits or both, see ``mixed_batches``.
        pixels: the images.
        own: the class of every image, on the CPU.
        classes: how many there are.
        setup: the evaluation.
    """
    rules, load = setup.rules, partial(take, pixels)
    if rules.augmentation == "views":
        batches = mixed_batches(load, targets, classes, rules.views, setup.dataset.flip_invariant)
    else:
        batches = table_batches(load, targets, augmentation_of(rules, setup.dataset))
    if rules.augmentation == "dsa" and rules.cutmix:
        batches = cut_batches(batches, classes, rules.cutmix)
    if rules.images_per_class:
        batches = balanced_batches(batches, own, rules.images_per_class, rules.classes_per_step)
    return batches


def _targets(soft: Tensor, card: Card, late: bool) -> Tensor:
    """What cross-entropy is of: probabilities, or weights as they are; or logits that become probabilities later."""
    soft = soft.float()
    return (soft / card.temperature).softmax(dim=1) if card.label_kind == "logits" and not late else soft


def whole_split(setup: EvalSetup) -> TrainInputs:
    """The training split, as networks are trained on it in an evaluation."""
    split = setup.dataset.train
    load, targets = setup.transform.fetch(split, setup.device), split.labels.to(setup.device)
    batches = table_batches(load, targets, augmentation_of(setup.rules, setup.dataset))
    return TrainInputs(batches, len(split), setup.rules.plan(len(split)), "hard")


def unlabelled(images: int, line: str) -> TrainInputs:
    """A line that is probed: what its networks have learned, they have learned elsewhere.

    Args:
        images: of the training split.
        line: its name.

    Returns:
        No images, and a plan of one epoch.
    """
    batches = table_batches(partial(take, torch.empty(0)), torch.empty(0))
    return TrainInputs(batches, images, Plan(epochs=1, batch_size=1, learning_rate=0.0), "none", line=line)


def augmentation_of(rules: Protocol, dataset: Dataset) -> Augment | None:
    """What a protocol does to every batch of images of a dataset.

    Args:
        rules: the protocol.
        dataset: the dataset.

    Returns:
        The augmentation; None where there is none.

    Raises:
        UsageError: the protocol only mirrors images, and of the dataset a mirrored one may not keep its label; or it
            cuts them into tiles that do not divide them.
    """
    if rules.augmentation == "dc":
        return lambda images, draws: dc.augment(images, rules.dc_operations, draws)
    if rules.augmentation == "views":
        _, height, width = dataset.train.shape
        if height % rules.views.tiles or width % rules.views.tiles:
            raise UsageError(
                f"{rules.id} cuts images into {rules.views.tiles} tiles a side, and {dataset.name} has images of "
                f"{height}×{width} pixels: give a size that it divides, or another protocol."
            )
        return views.augmentation(rules.views, dataset.flip_invariant)
    if rules.augmentation == "none":
        return None
    among = rules.dsa_operations or dsa.OPERATIONS
    if not dsa.usual_operations(dataset.flip_invariant, among):
        raise UsageError(
            f"{rules.id} mirrors images and does nothing else to them; of {dataset.name} a mirrored one may not keep "
            f"its label. Name another protocol, or {rules.id}{WITHOUT_AUGMENTATION}."
        )
    mirror = dataset.flip_invariant
    always_flip, several = mirror and rules.dsa_rule == "always-flip", rules.dsa_rule == "several"
    return dsa.augmentation(mirror, always_flip, among, several)
