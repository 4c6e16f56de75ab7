"""The artefact: a few synthetic images per class with their labels, and a card that says all about them."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int64, Num
from pydantic import (
    ValidationError,
)
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.utils.data import TensorDataset

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import source_card
from distill_bench.datasets.classes import as_option
from distill_bench.datasets.pixel_space import PixelSpace, SpaceKind, pixel_space_of
from distill_bench.distilled import compensators
from distill_bench.distilled.card import Card, LabelKind, read_card
from distill_bench.distilled.checks import check
from distill_bench.errors import DataError, UsageError, brief, describe
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.stored import beside, is_unchanged
from distill_bench.runtime.tensors import Array, as_classes, as_pixels, as_tensor
from distill_bench.runtime.tracking import LOSSES

if TYPE_CHECKING:
    from distill_bench.distilled.playback import Shown

_CARD_KEY = "distill_bench"
_SET_ADVICE = " that distill-bench synthesize made; what others released, distill-bench import turns into one"


class DistilledSet:
    """Synthetic images and labels with their card.

    Attributes:
        images: [n, channels, height, width] in the card's pixel space; float32, float16 or uint8 (then on 0 … 255).
        labels: int64 [n], the class of every image.
        soft_labels: float [n, classes], logits, probabilities or weights by ``card.label_kind``, or None; a row an
            image, and one for each that compensators make of it.
        learning_rate: the rate a network should be trained with, learned with the images, or None.
        stored: further tensors that belong to the set (names start with ``relabel.``, ``teacher.``, ``projector.`` or
            ``compensator.``; or they are ``INDICES`` and ``TARGETS``).
        card: see ``Card``.
    """

    def __init__(
        self,
        images: Num[Tensor, "n c h w"],
        labels: Int64[Tensor, " n"],
        card: Card,
        *,
        soft_labels: Float[Tensor, "s k"] | None = None,
        learning_rate: float | None = None,
        stored: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Raises DataError if shapes, types or values do not fit together."""
        self.images, self.labels, self.card = images.contiguous(), labels.contiguous(), card
        self.soft_labels = None if soft_labels is None else soft_labels.contiguous()
        self.learning_rate = learning_rate
        self.stored = {name: tensor.contiguous() for name, tensor in (stored or {}).items()}
        check(self)

    @classmethod
    def from_tensors(
        cls,
        images: Array,
        labels: Array,
        dataset: Dataset,
        *,
        method: str = "custom",
        pixel_space: SpaceKind | PixelSpace = "normalized",
        soft_labels: Array | None = None,
        label_kind: LabelKind | None = None,
        learning_rate: float | None = None,
        **card: Any,
    ) -> "DistilledSet":
        """A set from tensors, NumPy arrays or lists made anywhere, for the dataset they stand for.

        Args:
            images: [n, channels, height, width]: integers from 0 to 255, which are 8-bit pictures and become uint8, or
                floats in the pixel space.
            labels: classes of any type of number: [n], [n, 1] or one-hot rows.
            dataset: whose classes and shape they have.
            method: what made them.
            pixel_space: a kind, with the dataset's own statistics, or a full description.
            soft_labels: [n, classes], or None.
            label_kind: what ``soft_labels`` are; ``"logits"`` by default.
            learning_rate: learned with the images, or None.
            card: further fields of the card, such as ``protocol="dc-v1"`` or ``paper="…"``.

        Returns:
            The set, checked.

        Raises:
            DataError: the tensors do not fit together or do not fit the dataset.
        """
        pixels, classes = as_pixels(images), as_classes(labels, len(dataset.class_names))
        if pixels.ndim == 4 and tuple(pixels.shape[1:]) != dataset.train.shape:
            raise DataError(
                f"images are of shape {tuple(pixels.shape[1:])}, and {dataset.name} has {dataset.train.shape} "
                "(channels, height, width)."
            )
        soft = None if soft_labels is None else as_tensor(soft_labels, "the soft labels")
        space = pixel_space if isinstance(pixel_space, PixelSpace) else pixel_space_of(dataset, pixel_space)
        most = max(classes.unique(return_counts=True)[1].tolist(), default=0)
        fields: dict[str, Any] = {"ipc": max(most, 1)} | card
        try:
            described = Card(
                method=method,
                source=source_card(dataset),
                class_names=dataset.class_names,
                pixel_space=space,
                label_kind=label_kind or ("hard" if soft is None else "logits"),
                **fields,
            )
        except ValidationError as error:
            raise DataError(f"the set's card is invalid: {describe(error)}.") from error
        return cls(pixels, classes, described, soft_labels=soft, learning_rate=learning_rate)

    def __repr__(self) -> str:
        card, shape = self.card, "×".join(map(str, self.images.shape[1:]))
        about = f"{card.method} on {card.source.name}, {card.budget}: {len(self.images)} images of {shape}"
        return (
            f"<DistilledSet {about}, {card.pixel_space.kind} pixels, {card.label_kind} labels, {self.nbytes:,} bytes>"
        )

    def _repr_html_(self) -> str:
        from distill_bench.distilled.notebook import set_as_html  # here: it draws sets

        return set_as_html(self)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors by the names they have in the file."""
        named = {"images": self.images, "labels": self.labels, **self.stored}
        if self.soft_labels is not None:
            named["soft_labels"] = self.soft_labels
        if self.learning_rate is not None:
            named["learning_rate"] = torch.tensor(self.learning_rate, dtype=torch.float64)
        return named

    @property
    def shown_count(self) -> int:
        """How many images ``shown`` gives."""
        return len(self.images) * self.card.formation**2 * compensators.forms(self)

    @property
    def budget_count(self) -> int:
        """How many images are stored; with compensators, how many could be in place of these too."""
        whole = self.card.ipc * len(self.card.class_names)
        return whole if compensators.IMAGES in self.stored else len(self.images)

    @property
    def has_strict_score(self) -> bool:
        """Whether hard labels and the protocol's own rate are another evaluation than the set as stored."""
        return self.card.trained_kind != "hard" or self.learning_rate is not None

    @property
    def nbytes(self) -> int:
        """Storage in bytes of all tensors: images, labels, soft labels, learning rate, and those of ``stored``."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def to_bytes(self) -> bytes:
        """The file's content: a pure function of the tensors and the card."""
        # one metadata key: safetensors writes several in random order
        card = json.dumps(self.card.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return save_tensors(self.tensors, metadata={_CARD_KEY: card})

    @property
    def sha256(self) -> str:
        """The hash of the file's content, which names the set in results."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the set to ``path``, whole or not at all. What lay beside another set of that name goes with it.

        Raises:
            DataError: the file cannot be written.
        """
        write_atomically(Path(path), self.to_bytes())
        if is_unchanged(Path(path)) is False:
            beside(Path(path)).unlink()
            Path(path).with_suffix(LOSSES).unlink(missing_ok=True)

    def shown(self, dataset: Dataset | None = None) -> "Shown":
        """What networks are trained on: images in the card's pixel space; of a formation, those in the stored ones.

        With compensators (float32 ``compensator.images``) every image is followed by those that they make of it.

        Args:
            dataset: as for ``playback.transform_of``.

        Returns:
            Images, classes and soft labels. Of a formation every image has its stored one's.
        """
        from distill_bench.distilled.playback import as_shown  # which is about sets, and imports them

        return as_shown(self, dataset)

    def to_dataset(self, dataset: Dataset | None = None) -> TensorDataset:
        """A torch Dataset of (image, label), as networks are shown them, see ``shown``.

        The label is the soft one where the set has them: [classes], logits (to be divided by the card's temperature),
        probabilities or weights by ``card.label_kind``; or the image's targets, [features]. Hard labels are ``labels``.
        ``dataset`` as for ``playback.transform_of``.

        Raises:
            UsageError: labels are recorded, a teacher's, or a projector's: no image has one of its own. See
                ``playback``.
        """
        from distill_bench.distilled.playback import as_dataset  # which is about sets, and imports them

        return as_dataset(self, dataset)

    def prefix(self, ipc: int) -> "DistilledSet":
        """The first images of every class, with their labels and rate, where the card says that they are a set.

        Args:
            ipc: how many; one of the card's ``prefixes``.

        Returns:
            The set, whose card has that ``ipc``, and says what it is the first part of.

        Raises:
            UsageError: the card has no such prefix.
        """
        from distill_bench.distilled.prefix import prefix_of  # which is about sets, and imports them

        return prefix_of(self, ipc)

    def pixels(self, dataset: Dataset | None = None) -> Float[Tensor, "n c h w"]:
        """The stored images as pixels from 0 to 1, float32, to look at: what lies beyond black and white is clipped.

        Args:
            dataset: as for ``playback.transform_of``.

        Returns:
            The pixels, [n, channels, height, width].
        """
        from distill_bench.distilled.playback import unit_images

        return unit_images(self, dataset)

    def to_hf(self, dataset: Dataset | None = None) -> Any:
        """A ``datasets.Dataset`` of Hugging Face, with pictures of 8 bits, labels with class names, and soft labels.

        Args:
            dataset: as for ``playback.transform_of``.

        Returns:
            The dataset: ``image``, ``label``, and ``soft_label`` (logits, probabilities or weights, by
            ``card.label_kind``) where the set has one an image. What a teacher says, or was recorded to say, is left
            out.

        Raises:
            UsageError: ``datasets`` is not installed, images have other than 1 or 3 channels, or others are shown: of
                a formation, or with compensators.
        """
        from distill_bench.distilled.hf_table import as_hf_dataset

        return as_hf_dataset(self, dataset)


def load_distilled(path: str | Path, *, allow_changed: bool = False) -> DistilledSet:
    """Read a set. Nothing is unpickled and nothing is run.

    Args:
        path: its file.
        allow_changed: whether it may differ from what was made, by the sum in the ``.run.json`` beside it.

    Returns:
        The set.

    Raises:
        DataError: the file is missing, damaged, changed, of another kind, or its parts contradict each other.
    """
    path = Path(path)
    if os.path.exists(path) and not os.path.isfile(path):
        what = "a folder" if os.path.isdir(path) else "no regular file"
        raise DataError(f"{path}: is {what}, not a readable safetensors file. Give one{_SET_ADVICE}.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Give a .safetensors file made by distill-bench synthesize.") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({brief(error)}). Give one{_SET_ADVICE}.") from error
    if not allow_changed and is_unchanged(path) is False:
        raise DataError(
            f"{path}: changed since it was made: its sha256 is not the one in {beside(path).name}. Make it again, or "
            f"take it from a copy. If it was meant to change, delete {beside(path).name}, which is about another set."
        )
    if _CARD_KEY not in metadata:
        raise DataError(f"{path}: has no card. It holds tensors, but was not written as a distilled set.")
    card = read_card(metadata[_CARD_KEY], path)
    images, labels = tensors.pop("images", None), tensors.pop("labels", None)
    soft_labels, rate = tensors.pop("soft_labels", None), tensors.pop("learning_rate", None)
    if images is None or labels is None:
        raise DataError(f"{path}: needs the tensors images and labels; it has {', '.join(sorted(tensors)) or 'none'}.")
    if rate is not None and (rate.numel() != 1 or not rate.is_floating_point()):
        raise DataError(
            f"{path}: learning_rate is {rate.dtype} of shape {tuple(rate.shape)}; it is one floating-point number."
        )
    try:
        return DistilledSet(
            images,
            labels,
            card,
            soft_labels=soft_labels,
            learning_rate=None if rate is None else float(rate),
            stored=tensors,
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def check_same_classes(distilled: DistilledSet, dataset: Dataset) -> None:
    """Raises UsageError if a set and a dataset do not speak of the same classes. Reads no image."""
    own, here = distilled.card.class_names, dataset.class_names
    if own == here:
        return
    first = next(k for k in range(max(len(own), len(here))) if own[k : k + 1] != here[k : k + 1])
    said = [repr(names[first]) if first < len(names) else "no class" for names in (own, here)]
    narrower = f" To take these classes alone: {as_option(own, here)}." if set(own) <= set(here) else ""
    raise UsageError(
        f"the set has {len(own)} classes, {dataset.name} has {len(here)}. They differ first at the label {first}, "
        f"which is {said[0]} in the set and {said[1]} in the data. Labels would not mean the same.{narrower}"
    )


def check_same_dataset(distilled: DistilledSet, dataset: Dataset) -> None:
    """Raises UsageError if a set and a dataset do not speak of the same classes and image shape."""
    check_same_classes(distilled, dataset)
    if tuple(distilled.images.shape[1:]) != dataset.train.shape:
        raise UsageError(
            f"the set's images are {'×'.join(map(str, distilled.images.shape[1:]))}, those of {dataset.name} "
            f"{'×'.join(map(str, dataset.train.shape))} (channels × height × width)."
        )
