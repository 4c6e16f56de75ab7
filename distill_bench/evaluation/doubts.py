"""What a reader of an accuracy must know: test images in what a set was made from, odd pixels or labels, a protocol."""

from collections.abc import Iterator, Sequence

import torch

from distill_bench.datasets import Dataset
from distill_bench.datasets.pixel_space import Transform
from distill_bench.distilled.card import Card
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.pixel_diagnostics import STRONGEST, diagnose, images_among, picture_doubts
from distill_bench.distilled.playback import stored_projector, stored_teacher
from distill_bench.errors import UsageError
from distill_bench.evaluation.protocol import members
from distill_bench.runtime.text import listed

_LABELLED = 100
"""Of so many images, evenly over the classes, it is looked whether labels are of their class."""
_AT_ONCE = 10
"""Of these a stored network sees at a time, so that large images need no memory to speak of."""

_WHOLE_TOLERANCE = 0.1
"""How far from a whole 255th a pixel that was one may have come in its space, in float16 too."""


def protocol_note(distilled: DistilledSet, protocol: str) -> tuple[str, ...]:
    """That a set is evaluated under another protocol than its card's, and none of its parts."""
    own = distilled.card.protocol
    if protocol in members(own):
        return ()
    return (f"evaluated under {protocol}; the protocol on the set's card is {own}",)


def data_notes(dataset: Dataset, trained_on: Sequence[int] | None = None) -> tuple[str, ...]:
    """What a reader of an accuracy must know of the data: how they were chosen, and classes without a test image.

    Args:
        dataset: where it is tested.
        trained_on: the labels that networks are trained on; all unless given.

    Returns:
        What there is to say.
    """
    names = [name for label, name in enumerate(dataset.class_names) if trained_on is None or label in trained_on]
    missing = [name for name in names if name in dataset.untested]
    said = f"the test split has no image of {len(missing)} of {len(names)} classes: {listed(missing)}"
    return (*dataset.notes, said) if missing else dataset.notes


def notes_of(
    distilled: DistilledSet, dataset: Dataset, protocol: str, allow_leak: bool = False, labels: str = "stored"
) -> tuple[str, ...]:
    """What makes a set's accuracy on a dataset untrustworthy, in words.

    Args:
        distilled: the set.
        dataset: where it is tested.
        protocol: under which; its id.
        allow_leak: whether it may be tested on images that it was made from.
        labels: as for ``evaluate``; nothing is said of those that networks are not trained on.

    Returns:
        What there is to say.

    Raises:
        UsageError: test images are among those the set was made from, and that is not allowed.
    """
    leaks, odd = _leaks_of(distilled, dataset)
    if leaks and not allow_leak:
        raise UsageError(
            f"{'; '.join(leaks)}: the accuracy would not be one on unseen images. {_advice(distilled, dataset)}"
        )
    card = distilled.card
    assumed = card.origin.assumptions if card.origin else ()
    pixels, other_protocol = pixel_notes(distilled, dataset), protocol_note(distilled, protocol)
    labelled = () if labels == "hard" else _label_notes(distilled, dataset)
    data = data_notes(dataset, distilled.labels.unique().tolist())
    return (*data, *assumed, *_part_notes(card), *pixels, *labelled, *leaks, *odd, *other_protocol)


def _part_notes(card: Card) -> Iterator[str]:
    """Of what is less than the set that was asked for: a part of it, or one whose run had not ended."""
    if card.prefix_of is not None:
        yield f"the first {card.ipc} of {card.prefix_of} images per class of a set"
    if card.iterate is not None:
        yield f"kept after {card.iterate:,} steps of a run that went on"


def _label_notes(distilled: DistilledSet, dataset: Dataset) -> tuple[str, ...]:
    """What speaks against a set's labels: most are of other classes than their images, or a projector was undone."""
    card = distilled.card
    kind, undone = card.trained_kind, card.projector.doubt if card.projector else ""
    if kind not in ("teacher", "projector", "logits", "probabilities", "weights"):
        return ()
    shown = distilled.shown(dataset)
    rows = torch.linspace(0, len(shown.labels) - 1, min(_LABELLED, len(shown.labels))).round().long()
    if kind in ("teacher", "projector"):
        stored = {"teacher": stored_teacher, "projector": stored_projector}[kind](distilled)
        with torch.inference_mode():
            said = torch.cat([stored(shown.images[some]) for some in rows.split(_AT_ONCE)])
    else:
        assert shown.soft_labels is not None
        said = shown.soft_labels[rows]
    own = said.gather(1, shown.labels[rows, None])[:, 0]
    others = int((own < said.amax(dim=1)).sum())
    odd = f"the labels of {others} of {len(rows)} images are largest for another class than the images'"
    return tuple(note for note in (undone, odd if 2 * others > len(rows) else "") if note)


