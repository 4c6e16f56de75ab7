"""Compensators: images that are added to one image of every class at once, so that networks are shown it again.

Source: Zhang, Du, Liu & Zhou, "Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature
Compensator" (INFER, ICLR 2025), and zhangxin-xd/UFC 83d19f8.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from distill_bench.datasets.pixel_space import PixelSpace, Transform
from distill_bench.errors import DataError, UsageError

if TYPE_CHECKING:
    from distill_bench.distilled.distilled_set import DistilledSet  # which imports this

PREFIX = "compensator."
IMAGES = PREFIX + "images"
"""The tensor of a set that holds them: float32 [blocks, m, channels, height, width]."""
LABEL_KINDS = ("hard", "logits", "probabilities", "weights")
"""A set with compensators has these: a label of every image that is shown."""


def shown_images(
    images: Float[Tensor, "n c h w"], compensators: Float[Tensor, "b m c h w"], space: PixelSpace
) -> Float[Tensor, "s c h w"]:
    """What networks are shown: after every image itself those with its block's compensators added.

    What is added to is clipped to the pixels of pictures, [−mean / std, (1 − mean) / std] a channel in normalised
    pixels (ufc_cifar.py of zhangxin-xd/UFC 83d19f8); the images themselves are as they are.

    Args:
        images: of the set, in class order; image k of every class belongs to block k.
        compensators: for b blocks, b images a class, and m networks each.
        space: of both; not whitened.

    Returns:
        Float32, s = n (m + 1), in class order.
    """
    blocks, count = compensators.shape[:2]
    own = images.float().unflatten(0, (-1, blocks))[:, :, None]
    added = (own + compensators).flatten(0, 2)
    views = Transform(space, None).clip(added).unflatten(0, (-1, blocks, count))
    return torch.cat([own, views], dim=2).flatten(0, 2)


def forms(distilled: "DistilledSet") -> int:
    """How many images are shown of one: itself, and those that compensators make of it."""
    own = distilled.stored.get(IMAGES)
    return 1 if own is None else 1 + own.shape[1]


def check_compensators(distilled: "DistilledSet") -> None:
    """Raise DataError where a set's compensators do not go with its images, its labels or its budget."""
    tensors = {name: each for name, each in distilled.stored.items() if name.startswith(PREFIX)}
    if not tensors:
        return
    if unknown := sorted(set(tensors) - {IMAGES}):
        raise DataError(f"unknown tensors {', '.join(unknown)}; compensators are one tensor, {IMAGES}.")
    own, images, card = tensors[IMAGES], distilled.images, distilled.card
    if own.dtype != torch.float32 or own.ndim != 5 or not own.numel() or own.shape[2:] != images.shape[1:]:
        wanted = ", ".join(map(str, images.shape[1:]))
        raise DataError(
            f"{IMAGES} is {own.dtype} {tuple(own.shape)}; it must be float32 (images a class, networks, {wanted})."
        )
    if not own.isfinite().all():
        raise DataError(f"{int((~own.isfinite()).sum())} values of {IMAGES} are NaN or infinite; all must be finite.")
    classes = len(card.class_names)
    if not torch.equal(distilled.labels, torch.arange(classes).repeat_interleave(len(own))):
        raise DataError(
            f"{IMAGES} has compensators for {len(own)} images of every class; the set's {len(images)} images must be "
            f"so many of each of {classes} classes, in class order."
        )
    if not images.is_floating_point() or card.pixel_space.kind == "zca":
        raise DataError(
            f"compensators are added to floats in unit or normalized pixels; images are {images.dtype} in "
            f"{card.pixel_space.kind} pixels."
        )
    if card.formation > 1:
        raise DataError(f"formation is {card.formation}; compensators are added to whole images, for which it is 1.")
    if card.prefixes:
        raise DataError("a part of a set with compensators is no set of its own: prefixes must be empty.")
    if card.label_kind not in LABEL_KINDS:
        raise DataError(
            f"label_kind is {card.label_kind!r}; a set with compensators has a label of every image that is shown: "
            f"{', '.join(LABEL_KINDS)}."
        )
    held = len(images) + own.shape[:2].numel()
    if held > distilled.budget_count:
        raise DataError(
            f"{len(images)} images and {own.shape[:2].numel()} compensators are more than the {card.ipc} images per "
            "class that the card says."
        )


def refuse_compensators(distilled: "DistilledSet", what: str, instead: str) -> None:
    """Raise UsageError where a set has compensators and something would leave them out.

    Args:
        distilled: the set.
        what: would leave them out, as the message begins.
        instead: what can be done, as a sentence.
    """
    if IMAGES in distilled.stored:
        count = distilled.stored[IMAGES].shape[:2].numel()
        raise UsageError(
            f"{what} takes a set's images alone; this set has {count} compensators, which are added to its images "
            f"when networks are trained. {instead}"
        )
