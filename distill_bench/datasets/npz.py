"""NumPy archives: images and labels as arrays, with or without a test split. Nothing in them is unpickled."""

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill_bench.datasets.classes import numbered_classes
from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.datasets.decode import resize_pixels, say_read
from distill_bench.errors import DataError, brief
from distill_bench.runtime.log import log
from distill_bench.runtime.text import listed

LAYOUTS = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("images", "labels", None, None),
)
CHANNELS = (1, 3)
MOST_UNFOLDED = 100
"""How many times larger than its file an archive's content may be; 16 MiB may be in any."""
UNFOLDED_ANYWAY = 2**24


def npz_dataset(name: str, path: Path, size: int | None = None) -> Dataset:
    """A dataset of one .npz file.

    Raises:
        DataError: the file cannot be read or has no images and labels under a known pair of names.
    """
    train, test = _array_names(path)
    class_names = _read_class_names(path, [labels for _, labels in (train, test) if labels])

    @cache
    def load_train() -> Split:
        split = _read_split(path, *train, len(class_names), size)
        say_read(name, "training", split.labels)
        return split

    def load_test() -> Split:
        split = _read_split(path, *test, len(class_names), size)
        say_read(name, "test", split.labels)
        if split.shape != load_train().shape:
            raise DataError(
                f"{path}: {test[0]} has images of {describe(split)}, {train[0]} of {describe(load_train())}. "
                "Both splits need one shape (`size=N` settles the size, not the channels)."
            )
        return split

    return Dataset(name, class_names, load_train, load_test if test[0] else None, flip_invariant=True, size=size)


def _array_names(path: Path) -> tuple[tuple[str, str], tuple[str, str]]:
    """The names of (images, labels) for train and for test; empty names where there is no test split."""
    with archive(path) as arrays:
        present = set(arrays.files)
    for images, labels, test_images, test_labels in LAYOUTS:
        if {images, labels} <= present:
            pair = {test_images, test_labels} & present
            if len(pair) == 1:
                raise DataError(f"{path} has {pair.pop()} alone: a test split is {test_images} and {test_labels}.")
            used = {images, labels, *pair, "class_names"}
            if unread := sorted(present - used):
                log.warning("%s: not read: %s.", path, listed(unread))
            return (images, labels), (str(test_images), str(test_labels)) if pair else ("", "")
    raise DataError(
        f"{path} has the arrays {listed(sorted(present)) or '(none)'}. Name them images and labels, or x_train, "
        "y_train, x_test and y_test, or train_images, train_labels, test_images and test_labels."
    )


def _read_class_names(path: Path, label_arrays: list[str]) -> tuple[str, ...]:
    """The array class_names, or the labels themselves ("0", "1", …) if there is none."""
    with archive(path) as arrays:
        if "class_names" not in arrays.files:
            return numbered_classes([read_labels(path, name) for name in label_arrays], str(path))
        names = arrays["class_names"]
    if names.ndim != 1 or names.dtype.kind != "U":
        raise DataError(f"{path}: class_names is {names.dtype} of shape {names.shape}. It is a 1-d array of strings.")
    return tuple(names.tolist())


def _read_split(path: Path, images: str, labels: str, classes: int, size: int | None) -> Split:
    """One split, resized on request.

    Raises:
        DataError: an array has the wrong shape or values, or the two differ in length.
    """
    targets = read_labels(path, labels)
    if int(targets.max()) >= classes:
        raise DataError(f"{path}: {labels} has the label {int(targets.max())}; labels run from 0 to {classes - 1}.")
    with archive(path) as arrays:
        pixels = _channels_first(_as_uint8(arrays[images], images, path), images, path)
    if len(pixels) != len(targets):
        raise DataError(f"{path}: {images} has {len(pixels)} images, but {labels} {len(targets)} labels.")
    return Split(resize_pixels(pixels, size), targets)


