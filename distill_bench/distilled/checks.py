"""Whether a set's tensors, labels and card go together: what no file may break."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from distill_bench.distilled import compensators
from distill_bench.distilled.card import INDICES, TARGETS, TEACHER_PREFIX, LabelKind
from distill_bench.distilled.formation import formation_trouble
from distill_bench.distilled.projector import PREFIX as PROJECTOR_PREFIX
from distill_bench.distilled.projector import check_projector
from distill_bench.distilled.recorded_labels import PREFIX as RECORDED_PREFIX
from distill_bench.distilled.recorded_labels import RECORDED_KINDS, RecordedLabels
from distill_bench.errors import DataError

if TYPE_CHECKING:
    from distill_bench.distilled.distilled_set import DistilledSet  # which imports this

_WITHOUT_SOFT_LABELS = ("hard", "teacher", *RECORDED_KINDS, "targets", "projector")
_PROBABILITY_TOLERANCE = 1e-3
_SOFT_TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_STORED_PREFIXES = (RECORDED_PREFIX, TEACHER_PREFIX, PROJECTOR_PREFIX, INDICES, TARGETS, compensators.PREFIX)


def check(distilled: "DistilledSet") -> None:
    """Raises DataError unless a set's tensors are such as its card describes, and finite."""
    _check_images(distilled)
    _check_stored(distilled)
    _check_soft_labels(distilled)
    _check_prefixes(distilled)
    rate = distilled.learning_rate
    if rate is not None and not 0 < rate < float("inf"):
        raise DataError(f"the learning rate is {rate}; it must be positive and finite.")
    if len(distilled.card.pixel_space.mean) != (channels := distilled.images.shape[1]):
        raise DataError(f"the pixel space has {len(distilled.card.pixel_space.mean)} channels, images {channels}.")
    _check_formation(distilled)
    _check_budget(distilled)


def _check_budget(distilled: "DistilledSet") -> None:
    """Images that an IPC does not hold would stand on boards as so few; of fewer, some classes have less."""
    card, count = distilled.card, len(distilled.images)
    if card.fraction is None and count > card.ipc * len(card.class_names):
        raise DataError(
            f"ipc is {card.ipc}: {card.ipc * len(card.class_names)} images of {len(card.class_names)} classes, and "
            f"{count} are here. Give the number of images per class."
        )


def _check_images(distilled: "DistilledSet") -> None:
    images, labels, classes = distilled.images, distilled.labels, len(distilled.card.class_names)
    if images.dtype not in (torch.float32, torch.float16, torch.uint8) or images.ndim != 4 or not images.numel():
        raise DataError(
            f"images are {images.dtype} of shape {tuple(images.shape)}; they must be float32, float16 or uint8 of "
            "shape (number, channels, height, width)."
        )
    if images.is_floating_point() and not images.isfinite().all():
        raise DataError(f"{int((~images.isfinite()).sum())} image values are NaN or infinite; all must be finite.")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(f"labels are {labels.dtype} {tuple(labels.shape)}; they must be int64 ({len(images)},).")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"labels run from {labels.min()} to {labels.max()}; {classes} classes allow 0 to {classes - 1}."
        )


def _check_soft_labels(distilled: "DistilledSet") -> None:
    soft, kind = distilled.soft_labels, distilled.card.label_kind
    if (soft is None) != (kind in _WITHOUT_SOFT_LABELS):
        raise DataError(f"label_kind is {kind!r}, soft labels: {'no' if soft is None else 'yes'}.")
    if soft is None:
        return
    wanted = (len(distilled.images) * compensators.forms(distilled), len(distilled.card.class_names))
    if soft.shape != wanted or soft.dtype not in _SOFT_TYPES or not soft.isfinite().all():
        raise DataError(f"soft labels are {soft.dtype} {tuple(soft.shape)}; they must be finite floats {wanted}.")
    if kind == "probabilities":
        worst = float((soft.double().sum(dim=1) - 1).abs().max())
        if soft.min() < 0 or worst > _PROBABILITY_TOLERANCE:
            raise DataError(
                f"soft labels are said to be probabilities; the least is {float(soft.min()):.4g}, and a row's sum is "
                f"{worst:.4g} away from 1. They must be 0 or more and sum to 1; logits have label_kind 'logits', and "
                "targets of any sum 'weights'."
            )
    if kind == "weights" and (soft.min() < 0 or soft.max() == 0):
        raise DataError(
            f"soft labels are said to be weights, and go from {float(soft.min()):.4g} to {float(soft.max()):.4g}. They "
            "must be 0 or more, and not all 0; logits have label_kind 'logits'."
        )


