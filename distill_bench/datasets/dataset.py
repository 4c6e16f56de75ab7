"""What a dataset is to this package: two splits of uint8 images with labels, and a few facts about them."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill_bench.datasets.classes import check_labels, check_none_absent, labels_of
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.names import checked_class_names
from distill_bench.runtime.seeds import generator
from distill_bench.runtime.tensors import as_tensor

CHUNK_BYTES = 2**26
_OWN_KINDS = ("folder", "parquet", "npz", "hf")
"""How names of the user's own data begin, as in ``folder:PATH``."""


class Split:
    """Images and labels of one split, resident as tensors.

    Args:
        pixels: uint8 [n, channels, height, width], a tensor or a NumPy array.
        labels: [n] or [n, 1] of any integer type, each in 0 … classes - 1; they become int64.

    Raises:
        DataError: they are of another type or shape, or not equally many.
    """

    def __init__(self, pixels: Tensor | np.ndarray, labels: Tensor | np.ndarray) -> None:
        self._pixels: UInt8[Tensor, "n c h w"] = _as_pixels(pixels)
        self.labels: Int64[Tensor, " n"] = _as_labels(labels)
        if len(self._pixels) != len(self.labels):
            raise DataError(f"a split has {len(self._pixels)} images, but {len(self.labels)} labels.")

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
        return list(self.labels.argsort(stable=True).split(self.labels.bincount().tolist()))


def _as_pixels(values: Tensor | np.ndarray) -> UInt8[Tensor, "n c h w"]:
    pixels = as_tensor(values, "a split's pixels")
    if pixels.dtype != torch.uint8 or pixels.ndim != 4:
        raise DataError(
            f"a split's pixels are {pixels.dtype} of shape {tuple(pixels.shape)}; they are uint8, 0 to 255, of shape "
            "[n, channels, height, width]. Of floats in 0 … 1: (pixels * 255).round().to(torch.uint8)."
        )
    return pixels


def _as_labels(values: Tensor | np.ndarray) -> Int64[Tensor, " n"]:
    labels = as_tensor(values, "a split's labels")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise DataError(
            f"a split's labels are {labels.dtype} of shape {tuple(labels.shape)}; they are one class an image, "
            "integers of shape [n]. Of one-hot labels: labels.argmax(1)."
        )
    return labels.long()


