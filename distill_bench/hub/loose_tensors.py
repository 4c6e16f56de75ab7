"""Sets that come as a file a tensor: which file holds images, labels and the learning rate is told from the shapes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill_bench.errors import DataError
from distill_bench.hub.released import Foreign


@dataclass(frozen=True)
class Parts:
    """Images [n, c, h, w]; class numbers [n] or a label matrix [n, k], or neither; a learning rate, or None."""

    images: Tensor
    numbers: Tensor | None = None
    matrix: Tensor | None = None
    rate: float | None = None


def are_loose_tensors(files: Sequence[Foreign]) -> bool:
    """Whether every file is one tensor and exactly one of them holds images."""
    contents = [file.content for file in files]
    return all(isinstance(item, Tensor) for item in contents) and sum(item.ndim == 4 for item in contents) == 1


def parts_of(files: Sequence[Foreign]) -> Parts:
    """The role of each file.

    Raises:
        DataError: two files have the same role, one has none, or numbers of images and labels differ.
    """
    roles: dict[str, Tensor] = {}
    for file in files:
        tensor = file.content.detach()
        role = {4: "images", 2: "matrix", 1: "numbers", 0: "rate"}.get(tensor.ndim)
        if tensor.ndim == 1 and len(tensor) == 1 and tensor.is_floating_point():
            role = "rate"
        if role is None or role in roles:
            raise DataError(
                f"{file.path}: a tensor of shape {tuple(tensor.shape)}. A set is one tensor of images [n, c, h, w], at "
                "most one of labels [n] or [n, classes], and at most one learning rate."
            )
        roles[role] = tensor
    images = roles["images"]
    for role in ("numbers", "matrix"):
        if role in roles and len(roles[role]) != len(images):
            raise DataError(f"{len(images)} images, but {len(roles[role])} labels: the files are not of one set.")
    if "numbers" in roles and "matrix" in roles:
        raise DataError("class numbers and a label matrix: give the one that the set is to be trained with.")
    return Parts(
        images.float(),
        roles.get("numbers"),
        roles.get("matrix"),
        float(roles["rate"]) if "rate" in roles else None,
    )


def whole_numbers(numbers: Tensor, file: str) -> Tensor:
    """Class numbers as int64.

    Raises:
        DataError: some are not whole.
    """
    if numbers.is_floating_point() and not torch.equal(numbers, numbers.round()):
        raise DataError(f"{file}: labels {numbers[:4].tolist()} … are not class numbers.")
    return numbers.long()