def read_labels(path: Path, name: str) -> Int64[Tensor, " n"]:
    """Labels as int64, of an integer array of shape [n] or [n, 1].

    Raises:
        DataError: they are not such an array, are empty, or one is negative.
    """
    with archive(path) as arrays:
        values = arrays[name]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
        raise DataError(
            f"{path}: {name} is {values.dtype} of shape {values.shape}. Labels are a 1-d array of integers, one class "
            "an image, not empty: of one-hot labels, store labels.argmax(1). Several an image are not supported."
        )
    if values.min() < 0 or values.max() >= 2**63:
        wrong = values.min() if values.min() < 0 else values.max()
        raise DataError(f"{path}: {name} has the label {wrong}; labels are 0 or above, and below 2^63.")
    return torch.from_numpy(values.astype(np.int64))


def _as_uint8(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    """The array as uint8, if that loses nothing.

    Raises:
        DataError: values are not whole numbers from 0 to 255, or are floats that only reach 1.
    """
    if array.dtype == np.uint8:
        return array
    problem = None
    if array.dtype.kind not in "iuf":
        problem = f"is of type {array.dtype}"
    elif array.size and not (array.min() >= 0 and array.max() <= 255):
        problem = f"has values from {array.min():g} to {array.max():g}"
    elif array.dtype.kind == "f" and array.size and (array.max() <= 1 or (array != np.rint(array)).any()):
        problem = f"has floats from {array.min():g} to {array.max():g}"
    if problem:
        raise DataError(
            f"{path}: {name} {problem}. Pixels are whole numbers from 0 to 255: store images as uint8 "
            "(those in 0 … 1 times 255, rounded)."
        )
    return array.astype(np.uint8)


def _channels_first(array: np.ndarray, name: str, path: Path) -> UInt8[Tensor, "n c h w"]:
    """[n, h, w], [n, h, w, c] or [n, c, h, w] as the last of these.

    Raises:
        DataError: it is none of them, or could be two of them.
    """
    if array.ndim == 3:
        return torch.from_numpy(array)[:, None].contiguous()
    first, last = (array.ndim == 4 and array.shape[axis] in CHANNELS for axis in (1, -1))
    if first == last:
        raise DataError(
            f"{path}: {name} has the shape {array.shape}. Images are [n, height, width], [n, height, width, channels] "
            "or [n, channels, height, width], with 1 or 3 channels on one of those axes only."
        )
    images = torch.from_numpy(array)
    return (images if first else images.permute(0, 3, 1, 2)).contiguous()


def describe(split: Split) -> str:
    channels, height, width = split.shape
    return f"{width}x{height} with {channels} channel{'s' if channels > 1 else ''}"


def check_unfolded(path: Path) -> None:
    """Refuse an archive whose members unfold to far more than they take: reading one would fill the memory.

    Raises:
        DataError: it is one, or no file, or damaged.
    """
    if not os.path.isfile(path):
        raise DataError(f"{path} cannot be read as an .npz file: there is no such file.")
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as opened:
            members = opened.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read as an archive: {brief(error)}.") from error
    unfolded = sum(member.file_size for member in members)
    if unfolded > UNFOLDED_ANYWAY + MOST_UNFOLDED * path.stat().st_size:
        raise DataError(
            f"{path} unfolds to {unfolded / 2**20:,.0f} MiB, more than {MOST_UNFOLDED} times its size: no images do. "
            "It was not read. If they are yours, write them with np.savez."
        )


@contextmanager
def archive(path: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """The opened archive. Whatever goes wrong with it inside the block is a DataError that names it."""
    check_unfolded(path)
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if not isinstance(loaded, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array; np.savez writes an archive")
            with loaded:
                yield loaded
    except DataError:
        raise
    except Exception as error:  # damaged files raise errors of many types, and of memory where they claim too much
        raise DataError(
            f"{path} cannot be read as an .npz file: {brief(error)}. Write it again with np.savez."
        ) from error