@dataclass(frozen=True)
class Dataset:
    """A dataset. The splits are loaded when first asked for.

    Attributes:
        name: what ``load_dataset`` was given, such as ``"digits"`` or ``"folder:photos"``.
        class_names: in label order.
        load_train, load_test: load one split; ``load_test`` is None if the dataset has no test split.
        flip_invariant: whether a mirrored image keeps its label (false for digits).
        mean, std: per channel, of pixels in [0, 1]; measured on the training split where the field has no constants.
        size: the side that images were resized to on request, or None.
        holdout: the fraction of the training split that stands in for the test split, or None.
        whole: with such a test split, the dataset before its training split was parted.
        classes: the names of those that were chosen of a larger dataset, or None.

    Raises:
        DataError: class names cannot be written and read again, or told apart.
    """

    name: str
    class_names: tuple[str, ...]
    load_train: Callable[[], Split] = field(repr=False)
    load_test: Callable[[], Split] | None = field(repr=False)
    flip_invariant: bool
    constants: tuple[Sequence[float], Sequence[float]] | None = None
    size: int | None = None
    holdout: float | None = None
    classes: tuple[str, ...] | None = None
    whole: "Dataset | None" = field(default=None, repr=False, compare=False)
    _cache: dict[str, Split] = field(default_factory=dict, repr=False, compare=False)

    @property
    def class_sizes(self) -> tuple[int, ...]:
        """The training images of every class, which may be none."""
        return tuple(self.train.labels.bincount(minlength=len(self.class_names)).tolist())

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "class_names", checked_class_names(self.class_names, self.name))
        except ValueError as error:
            raise DataError(f"{error}.") from error

    @property
    def kind(self) -> str:
        """The name without a path: ``"digits"``, ``"folder"``."""
        return self.name.split(":")[0]

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of an accuracy must know of how the data was chosen."""
        chosen = self.classes and f"of the classes {', '.join(self.classes)} alone, in training and test"
        turned = self.flip_invariant is False and is_own(self.name) and "mirrored images do not keep their label"
        return tuple(note for note in (chosen, turned) if note)

    @cached_property
    def untested(self) -> tuple[str, ...]:
        """The classes that have no test image. Raises UsageError if there is no test split."""
        counts = self.test.labels.bincount(minlength=len(self.class_names)).tolist()
        return tuple(name for name, count in zip(self.class_names, counts, strict=True) if not count)

    @property
    def train(self) -> Split:
        """The training split, the only one a method sees."""
        if "train" not in self._cache:
            with readable(self.name):
                train = self.load_train()
            check_labels(train.labels, self.class_names, f"{self.name}: the training split")
            check_none_absent(train.labels, self.class_names, self.name)
            self._cache["train"] = train
        return self._cache["train"]

    @property
    def test(self) -> Split:
        """The test split.

        Raises:
            UsageError: the dataset has none.
        """
        if self.load_test is None:
            raise UsageError(
                f"{self.name} has no test split. Add one, or hold out a part of the training split: `holdout=0.2` "
                "(give it to synthesize as well, so that the set is made without those images)."
            )
        if "test" not in self._cache:
            with readable(self.name):
                test = self.load_test()
            check_labels(test.labels, self.class_names, f"{self.name}: the test split")
            self._cache["test"] = test
        return self._cache["test"]

    @cached_property
    def mean(self) -> tuple[float, ...]:
        return tuple(self.constants[0]) if self.constants else channel_statistics(self.train)[0]

    @cached_property
    def std(self) -> tuple[float, ...]:
        return tuple(self.constants[1]) if self.constants else channel_statistics(self.train)[1]

    def with_classes(self, wanted: Sequence[str | int]) -> "Dataset":
        """The same dataset with some of its classes alone, in both splits, labelled 0, 1, … in the order given.

        Args:
            wanted: names or labels, see ``labels_of``.

        Returns:
            A new dataset; this one stays as it is.

        Raises:
            UsageError: one is not of this dataset, or is given twice.
        """
        chosen = labels_of(wanted, self.class_names, self.name)
        if chosen == list(range(len(self.class_names))):
            return self
        places = torch.full((len(self.class_names),), -1)
        places[torch.tensor(chosen)] = torch.arange(len(chosen))

        def part(load: Callable[[], Split], role: str) -> Split:
            split = load()
            check_labels(split.labels, self.class_names, f"{self.name}: the {role} split")
            indices = (places[split.labels] >= 0).nonzero().flatten()
            return split.subset(indices).relabelled(places[split.labels[indices]])

        names, load_test = tuple(self.class_names[label] for label in chosen), self.load_test
        return replace(
            self,
            class_names=names,
            classes=names,
            load_train=lambda: part(self.load_train, "training"),
            load_test=load_test and (lambda: part(load_test, "test")),
            whole=self.whole and self.whole.with_classes(wanted),
            _cache={},
        )

    def tested_on(self, labels: Sequence[int]) -> "Dataset":
        """The same dataset with the test images of some classes alone, whose labels stay as they are.

        Args:
            labels: of the classes.

        Returns:
            A new dataset with the same training split; this one stays as it is.

        Raises:
            UsageError: the dataset has no test split.
        """
        test = self.test
        chosen = torch.isin(test.labels, torch.tensor(labels)).nonzero().flatten()
        return replace(self, load_test=lambda: test.subset(chosen), _cache={"train": self.train})

    def with_holdout(self, fraction: float, *, own_test: bool = False) -> "Dataset":
        """The same dataset with ``fraction`` of each class of the training split held out as its test split.

        The choice is fixed (it depends on the fraction and the class alone), so that sets made and scored with the
        same fraction never share an image. A class of two or more images has some in either split, one of one image is
        not tested.

        Args:
            fraction: of each class, above 0 and below 1.
            own_test: test on the dataset's own test split all the same; the images held out are left out.

        Returns:
            A new dataset; this one stays as it is.

        Raises:
            UsageError: ``fraction`` is not strictly between 0 and 1; or, once the test split is asked for, no class has
                two images.
        """
        if not 0 < fraction < 1:
            raise UsageError(f"`holdout={fraction}` is not a fraction: give a number above 0 and below 1, such as 0.2.")

        def part(held: bool) -> Split:
            train = self.train
            chosen = []
            for label, indices in enumerate(train.class_indices):
                order = indices[torch.randperm(len(indices), generator=generator("holdout", fraction, label))]
                count = max(0, min(max(1, round(fraction * len(indices))), len(indices) - 1))
                chosen.append(order[:count] if held else order[count:])
            if held and not any(map(len, chosen)):
                raise UsageError(
                    f"`holdout={fraction}` leaves no image of {self.name} to test on: no class has two. Add images, or "
                    "give a test split."
                )
            return train.subset(torch.cat(chosen).sort().values)

        if own_test:
            return replace(self, load_train=lambda: part(False), _cache={})
        parted = replace(self, load_train=lambda: part(False), load_test=lambda: part(True), _cache={})
        return replace(parted, holdout=fraction, whole=self)


def is_own(name: str) -> bool:
    """Whether a dataset's name is that of a user's own data."""
    kind, _, path = name.partition(":")
    return kind in _OWN_KINDS and bool(path)


_LEAST_DEVIATION = 1e-3
"""A quarter of a grey level."""


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and population standard deviation of every channel, for pixels scaled to [0, 1], in float64.

    That of a channel of one value, or nearly so, is 1: by less, a test image of another value would be thousands of
    deviations away.
    """
    # From counts of the 256 values: exact, so that no number of threads or chunk size shows in a card.
    counts = torch.zeros(split.shape[0], 256, dtype=torch.int64)
    for batch in split.chunks():
        for channel, histogram in enumerate(counts):
            histogram += torch.bincount(batch[:, channel].flatten(), minlength=256)
    values = torch.arange(256, dtype=torch.float64) / 255
    weights = counts.double() / counts.sum(dim=1, keepdim=True)
    mean = weights @ values
    std = (weights * (values - mean[:, None]).square()).sum(dim=1).sqrt()
    std = torch.where(std < _LEAST_DEVIATION, 1.0, std)
    return tuple(round(value, 6) for value in mean.tolist()), tuple(round(value, 6) for value in std.tolist())


@contextmanager
def readable(name: str) -> Iterator[None]:
    """What the system refuses inside the block is a DataError of the dataset ``name`` that says what and why."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{name}: {error.filename or 'its data'} cannot be read: {error.strerror or error}. Allow reading it, or "
            "give another path."
        ) from error