def _leaks_of(distilled: DistilledSet, dataset: Dataset) -> tuple[list[str], list[str]]:
    """How test images came into what a set was made from, by its card; then what else is odd about the two.

    Test images in the set itself are odd and no more: where a set comes from elsewhere, its number is wanted all the
    same. A test image that is a training image as well is the dataset's own duplicate.
    """
    card, leaks, odd = distilled.card.source, [], []
    if card.train_fingerprint == dataset.test.fingerprint:
        leaks.append("the test images are the split that the set was made from")
    elif _held_out_of_its_own(distilled, dataset):
        leaks.append("the test images were held out of a training split that the set was made from")
    elif card.train_fingerprint != dataset.train.fingerprint:
        odd.append("the training split is not the one that the set was made from")
    pixels = _whole_pixels(distilled, dataset)
    tested = images_among(pixels, dataset.test)
    trained = images_among(pixels, dataset.train) if tested.any() else tested
    for shared, more in ((tested & ~trained, ""), (tested & trained, ", and training images too")):
        if count := int(shared.sum()):
            odd.append(f"{count} of {len(distilled.images)} images of the set are test images, pixel for pixel{more}")
    return leaks, odd


def pixel_notes(distilled: DistilledSet, dataset: Dataset) -> tuple[str, ...]:
    """What speaks against the declared pixel space of a set from elsewhere, or says that synthesis here ran away."""
    card = distilled.card
    if not distilled.images.is_floating_point():
        doubts = picture_doubts(distilled.images, dataset)
        return tuple(f"8-bit pictures, but {doubt}: they may be values of another scale" for doubt in doubts)
    diagnosis = diagnose(distilled.shown(dataset).images, dataset, card.pixel_space)
    if card.seed is None:
        kind = card.pixel_space.kind
        return tuple(
            f"declared as {kind}, but {each}: a wrong space gives a wrong accuracy" for each in diagnosis.doubts
        )
    if not diagnosis.contrast > STRONGEST:
        return ()
    return (
        f"the images' contrast is {diagnosis.contrast:.3g} times that of real images, usual is {STRONGEST:g} at most: "
        "synthesis may have run away from them",
    )


def _held_out_of_its_own(distilled: DistilledSet, dataset: Dataset) -> bool:
    """Whether the test images were held out of the split that a set was made from, or of one that overlaps it."""
    card = distilled.card.source
    if dataset.whole is None or card.train_fingerprint == dataset.train.fingerprint:
        return False
    if card.name == dataset.name:
        return card.holdout != dataset.holdout
    made_from = dataset.whole if card.holdout is None else dataset.whole.with_holdout(card.holdout)
    return card.train_fingerprint == made_from.train.fingerprint


def _advice(distilled: DistilledSet, dataset: Dataset) -> str:
    own, whole = distilled.card.source.holdout, dataset.whole or dataset
    if own is not None:
        way = f"Test it on what it was made without (`holdout={own:g}`), make a set"
    else:
        way = "Make a set" if whole.load_test is None else "Test it on the test split, make a set"
    return (
        f"{way} with the holdout that it is tested on, or take the number all the same, with a note beside it: "
        "`allow_leak=True`."
    )


def _whole_pixels(distilled: DistilledSet, dataset: Dataset) -> torch.Tensor:
    """The images of a set that are 8-bit pictures, as uint8 [k, c, h, w]."""
    images = distilled.images
    if images.dtype == torch.uint8:
        return images
    levels = Transform(distilled.card.pixel_space, dataset.train).decode(images.float()) * 255
    whole = levels.round().clamp(0, 255)
    return whole[(levels - whole).abs().amax(dim=(1, 2, 3)) < _WHOLE_TOLERANCE].to(torch.uint8)
