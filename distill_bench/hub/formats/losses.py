"""What a form has no place for: of each set, in words. What changes how networks learn from it is a loss."""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

from distill_bench.datasets import Dataset, is_own
from distill_bench.datasets.card import data_options, dataset_of
from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import transform_of
from distill_bench.distilled.recorded_labels import LOGITS, PREFIX
from distill_bench.distilled.render import render_pixels
from distill_bench.errors import DistillBenchError, UsageError
from distill_bench.hub.formats.released import Options
from distill_bench.hub.formats.targets import read_targets

LEVEL = 1e-3
"""Of 255 levels: what differs by less from a whole one is one, but for rounding."""


def losses(made: DistilledSet, form: str, data: Dataset | None = None) -> list[str]:
    """What would be lost of a set in a form of ``export``; nothing where the form holds the set.

    Args:
        data: the set's; needed for pictures of a whitened set, and loaded by the name on its card unless given.

    Raises:
        UsageError: nothing of the kind can be written in that form: DATM's labels are logits.
    """
    return [*_labels_lost(made, form), *_pixels_lost(made, form, data)]


def _labels_lost(made: DistilledSet, form: str) -> Iterator[str]:
    card, soft = made.card, made.soft_labels
    if form == "datm":
        if card.label_kind != "logits" or soft is None:
            raise UsageError(f"--to datm: its labels are logits, a row an image; this set's are {card.label_kind}.")
        if card.temperature != 1:
            yield (
                f"the temperature {card.temperature:g}, by which a network's logits are divided in training too (the "
                "soft labels are divided by it before they are written)"
            )
        read = read_targets(soft.float(), len(soft), soft.shape[1], Options(labels="logits"), form, ordered=True)
        if other := int((read.labels != made.labels).sum()):
            yield (
                f"the classes of {other} of {len(soft)} images, which --labels hard takes: they are neither in order "
                "nor the soft labels' largest"
            )
    elif card.label_kind == "teacher":
        yield f"the stored teacher, a {card.teacher} that labels what networks are shown"
    elif card.label_kind == "recorded":
        yield f"the labels recorded over {len(made.stored[PREFIX + LOGITS])} epochs, with their views"
    elif soft is not None:
        yield f"the soft labels ({card.label_kind})"
    if made.learning_rate is not None and form in ("res", "folder"):
        yield f"a learning rate of {made.learning_rate:.6g}, learned with the images"


def _pixels_lost(made: DistilledSet, form: str, data: Dataset | None) -> Iterator[str]:
    space, usual = made.card.pixel_space, usual_statistics(made)
    if form == "res":
        if space.kind != "normalized":
            yield f"the pixel space {space.kind}, in which networks are trained: a res file holds normalized pixels"
        elif usual not in (None, (space.mean, space.std)):
            yield (
                f"the normalisation with mean {_listed(space.mean)} and std {_listed(space.std)}: a res file holds "
                f"pixels normalized with {made.card.source.name}'s own constants"
            )
    if form == "folder":
        yield from _pictures_lose(made, data)


def _pictures_lose(made: DistilledSet, data: Dataset | None) -> Iterator[str]:
    if made.images.shape[1] not in (1, 3):
        raise UsageError(f"pictures have 1 or 3 channels; this set's images have {made.images.shape[1]}.")
    if (made.labels.diff() < 0).any():
        yield "the order of the images: a folder has them class by class"
    if absent := _absent(made):
        names = ", ".join(made.card.class_names[label] for label in absent[:3]) + (" …" if absent[3:] else "")
        yield f"classes without an image ({names}): readers of folders number those that are there"
    if made.images.dtype != torch.uint8:
        pixels = render_pixels(made, data)
        if not torch.equal(transform_of(made, data).encode(pixels), made.images.float()):
            yield _rounded(made, pixels, data)


def _absent(made: DistilledSet) -> list[int]:
    return sorted(set(range(len(made.card.class_names))) - set(made.labels.tolist()))


def _rounded(made: DistilledSet, pixels: UInt8[Tensor, "n c h w"], data: Dataset | None) -> str:
    """What 8-bit pixels are off by, as text."""
    exact = transform_of(made, data).decode(made.images) * 255
    beyond = ((exact < -LEVEL) | (exact > 255 + LEVEL)).float().mean()
    away = (exact - pixels).abs()
    return (
        f"pixels between the 256 levels of a picture: {float((away > LEVEL).float().mean()):.1%} are moved, by up to "
        f"{float(away.max()):.3g} levels; {float(beyond):.1%} lie beyond black and white"
    )


def usual_statistics(made: DistilledSet) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std that ``import`` takes where none are given; None where they come from the user's own images."""
    if is_own(made.card.source.name):
        return None
    try:
        data = dataset_of(made.card.source)
    except DistillBenchError:  # a name or folder that this machine does not have
        return None
    return data.mean, data.std


def way_back(made: DistilledSet, form: str, files: Sequence[str], dataset: str | None = None) -> list[str]:
    """The arguments of ``distill-bench import`` by which an exported set becomes the same set again.

    Args:
        files: as they were written: of a folder of pictures the folder, else all that hold tensors.
        dataset: where the source lies now, if not where the card says.
    """
    card = made.card
    said = [*files, *data_options(card.source, dataset)]
    said += _space_options(card.pixel_space, usual_statistics(made), asked=form != "res")
    if form == "datm":
        said += ["--labels", "logits"]
    if _absent(made):
        said += ["--force"]
    return [*said, "--method", card.method, "--protocol", card.protocol]


def _space_options(space: PixelSpace, usual: object, asked: bool) -> list[str]:
    scaled = "normalized" in (space.kind, space.zca_input)
    constants = scaled and usual != (space.mean, space.std)
    said = ["--space", space.kind] if asked or constants else []
    if space.kind == "zca":
        said += ["--zca-eps", repr(space.eps), "--zca-input", str(space.zca_input)]
    return said + ["--mean", _listed(space.mean), "--std", _listed(space.std)] * constants


def _listed(values: Sequence[float]) -> str:
    return ",".join(map(repr, values))
