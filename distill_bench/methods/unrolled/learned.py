"""What is learned of a set: its images, and its labels where these are weights, block by block."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from distill_bench.training.student import Labels


class LearnedSet:
    """Images and labels as blocks, each with images of every class, the first k of which are a set of their own.

    Args:
        images: [n, c, h, w] in class order, where synthesis starts.
        classes: how many there are.
        sizes: images per class of every block; they sum to n / classes.
        weights: whether labels are learned, from one-hot rows on.
    """

    def __init__(self, images: Float[Tensor, "n c h w"], classes: int, sizes: Sequence[int], *, weights: bool) -> None:
        self._classes, self._sizes = classes, list(sizes)
        self._images = [part.flatten(0, 1).clone() for part in self._split(images)]
        rows = torch.eye(classes, device=images.device)
        self._labels = [rows.repeat_interleave(size, dim=0) for size in self._sizes] if weights else []

    @property
    def learnables(self) -> dict[str, Tensor]:
        """What is optimised, by name: images and labels of the first block, then those of the second, …"""
        named = zip(("images", "labels"), (self._images, self._labels), strict=True)
        return {_name(kind, block): part for kind, parts in named for block, part in enumerate(parts)}

    def present(self, block: int) -> tuple[Float[Tensor, "m c h w"], Labels]:
        """Images and labels of the blocks up to one, in class order."""
        if self._labels:
            return self._joined(self._images[: block + 1]), self._joined(self._labels[: block + 1])
        classes = torch.arange(self._classes, device=self._images[0].device)
        return self._joined(self._images[: block + 1]), classes.repeat_interleave(sum(self._sizes[: block + 1]))

    def gradients(
        self, block: int, images: Float[Tensor, "m c h w"], labels: Float[Tensor, "m k"] | None, *, old: bool
    ) -> dict[str, Tensor]:
        """Gradients by name.

        Args:
            block: up to which blocks are present.
            images, labels: the gradients of what ``present`` gives.
            old: whether earlier blocks are learned too.

        Returns:
            Those of the blocks that are learned.
        """
        named = [("images", images)] + ([] if labels is None else [("labels", labels)])
        parts = [(kind, enumerate(self._split(gradient)[: block + 1])) for kind, gradient in named]
        first = 0 if old else block
        return {_name(kind, at): part.flatten(0, 1) for kind, each in parts for at, part in each if at >= first}

    def keep_weights(self) -> None:
        """No weight is below 0."""
        for labels in self._labels:
            labels.clamp_(min=0)

    def _split(self, whole: Tensor) -> list[Tensor]:
        """[classes, size, …] of the blocks that ``whole``, in class order, has."""
        by_class = whole.unflatten(0, (self._classes, -1))
        ends = [min(sum(self._sizes[: k + 1]), by_class.shape[1]) for k in range(len(self._sizes))]
        return [by_class[:, start:end] for start, end in zip([0, *ends], ends, strict=False)]

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat([part.unflatten(0, (self._classes, -1)) for part in parts], dim=1).flatten(0, 1)


def block_of(name: str) -> int:
    """The block of a learnable, from 0."""
    return int(name.partition(" ")[2] or 1) - 1


def _name(kind: str, block: int) -> str:
    return f"{kind} {block + 1}" if block else kind
