"""From encoded images to one uint8 tensor."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from PIL import Image
from torch import Tensor

from distill_bench.datasets.dataset import Dataset, Split, is_own
from distill_bench.datasets.lazy import LazyFileSplit
from distill_bench.datasets.picture import DEEP, FRAMES, EncodedImage, crop_to, open_image
from distill_bench.errors import DataError
from distill_bench.runtime import reading
from distill_bench.runtime.log import log
from distill_bench.runtime.memory import memory_limit
from distill_bench.runtime.progress import Stage
from distill_bench.runtime.text import counted, listed

RESIDENT_BYTES = 4 * 2**30
"""A split that takes more as uint8 stays in its files, where it has files."""
_DARK = 64
"""Of 255. 16-bit pictures that reach no further hold values of fewer bits, or are dark."""

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class UndecodedSplit:
    """One split before decoding: the label of every image, and the images, which are gone through once.

    Attributes:
        skipped: a reason for every file that was left out; None where another library chose the files and does not say.
    """

    labels: Int64[Tensor, " n"]
    images: Iterable[EncodedImage]
    skipped: tuple[str, ...] | None = ()


def decoded_source(
    name: str,
    class_names: Iterable[str],
    read_train: Callable[[], UndecodedSplit],
    read_test: Callable[[], UndecodedSplit] | None,
    size: int | None = None,
    shape: Shape | None = None,
) -> Dataset:
    """A dataset whose splits are decoded when first asked for; one above 4 GiB whenever its images are.

    Args:
        name: the dataset's name, as the user gave it.
        class_names: in label order.
        read_train: reads the training split, its images not decoded.
        read_test: reads the test split; None if there is none.
        size: the side to resize and crop images to, or None to take them as they are.
        shape: (channels, height, width) where the dataset fixes it; otherwise the training split decides,
            and the test split follows it.

    Returns:
        The dataset.
    """

    def decode(split: UndecodedSplit, shape: Shape | None, reference: str, role: str) -> Split:
        say_read(name, role, split.labels, split.skipped)
        if large := _on_demand(split, size, shape, reference):
            return large
        with reading.stage(f"reading {name}, {role} split", len(split.labels)) as stage:
            pixels = decode_images(_advancing(split.images, stage), len(split.labels), size, shape, reference)
        return Split(pixels, split.labels)

    @cache
    def train() -> Split:
        return decode(read_train(), shape, name, "training")

    def test() -> Split:
        assert read_test is not None
        return decode(read_test(), shape or train().shape, name if shape else "the training split", "test")

    return Dataset(name, tuple(class_names), train, test if read_test else None, flip_invariant=True, size=size)


def _advancing(images: Iterable[EncodedImage], stage: Stage) -> Iterator[EncodedImage]:
    for image in images:
        yield image
        stage.advance()


def say_read(name: str, role: str, labels: Int64[Tensor, " n"], skipped: Sequence[str] | None = ()) -> None:
    """Say what a split of somebody's own data has.

    Args:
        name: the dataset's; of a named one nothing is said.
        role: training or test.
        labels: of its images.
        skipped: a reason for every file that was left out, or None where that is not known.
    """
    if not is_own(name):
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in Counter(skipped or ()).items())
    classes = len(labels.unique())
    number = "class" if classes == 1 else "classes"
    files = (
        "as `datasets` gives them (files that it passes over are not counted)"
        if skipped is None
        else f"{counted(len(skipped), 'file')} skipped{f' ({reasons})' if reasons else ''}"
    )
    reading.say(f"{name}, {role} split: {counted(len(labels), 'image')}, {classes:,} {number}, {files}")


def _on_demand(split: UndecodedSplit, size: int | None, shape: Shape | None, reference: str) -> Split | None:
    """The split with its images left in their files, if it is large and has files. Without a shape, they become RGB."""
    if not isinstance(split.images, Sequence):
        return None
    files = [encoded for _, encoded in split.images if isinstance(encoded, Path)]
    if not files:
        return None
    if shape is None:
        reference = str(files[0])
        shape = (3, *open_image(reference, files[0], size).size[::-1])
    if len(files) * math.prod(shape) <= RESIDENT_BYTES:
        return None

    def decode(files: Sequence[Path]) -> UInt8[Tensor, "k c h w"]:
        return decode_images([(str(file), file) for file in files], len(files), size, shape, reference, remarks=False)

    return LazyFileSplit(files, split.labels, shape, decode)


def decode_images(
    images: Iterable[EncodedImage],
    count: int,
    size: int | None = None,
    shape: Shape | None = None,
    reference: str = "",
    remarks: bool = True,
) -> UInt8[Tensor, "n c h w"]:
    """Decode ``count`` images of one size into one tensor.

    Without a ``shape`` the result is grey if every image is, and RGB otherwise. With one, images are converted to
    its number of channels. ``reference`` is what errors call the owner of ``shape``; ``remarks``: whether the log
    says what pictures lose.

    Raises:
        DataError: an image cannot be read, is too large, or differs in size from the others; all 16-bit ones are black.
    """
    fixed, animated, deep = shape, list[str](), dict[str, int]()
    pixels = np.empty((0, 0, 0, 0), dtype=np.uint8)
    for index, (name, encoded) in enumerate(images):
        image = open_image(name, encoded, size)
        if index == 0:
            shape, reference = (fixed, reference) if fixed else ((len(image.getbands()), *image.size[::-1]), name)
            pixels = allocate(count, shape, name)
        _check_size(name, image, pixels.shape[3], pixels.shape[2], reference)
        if image.mode == "RGB" and pixels.shape[1] == 1:
            if fixed:
                image = image.convert("L")
            else:
                # The first colour image after grey ones; what is stored so far becomes RGB with equal channels.
                pixels = np.repeat(pixels, 3, axis=1)
        array = np.asarray(image)
        pixels[index] = array.transpose(2, 0, 1) if array.ndim == 3 else array
        if image.info.get(FRAMES):
            animated.append(name)
        if image.info.get(DEEP):
            deep[name] = int(array.max())
    if remarks:
        remark(animated, deep, count)
    return torch.from_numpy(pixels)


def remark(animated: Sequence[str], deep: Mapping[str, int], count: int) -> None:
    """Say what ``count`` pictures lose.

    Args:
        animated: the names of those with several frames.
        deep: of those with 16 bits a channel, the highest value of 255 by their name.
        count: how many pictures there are.

    Raises:
        DataError: all have 16 bits, and nothing is left of them.
    """
    if animated:
        log.warning("the first frame alone is taken of %s: %s.", counted(len(animated), "picture"), listed(animated))
    highest = max(deep.values(), default=_DARK)
    if highest == 0 and len(deep) == count:
        raise DataError(
            f"all pictures have 16 bits and are black at 8: {listed(list(deep))}. No value reaches 256 of 65,535. If "
            "they hold 8-bit values, save them with 8 bits; otherwise scale them so that white is 65,535."
        )
    if highest < _DARK:
        log.warning(
            "dark at 8 bits: %s of 16 bits, whose highest value comes out as %d of 255: %s. If values of fewer bits "
            "are stored in them, scale these so that white is 65,535.",
            counted(len(deep), "picture"),
            highest,
            listed(list(deep)),
        )


def resize_pixels(pixels: UInt8[Tensor, "n c h w"], size: int | None) -> UInt8[Tensor, "n c h2 w2"]:
    """``crop_to`` for images that are arrays already; ``None`` leaves them as they are."""
    if size is None or tuple(pixels.shape[2:]) == (size, size):
        return pixels
    resized = allocate(len(pixels), (pixels.shape[1], size, size), "the dataset")
    for index, array in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        image = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else np.ascontiguousarray(array))
        resized[index] = np.asarray(crop_to(image, size)).reshape(size, size, -1).transpose(2, 0, 1)
    return torch.from_numpy(resized)


def _check_size(name: str, image: Image.Image, width: int, height: int, reference: str) -> None:
    if image.size != (width, height):
        raise DataError(
            f"{name} is {image.width}x{image.height} pixels, but {reference} is {width}x{height}: the images of a "
            "dataset have one size. Give `size=N` to resize and crop all of them to N x N."
        )


def allocate(count: int, shape: Shape, name: str) -> np.ndarray:
    need = count * math.prod(shape)
    limit = memory_limit()
    try:
        if need > limit.bytes:  # the system may promise more than there is, and end the process on its way
            raise MemoryError
        return np.empty((count, *shape), dtype=np.uint8)
    except MemoryError as error:
        raise DataError(
            f"{count} images of the size of {name} take {need / 2**30:.1f} GiB, more than there is: {limit}. "
            "Give a smaller `size=N`."
        ) from error
