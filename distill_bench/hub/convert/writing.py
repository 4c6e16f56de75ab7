"""What formats share that sets are written in."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from distill_bench.datasets import is_own
from distill_bench.datasets.card import dataset_of
from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.card import TARGETS
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import transform_of
from distill_bench.distilled.recorded_labels import DISTANCES, LOGITS, PREFIX
from distill_bench.distilled.render import render_pixels
from distill_bench.errors import DistillBenchError, UsageError

_LEVEL = 1e-3
"""Of 255 levels: what differs by less from a whole one is one, but for rounding."""


def saved(content: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def label_losses(distilled: DistilledSet) -> Iterator[str]:
    """What a format of class numbers alone loses of a set's labels, in words."""
    card = distilled.card
    if card.label_kind == "teacher":
        yield f"the stored teacher, a {card.teacher} that labels what networks are shown"
    elif card.label_kind == "projector":
        yield "the stored projector that labels what networks are shown"
    elif card.label_kind == "recorded":
        yield f"the labels recorded over {len(distilled.stored[PREFIX + LOGITS])} epochs, with their views"
    elif card.label_kind == "distances":
        yield f"the distances recorded over {len(distilled.stored[PREFIX + DISTANCES])} epochs, with their views"
    elif card.label_kind == "targets":
        yield f"the targets to pre-train by, {distilled.stored[TARGETS].shape[1]} features an image"
    elif distilled.soft_labels is not None:
        yield f"the soft labels ({card.label_kind})"


def rate_losses(distilled: DistilledSet) -> Iterator[str]:
    """What a format without a learning rate loses, in words."""
    if distilled.learning_rate is not None:
        yield f"a learning rate of {distilled.learning_rate:.6g}, learned with the images"


def order_losses(distilled: DistilledSet) -> Iterator[str]:
    """What a form with a place for every class loses of the images' order, in words."""
    if (distilled.labels.diff() < 0).any():
        yield "the order of the images: a folder has them class by class"


def pixel_losses(distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
    """What 8-bit pictures lose, in words.

    Raises:
        UsageError: the images have other than 1 or 3 channels.
    """
    if distilled.images.shape[1] not in (1, 3):
        raise UsageError(f"pictures have 1 or 3 channels; this set's images have {distilled.images.shape[1]}.")
    if distilled.images.dtype == torch.uint8:
        return
    pixels, transform = render_pixels(distilled, dataset), transform_of(distilled, dataset)
    if torch.equal(transform.encode(pixels), distilled.images.float()):
        return
    exact = transform.decode(distilled.images) * 255
    beyond = ((exact < -_LEVEL) | (exact > 255 + _LEVEL)).float().mean()
    away = (exact - pixels).abs()
    yield (
        f"pixels between the 256 levels of a picture: {float((away > _LEVEL).float().mean()):.1%} are moved, by up to "
        f"{float(away.max()):.3g} levels; {float(beyond):.1%} lie beyond black and white"
    )


def absent_classes(distilled: DistilledSet) -> list[int]:
    """The labels of classes without an image."""
    return sorted(set(range(len(distilled.card.class_names))) - set(distilled.labels.tolist()))


def usual_statistics(distilled: DistilledSet) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that ``import`` takes where none are given; None if they come from the user's own images."""
    if is_own(distilled.card.source.name):
        return None
    try:
        data = dataset_of(distilled.card.source)
    except DistillBenchError:  # a name or folder that this machine does not have
        return None
    return data.mean, data.std


def release_accuracies(sets: Sequence[DistilledSet]) -> dict[str, tuple[float, ...]]:
    """The accuracies that a release stores of its sets together, where these are all of them; else nothing."""
    origins = [distilled.card.origin for distilled in sets]
    first = origins[0]
    whole = [(origin.set_index, origin.sets, origin.stored_accuracies) for origin in origins if origin is not None]
    if first is None or whole != [(index, len(sets), first.stored_accuracies) for index in range(len(sets))]:
        return {}
    return first.stored_accuracies


def as_numbers(values: Sequence[float]) -> str:
    """As options take them, to the last digit."""
    return ",".join(map(repr, values))
