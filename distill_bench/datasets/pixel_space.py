"""The three spaces images live in (unit, normalized, zca), and the way into each and back."""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from pydantic import BaseModel, ConfigDict, PositiveFloat, model_validator
from torch import Tensor

from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.datasets.whitening import StandardizedWhitening, Whitening, standardized_whitening_of, whitening_of
from distill_bench.errors import UsageError, unknown
from distill_bench.runtime.device import send, take

RESIDENT_BYTES = 2**30

SpaceKind = Literal["unit", "normalized", "zca"]
SPACES: tuple[str, ...] = get_args(SpaceKind)
ZcaInput = Literal["unit", "normalized", "standardized"]


class PixelSpace(BaseModel):
    """What the numbers of an image tensor mean.

    ``unit``: pixels in [0, 1]. ``normalized``: (pixel − mean) / std per channel. ``zca``: whitened with the training
    split's statistics, with ``eps``, from pixels in the space ``zca_input``: one of the others, or ``standardized``, in
    which every image has mean 0 and length 1, and ``eps`` is a part of the mean eigenvalue.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: SpaceKind = "normalized"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    eps: PositiveFloat | None = None
    zca_input: ZcaInput | None = None

    @model_validator(mode="after")
    def _complete(self) -> "PixelSpace":
        if len(self.mean) != len(self.std) or min(self.std, default=0) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} need one value a channel, std above 0")
        if (self.kind == "zca") != (self.eps is not None and self.zca_input is not None):
            raise ValueError("eps and zca_input go with the kind zca, and only with it")
        return self


def pixel_space_of(dataset: Dataset, kind: SpaceKind, eps: float = 0.1, zca_input: ZcaInput = "unit") -> PixelSpace:
    """The pixel space of a kind with a dataset's own statistics.

    Raises:
        UsageError: there is no such kind, or ``eps`` is of no use in whitening.
    """
    if kind not in SPACES:
        raise UsageError(unknown("pixel space", str(kind), SPACES))
    if kind == "zca" and not 0 < eps < math.inf:
        raise UsageError(f"`zca_eps={eps:g}`: give a positive number, such as 0.1.")
    whitened = {"eps": eps, "zca_input": zca_input} if kind == "zca" else {}
    return PixelSpace(kind=kind, mean=dataset.mean, std=dataset.std, **whitened)  # type: ignore[arg-type]


class Transform:
    """Takes images into a pixel space and back.

    Args:
        space: the space.
        train: the training split, on which ZCA is fitted (and cached); not needed for the other kinds.
    """

    def __init__(self, space: PixelSpace, train: Split | None) -> None:
        self._space = space
        self._mean = torch.tensor(space.mean).view(1, -1, 1, 1)
        self._std = torch.tensor(space.std).view(1, -1, 1, 1)
        self._whitening: Whitening | StandardizedWhitening | None = None
        if space.kind == "zca":
            assert space.eps is not None
            assert train is not None, "the transform of a whitened set is fitted on a training split"
            if space.zca_input == "standardized":
                self._whitening = standardized_whitening_of(train, space.eps)
            else:
                scale = (self._mean, self._std) if space.zca_input == "normalized" else None
                self._whitening = whitening_of(train, space.eps, scale)

    @property
    def _scaled(self) -> bool:
        return "normalized" in (self._space.kind, self._space.zca_input)

    def encode(self, pixels: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """From uint8 pixels into the space, float32."""
        return self._from_unit(pixels.float().div_(255))

    def clip(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Images of the space whose pixels are brought into [0, 1]: they are what a picture of them would show."""
        if self._whitening is not None:
            return self._from_unit(self.decode(images).clamp(0, 1))
        edges = torch.stack([self._from_unit(torch.full_like(self._mean, edge)) for edge in (0.0, 1.0)])
        low, high = send(edges.to(images.dtype), images.device)
        return torch.minimum(torch.maximum(images, low), high)

    def decode(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """From the space to pixels on the scale [0, 1], not clipped: synthetic images go beyond it."""
        images = images.float()
        if self._whitening is not None:
            images = self._whitening.restore(images)
        return images * self._std + self._mean if self._scaled else images

    def _from_unit(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """From [0, 1] into the space. ``images`` belong to the caller alone: they may be overwritten."""
        if self._scaled:
            images = images.sub_(self._mean).div_(self._std)
        return images if self._whitening is None else self._whitening.whiten(images)

    def fetch(self, split: Split, device: torch.device) -> Callable[[Tensor], Tensor]:
        """From indices of ``split`` to images in the space, on ``device``.

        The split stays uint8, and what is asked for is encoded, the same to the bit. Only where that is slow
        (whitening, or another device than the CPU) is a split of up to 1 GiB in float32 encoded once and resident.
        """
        slow = self._whitening is not None or device.type != "cpu"
        if not slow or len(split) * math.prod(split.shape) * 4 > RESIDENT_BYTES:
            return lambda indices: send(self.encode(split.images(indices)), device)
        if self._whitening is not None:  # a product's last bits depend on how many rows it has
            return partial(take, self.encode(split.images(torch.arange(len(split)))).to(device))
        return partial(take, torch.cat([self.encode(pixels).to(device) for pixels in split.chunks()]))