def _check_formation(distilled: "DistilledSet") -> None:
    factor, (height, width) = distilled.card.formation, distilled.images.shape[2:]
    if trouble := formation_trouble(factor, height, width, distilled.card.pixel_space):
        raise DataError(f"formation is {factor}, but {trouble}.")
    of_whole = [name for name in (INDICES, TARGETS) if name in distilled.stored]
    of_whole += ["recorded labels"] if distilled.card.label_kind in RECORDED_KINDS else []
    if factor > 1 and of_whole:
        raise DataError(f"formation is {factor}; {of_whole[0]} belong to whole images, for which it is 1.")


def _check_prefixes(distilled: "DistilledSet") -> None:
    prefixes, ipc = distilled.card.prefixes, distilled.card.ipc
    if prefixes and (list(prefixes) != sorted(set(prefixes)) or prefixes[-1] >= ipc or distilled.stored):
        raise DataError(
            f"prefixes are {prefixes}; they must rise, and be below the images per class ({ipc}), of a set without "
            "stored tensors."
        )


def _check_stored(distilled: "DistilledSet") -> None:
    kind, name = distilled.card.label_kind, distilled.card.teacher
    unknown = [tensor for tensor in distilled.stored if not tensor.startswith(_STORED_PREFIXES)]
    if unknown:
        raise DataError(
            f"unknown tensors {', '.join(unknown)}; further ones start with {' or '.join(_STORED_PREFIXES)}"
        )
    if kind == "teacher" and (name is None or not any(each.startswith(TEACHER_PREFIX) for each in distilled.stored)):
        raise DataError("label_kind is 'teacher': the card must name the teacher's network, and its tensors be stored.")
    if (indices := distilled.stored.get(INDICES)) is not None:
        _check_indices(indices, len(distilled.images))
    _check_targets(distilled.stored.get(TARGETS), kind, len(distilled.images))
    compensators.check_compensators(distilled)
    if kind == "projector":
        card = distilled.card
        check_projector(distilled.stored, card.projector, card.requires, len(card.class_names))
    if kind == "distances" and distilled.card.alpha != 1:
        raise DataError(
            f"alpha is {distilled.card.alpha:g}, and label_kind 'distances', which stand beside whole classes: their "
            "weight is distance_weight, and alpha 1."
        )
    if (rule := distilled.card.replay) is not None:
        rule.check(distilled.images, kind, distilled.card.temperature)
    if kind in RECORDED_KINDS:
        count, _, height, width = distilled.images.shape
        recording = RecordedLabels.stored(distilled.stored, len(distilled.card.class_names))
        recording.check(count, height, width, kind, rule)


def _check_targets(targets: Tensor | None, kind: LabelKind, count: int) -> None:
    if (targets is None) != (kind != "targets"):
        has = "is missing" if targets is None else "is stored"
        raise DataError(f"label_kind is {kind!r} and the tensor {TARGETS} {has}: a set has both, or neither.")
    if targets is None:
        return
    if targets.dtype != torch.float32 or targets.ndim != 2 or len(targets) != count or not targets.numel():
        raise DataError(
            f"{TARGETS} are {targets.dtype} {tuple(targets.shape)}; they must be float32 ({count}, features)."
        )
    if not targets.isfinite().all():
        raise DataError(f"{int((~targets.isfinite()).sum())} values of {TARGETS} are NaN or infinite.")


def _check_indices(indices: Tensor, count: int) -> None:
    if indices.dtype != torch.int32 or indices.shape != (count,):
        raise DataError(f"{INDICES} are {indices.dtype} {tuple(indices.shape)}; they must be int32 ({count},).")
    if indices.min() < 0 or len(indices.unique()) < count:
        raise DataError(f"{INDICES}: they must be 0 or more, and each that of another training image.")
