"""A set in a training loop of one's own: its images as networks see them, its recording played back, its teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor
from torch.utils.data import TensorDataset

from distill_bench.datasets.card import dataset_of
from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import Transform
from distill_bench.distilled.card import TARGETS, TEACHER_PREFIX
from distill_bench.distilled.compensators import IMAGES as COMPENSATORS
from distill_bench.distilled.compensators import forms, shown_images
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.formation import decoded, grey
from distill_bench.distilled.projector import Projector, projector_of
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.distilled.replay import IN_TURN, ReplayRule, visits
from distill_bench.errors import DataError, UsageError
from distill_bench.networks import Network, blank_network, build_network, is_ours
from distill_bench.runtime.device import send

_NO_TABLE = {
    "recorded": "labels are recorded, with the view of the image that each belongs to: play them back, "
    "Playback.of(distilled)(epoch, indices) gives views and probabilities",
    "distances": "labels are distances of recorded views to two classes, which train a network beside its classes by "
    "a loss of their own: `evaluate` does, and images with hard labels are `training_images(distilled)` and "
    "`distilled.labels`",
    "teacher": "labels are what the stored teacher says of the images as they are shown: ask it, "
    "stored_teacher(distilled)(images) gives logits",
    "projector": "labels are what the stored projector says of the images as they are shown: ask it, "
    "stored_projector(distilled)(images) gives logits",
}


def transform_of(distilled: DistilledSet, dataset: Dataset | None = None) -> Transform:
    """The way into a set's pixel space and back.

    Args:
        distilled: the set.
        dataset: the set's; needed for whitened sets alone, and loaded by the name on the card unless given.

    Returns:
        The transform, which encodes and decodes pixels.
    """
    card = distilled.card
    if card.pixel_space.kind != "zca":
        return Transform(card.pixel_space, None)
    dataset = dataset or dataset_of(card.source)
    return Transform(card.pixel_space, dataset.train)


class Shown(NamedTuple):
    """What networks are trained on.

    Attributes:
        images: float32 [m, c, h, w] in the set's pixel space, those of every stored image after one another.
        labels: int64 [m].
        soft_labels: [m, classes], as the set has them, or None.
    """

    images: Float[Tensor, "m c h w"]
    labels: Int64[Tensor, " m"]
    soft_labels: Float[Tensor, "m k"] | None


def as_shown(distilled: DistilledSet, dataset: Dataset | None = None) -> Shown:
    """See ``DistilledSet.shown``."""
    card, soft = distilled.card, distilled.soft_labels
    if (added := distilled.stored.get(COMPENSATORS)) is not None:
        images = shown_images(distilled.images, added, card.pixel_space)
        return Shown(images, distilled.labels.repeat_interleave(forms(distilled)), soft)
    each = card.formation**2
    return Shown(
        decoded(training_images(distilled, dataset), card.formation, grey(card.pixel_space)),
        distilled.labels.repeat_interleave(each),
        None if soft is None else soft.repeat_interleave(each, dim=0),
    )


def training_images(distilled: DistilledSet, dataset: Dataset | None = None) -> Float[Tensor, "n c h w"]:
    """The stored images in the space that networks are trained in: float32, 8-bit pixels encoded.

    Args:
        distilled: the set.
        dataset: as for ``transform_of``.

    Returns:
        The images, [n, c, h, w], in the card's pixel space.
    """
    images = distilled.images
    return transform_of(distilled, dataset).encode(images) if images.dtype == torch.uint8 else images.float()


def as_dataset(distilled: DistilledSet, dataset: Dataset | None = None) -> TensorDataset:
    """See ``DistilledSet.to_dataset``."""
    kind = distilled.card.label_kind
    if kind in _NO_TABLE:
        raise UsageError(f"labels of the kind {kind!r} are no table with a row an image: this set's {_NO_TABLE[kind]}.")
    shown = as_shown(distilled, dataset)
    labels = shown.labels if shown.soft_labels is None else shown.soft_labels
    return TensorDataset(shown.images, distilled.stored.get(TARGETS, labels))


def unit_images(distilled: DistilledSet, dataset: Dataset | None = None) -> Float[Tensor, "n c h w"]:
    """See ``DistilledSet.pixels``."""
    if distilled.images.dtype == torch.uint8:
        return distilled.images.float() / 255
    return transform_of(distilled, dataset).decode(distilled.images).clamp(0, 1)


@dataclass(frozen=True)
class Playback:
    """A recording as the evaluator trains with it: ``playback(epoch, indices)`` gives views and probabilities.

    Attributes:
        images: float [n, c, h, w], in the set's pixel space; views are made on their device.
        recording: of their views and logits.
        temperature: logits are divided by it, the recorded ones here and the network's in the loss.
        rule: how the views are gone through.
    """

    images: Float[Tensor, "n c h w"]
    recording: RecordedLabels
    temperature: float
    rule: ReplayRule = IN_TURN

    @classmethod
    def of(cls, distilled: DistilledSet, dataset: Dataset | None = None) -> "Playback":
        """The playback of a recorded set.

        Args:
            distilled: the set.
            dataset: as for ``transform_of``.

        Returns:
            The playback, whose images are ready to train on.

        Raises:
            UsageError: the set's labels are not recorded.
        """
        card = distilled.card
        if card.label_kind == "distances":
            raise UsageError(
                f"recorded distances are no probabilities, and do not play back: this set's {_NO_TABLE['distances']}."
            )
        if card.label_kind != "recorded":
            raise UsageError(f"the set's labels are of the kind {card.label_kind!r}; only recorded ones play back.")
        recording = RecordedLabels.stored(distilled.stored, len(card.class_names))
        return cls(training_images(distilled, dataset), recording, card.temperature, card.replay or IN_TURN)

    @property
    def epochs(self) -> int:
        """How many are recorded, which is as many as every image has views."""
        return self.recording.epochs

    def __call__(
        self, epoch: int, indices: Int64[Tensor, " b"], seed: int = 0
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b classes"]]:
        """The views of the images at ``indices`` in an epoch, and what the teacher said of them, as probabilities.

        Args:
            epoch: of training; without an end, see ``ReplayRule``.
            indices: of the images.
            seed: of a random order.

        Returns:
            Views [b, c, h, w] and probabilities [b, classes].
        """
        at = self.samples(epoch, indices, seed)
        wanted = self.recording.probabilities(at, indices, self.rule.rest, self.temperature)
        return self.recording.replay(self.images, at, indices), send(wanted, self.images.device)

    def samples(self, epoch: int, indices: Int64[Tensor, " b"], seed: int = 0) -> Int64[Tensor, " b"]:
        """Which of its views each image has. Arguments as those of a call."""
        return visits(self.rule, self.epochs, self.recording.images, epoch, seed)[0][indices]

    def originals(self, epoch: int, indices: Int64[Tensor, " b"], seed: int = 0) -> Bool[Tensor, " b"]:
        """Which images are to be shown themselves, with their classes, in place of a view. Arguments as of a call."""
        return visits(self.rule, self.epochs, self.recording.images, epoch, seed)[1][indices]


def stored_teacher(distilled: DistilledSet) -> Network:
    """The network that a set holds, in evaluation mode, without gradients: from images in the set's space to logits.

    Raises:
        UsageError: the set holds none.
        DataError: its tensors are not those of the network that the card names.
    """
    name, shape = distilled.card.teacher, distilled.images.shape[1:]
    if distilled.card.label_kind != "teacher" or name is None:
        raise UsageError(f"the set's labels are of the kind {distilled.card.label_kind!r}; it holds no teacher.")
    own = {
        key.removeprefix(TEACHER_PREFIX): value
        for key, value in distilled.stored.items()
        if key.startswith(TEACHER_PREFIX)
    }
    return _stored_network("teacher", (shape[0], shape[1], shape[2]), len(distilled.card.class_names), name, own)


def stored_projector(distilled: DistilledSet) -> Projector:
    """The projector that a set holds, in evaluation mode, without gradients: from images in its space to logits.

    Raises:
        UsageError: the set holds none.
        DataError: the external weights that the card names are not here, or others; or the tensors are not those of the
            encoder that the card names.
    """
    card, shape = distilled.card, distilled.images.shape[1:]
    if card.label_kind != "projector" or card.projector is None:
        raise UsageError(f"the set's labels are of the kind {card.label_kind!r}; it holds no projector.")
    network = partial(
        _stored_network, "encoder of the projector", (shape[0], shape[1], shape[2]), len(card.class_names)
    )
    return projector_of(distilled.stored, card.projector, card.class_names, card.pixel_space, network)


def _stored_network(
    what: str, shape: tuple[int, int, int], classes: int, name: str, own: Mapping[str, Tensor]
) -> Network:
    """A stored network of a name with its tensors. Raises DataError if they are not its own."""
    if not is_ours(name):  # what a file names is never imported
        raise DataError(f"the stored {what} cannot be built: {name} is no network of this project.")
    try:
        wanted = blank_network(name, shape, classes).state_dict()  # a name may claim any size; nothing is allocated
    except UsageError as error:
        raise DataError(f"the stored {what} cannot be built: {error}") from error
    differing = [key for key in wanted.keys() | own.keys() if _form(wanted.get(key)) != _form(own.get(key))]
    if differing:
        key = min(differing)
        raise DataError(
            f"the stored {what} is no {name}: its {key} is {_form(own.get(key))}, not {_form(wanted.get(key))}."
        )
    network = build_network(name, shape, classes, Generator())
    network.load_state_dict(own)
    return network.eval().requires_grad_(False)


def _form(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")
