"""Arrays from outside, torch's or NumPy's, of any type of number: into what a set holds, or refused by name."""

from collections.abc import Sequence
from typing import Any

import numpy
import torch
from jaxtyping import Int64, Num, Shaped
from torch import Tensor

from distill_bench.errors import DataError

Array = Tensor | numpy.ndarray | Sequence[Any]


def as_tensor(array: Array, what: str) -> Tensor:
    """The array as a tensor on the CPU, its type of number as it was.

    Args:
        array: a tensor, a NumPy array, or nested lists of numbers.
        what: it is, for the error, such as ``"the labels"``.

    Returns:
        The tensor, detached from any graph.

    Raises:
        DataError: it is none of these, or holds something else than numbers.
    """
    if isinstance(array, Tensor):
        return array.detach().cpu()
    try:
        numbers = numpy.asarray(array)
        return torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("="), order="C"))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} are a {_kind(array)}. Give a tensor, a NumPy array or lists of numbers.") from error


def as_pixels(array: Array, what: str = "the images") -> Num[Tensor, "..."]:
    """Images as uint8, if they are integers and so 8-bit pictures, else as float16 or float32.

    Args:
        array: of any shape.
        what: it is, for the error.

    Returns:
        A tensor on the CPU.

    Raises:
        DataError: they are integers beyond 0 … 255, truth values, or no real numbers.
    """
    images = as_tensor(array, what)
    if images.dtype in (torch.uint8, torch.float16, torch.float32):
        return images
    if images.is_floating_point():
        return images.float()
    allowed = "Pixels are integers from 0 to 255 (8-bit pictures), or floats in a pixel space"
    if images.dtype == torch.bool or images.is_complex():
        raise DataError(f"{what} are of type {_kind(images)}. {allowed}.")
    numbers = images.long()
    if numbers.numel() and not 0 <= numbers.min() <= numbers.max() <= 255:
        low, high = int(numbers.min()), int(numbers.max())
        raise DataError(f"{what} are integers ({_kind(images)}) from {low} to {high}. {allowed}: scale them to that.")
    return numbers.to(torch.uint8)


def as_classes(array: Array, classes: int, what: str = "the labels", advice: str = "") -> Int64[Tensor, " n"]:
    """Class numbers from labels of any type of number: [n], [n, 1], or one-hot rows [n, classes].

    Args:
        array: the labels.
        classes: how many there are.
        what: they are, for the error.
        advice: what else may be done about numbers that are out of range, for the error.

    Returns:
        int64 [n], each at least 0 and below ``classes``.

    Raises:
        DataError: some are no class numbers, are out of range, or a row has no class or several.
    """
    labels = as_tensor(array, what)
    if labels.ndim == 2 and labels.shape[1] > 1:
        from_one_hot = one_hot_classes(labels, what)
        if from_one_hot is None:
            raise DataError(f"{what} are a matrix {tuple(labels.shape)}. Classes are [n], [n, 1] or one-hot rows.")
        labels = from_one_hot
    if labels.ndim == 2:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.is_complex():
        raise DataError(f"{what} are {_kind(labels)} {tuple(labels.shape)}. Classes are numbers [n] or [n, 1].")
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):  # NaN equals nothing
        raise DataError(f"{what} {labels[:4].tolist()} … are not class numbers: they must be whole.")
    numbers = labels.long()
    if numbers.numel() and not 0 <= numbers.min() <= numbers.max() < classes:
        low, high = int(numbers.min()), int(numbers.max())
        one_too_high = " If they count from 1, take 1 off each." if low == 1 else ""
        raise DataError(
            f"{what} run from {low} to {high}; {classes} classes allow 0 to {classes - 1}.{one_too_high}{advice}"
        )
    return numbers


def one_hot_classes(matrix: Shaped[Tensor, "n k"], what: str) -> Int64[Tensor, " n"] | None:
    """The classes of rows that hold one 1 and else 0; None if the matrix holds other numbers.

    Raises:
        DataError: all numbers are 0 or 1, but a row has no 1, or several.
    """
    if not is_zeros_and_ones(matrix):
        return None
    ones = matrix == 1
    wrong = (ones.sum(dim=1) != 1).nonzero().flatten()
    if len(wrong):
        row = int(wrong[0])
        has = ", ".join(map(str, ones[row].nonzero().flatten()[:5].tolist())) or "none"
        raise DataError(
            f"{what}: {len(wrong)} of {len(matrix)} rows do not have one class (row {row} has {has}). An image of a "
            "set has exactly one; several labels an image are not supported."
        )
    return ones.long().argmax(dim=1)


def is_zeros_and_ones(matrix: Shaped[Tensor, "n k"]) -> bool:
    """Whether a matrix holds no other numbers."""
    return bool(((matrix == 0) | (matrix == 1)).all())


def _kind(array: Any) -> str:
    dtype = getattr(array, "dtype", None)
    return type(array).__name__ if dtype is None else str(dtype).removeprefix("torch.")
