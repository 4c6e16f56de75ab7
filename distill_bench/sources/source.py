"""What a dataset is to this package: two splits of uint8 images with labels, and a few facts about them."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill_bench.errors import DataError, UsageError
from distill_bench.randomness import generator

CHUNK_BYTES = 2**26


class Split:
    """Images and labels of one split, resident as tensors.

    Args:
        pixels: uint8 [n, channels, height, width].
        labels: int64 [n], each in 0 … classes - 1.
    """

    def __init__(self, pixels: UInt8[Tensor, "n c h w"], labels: Int64[Tensor, " n"]) -> None:
        self._pixels = pixels
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of every image."""
        channels, height, width = self._pixels.shape[1:]
        return channels, height, width

    def images(self, indices: Int64[Tensor, " k"]) -> UInt8[Tensor, "k c h w"]:
        """The images at ``indices``, in that order."""
        return self._pixels[indices]

    def subset(self, indices: Int64[Tensor, " k"]) -> "Split":
        """A split of the images at ``indices``, in that order."""
        return Split(self._pixels[indices], self.labels[indices])

    def relabelled(self, labels: Int64[Tensor, " n"]) -> "Split":
        """The same images with other labels."""
        return Split(self._pixels, labels)

    def chunks(self) -> Iterator[UInt8[Tensor, "k c h w"]]:
        """All images in order, about 64 MB at a time."""
        count = max(1, CHUNK_BYTES // math.prod(self.shape))
        for start in range(0, len(self), count):
            yield self.images(torch.arange(start, min(start + count, len(self))))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the uint8 NCHW pixels, then the int64 labels, in source order."""
        digest = hashlib.sha256()
        for batch in self.chunks():
            digest.update(batch.contiguous().numpy().tobytes())
        digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def class_indices(self) -> list[Int64[Tensor, " k"]]:
        """For every class 0 … max label, the indices of its images in source order."""
        count = int(self.labels.max()) + 1 if len(self) else 0
        return [(self.labels == label).nonzero().flatten() for label in range(count)]


@dataclass(frozen=True)
class Source:
    """A dataset. The splits are loaded when first asked for.

    Attributes:
        name: what ``load_source`` was given, such as ``"digits"`` or ``"folder:photos"``.
        class_names: in label order.
        load_train, load_test: load one split; ``load_test`` is None where the dataset has no test split.
        flip_invariant: whether a mirrored image keeps its label (false for digits).
        mean, std: per channel, of pixels in [0, 1]; measured on the training split where the field has no constants.
        size: the side that images were resized to on request, or None.
        holdout: the fraction of the training split that stands in for the test split, or None.
        whole: with such a test split, the source before its training split was parted.
    """

    name: str
    class_names: tuple[str, ...]
    load_train: Callable[[], Split]
    load_test: Callable[[], Split] | None
    flip_invariant: bool
    constants: tuple[Sequence[float], Sequence[float]] | None = None
    size: int | None = None
    holdout: float | None = None
    whole: "Source | None" = field(default=None, repr=False, compare=False)
    _cache: dict[str, Split] = field(default_factory=dict, repr=False, compare=False)

    @property
    def kind(self) -> str:
        """The name without a path: ``"digits"``, ``"folder"``."""
        return self.name.split(":")[0]

    @property
    def train(self) -> Split:
        """The training split, the only one a synthesizer sees."""
        if "train" not in self._cache:
            self._cache["train"] = checked(self.load_train(), self, "training")
        return self._cache["train"]

    @property
    def test(self) -> Split:
        """The test split.

        Raises:
            UsageError: the source has none.
        """
        if self.load_test is None:
            raise UsageError(
                f"{self.name} has no test split. Add one, or hold out a part of the training split: --holdout 0.2 "
                "(give it to synthesize as well, so that the set is made without those images)."
            )
        if "test" not in self._cache:
            self._cache["test"] = checked(self.load_test(), self, "test")
        return self._cache["test"]

    @cached_property
    def mean(self) -> tuple[float, ...]:
        return tuple(self.constants[0]) if self.constants else channel_statistics(self.train)[0]

    @cached_property
    def std(self) -> tuple[float, ...]:
        return tuple(self.constants[1]) if self.constants else channel_statistics(self.train)[1]

    def with_holdout(self, fraction: float, *, own_test: bool = False) -> "Source":
        """The same source with ``fraction`` of each class of the training split held out as its test split.

        The choice is fixed (it depends on the fraction and the class alone), so that sets made and scored with the
        same fraction never share an image.

        Args:
            own_test: test on the source's own test split all the same; the images held out are left out.

        Raises:
            UsageError: ``fraction`` is not strictly between 0 and 1.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"--holdout {fraction} is not a fraction: give a number above 0 and below 1, such as 0.2.")

        def part(held: bool) -> Split:
            train = self.train
            kept = []
            for label, indices in enumerate(train.class_indices):
                order = indices[torch.randperm(len(indices), generator=generator("holdout", fraction, label))]
                count = round(fraction * len(indices))
                kept.append(order[:count] if held else order[count:])
            return train.subset(torch.cat(kept).sort().values)

        if own_test:
            return replace(self, load_train=lambda: part(False), _cache={})
        parted = replace(self, load_train=lambda: part(False), load_test=lambda: part(True), _cache={})
        return replace(parted, holdout=fraction, whole=self)


def numbered_classes(labels: Sequence[Int64[Tensor, " _"]], where: str) -> tuple[str, ...]:
    """The classes of data without class names: the labels themselves, "0", "1", …

    Args:
        labels: of every split, that of training first.
        where: the data's path, for the error.

    Raises:
        DataError: a label is so high that a class below it must be without a training image.
    """
    highest, images = max(int(each.max()) for each in labels), len(labels[0])
    if highest >= images:
        raise DataError(
            f"{where} has the label {highest}, but {images} training images: not every class from 0 on can have one. "
            "Number the classes 0, 1, 2, …, or give them names."
        )
    return tuple(str(label) for label in range(highest + 1))


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of every channel, for pixels scaled to [0, 1], in float64."""
    # From counts of the 256 values: exact, so that no number of threads or chunk size shows in a card.
    counts = torch.zeros(split.shape[0], 256, dtype=torch.int64)
    for batch in split.chunks():
        for channel, histogram in enumerate(counts):
            histogram += torch.bincount(batch[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = weights @ values
    std = (weights * (values - mean[:, None]).square()).sum(dim=1).clamp(min=1e-12).sqrt()
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())


def checked(split: Split, source: Source, role: str) -> Split:
    """The split, if it is usable.

    Raises:
        DataError: it is empty or has a label without a class name; or, for training, a class without an image.
    """
    if not len(split):
        raise DataError(f"{source.name}: the {role} split is empty. It needs at least one image of every class.")
    low, high, classes = int(split.labels.min()), int(split.labels.max()), len(source.class_names)
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise DataError(
            f"{source.name}: the {role} split has the label {wrong}; labels run from 0 to {classes - 1} "
            f"for its {classes} classes."
        )
    absent = set(range(classes)) - set(split.labels.unique().tolist()) if role == "training" else set()
    if absent:
        raise DataError(
            f"{source.name}: no training image has the label {min(absent)} ({source.class_names[min(absent)]!r}). "
            "Every class needs one at least: add some, or take out the class's name."
        )
    return split
