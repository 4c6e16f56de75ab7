"""Differentiable siamese augmentation: sample parameters, then apply them to as many batches as wanted.

Source: Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation" (ICML 2021), and its utils.py.
Every call of the original draws one operation for the whole batch; so does ``sample``. A siamese pair is one sample
drawn for a batch of one, applied to two batches: its parameters are shared by all images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from distill_bench.runtime.device import send

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5
CROP, CUTOUT, SCALE, ROTATION = 0.125, 0.5, 1.2, 15.0


def usual_operations(flip_invariant: bool, among: tuple[str, ...] = OPERATIONS) -> tuple[str, ...]:
    """All six operations, or some of them, or those that keep the label where a mirrored image may not (digits)."""
    return among if flip_invariant else tuple(name for name in among if name != "flip")


@dataclass(frozen=True)
class Sample:
    """One operation and its parameters, each a tensor [b]; b = 1 is shared by a batch of any size.

    Attributes:
        mirrored: which images are mirrored before the operation (FYI's variant), bool [b].
    """

    operation: str
    values: dict[str, Tensor]
    mirrored: Tensor | None = None

    def to(self, device: torch.device) -> "Sample":
        """The sample on a device, its parameters sent in one copy."""
        if all(value.device == device for value in self.values.values()):
            return self
        sent = send(torch.stack(list(self.values.values())), device)
        mirrored = None if self.mirrored is None else send(self.mirrored, device)
        return Sample(self.operation, dict(zip(self.values, sent, strict=True)), mirrored)


def sample(
    operations: tuple[str, ...],
    batch: int,
    shape: tuple[int, int, int],
    generator: Generator,
    always_flip: bool = False,
) -> Sample:
    """Draw one operation, and parameters for ``batch`` images of ``shape`` (channels, height, width).

    ``always_flip`` is the DSA of FYI's code (cvlab-yonsei/FYI ae3419a, utils.py): the flip is no longer one of the
    operations to draw from; instead each image is mirrored with probability 1/2, and then undergoes one of the others.
    """
    if always_flip:
        operations = tuple(name for name in operations if name != "flip")
    operation = operations[int(torch.randint(len(operations), (), generator=generator))]
    _, height, width = shape
    uniform = partial(torch.rand, batch, generator=generator)
    integer = partial(torch.randint, size=(batch,), generator=generator)  # from low to high - 1
    values: dict[str, Tensor] = {}
    if operation == "color":
        values = {"brightness": uniform(), "saturation": uniform(), "contrast": uniform()}
    elif operation == "crop":
        reach = [int(CROP * side + 0.5) for side in (height, width)]
        values = {"down": integer(-reach[0], reach[0] + 1), "right": integer(-reach[1], reach[1] + 1)}
    elif operation == "cutout":
        hole = [int(CUTOUT * side + 0.5) for side in (height, width)]
        # an even hole's centre may lie on the far edge, as in the original
        values = {"row": integer(0, height + 1 - hole[0] % 2), "column": integer(0, width + 1 - hole[1] % 2)}
    elif operation == "flip":
        values = {"flip": uniform() < 0.5}
    elif operation == "scale":
        values = {name: uniform() * (SCALE - 1 / SCALE) + 1 / SCALE for name in ("x", "y")}
    else:
        values = {"angle": (uniform() - 0.5) * 2 * math.radians(ROTATION)}
    return Sample(operation, values, uniform() < 0.5 if always_flip else None)


def sample_several(
    operations: tuple[str, ...], batch: int, shape: tuple[int, int, int], generator: Generator
) -> list[Sample]:
    """Draw colour, mirror, then crop, scale or rotation, then cutout: those that are among the operations.

    Source: augment.py of IDC (Kim et al., ICML 2022), which NCFM's evaluation has too. Arguments as ``sample``.
    """
    kinds = (("color",), ("flip",), ("crop", "scale", "rotate"), ("cutout",))
    drawn = [tuple(name for name in kind if name in operations) for kind in kinds]
    return [sample(among, batch, shape, generator) for among in drawn if among]


def apply(drawn: Sample, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Apply a sample to a batch of normalised images; differentiable with respect to them."""
    drawn = drawn.to(images.device)
    if drawn.mirrored is not None:
        images = _flip(images, drawn.mirrored)
    return _APPLY[drawn.operation](images, **drawn.values)


def augmentation(
    flip_invariant: bool, always_flip: bool = False, among: tuple[str, ...] = OPERATIONS, several: bool = False
) -> Callable[[Tensor, Generator], Tensor]:
    """How networks are trained with DSA: an operation a batch, with parameters of its own for every image.

    Args:
        flip_invariant: whether a mirrored image keeps its label.
        always_flip: as for ``sample``.
        among: the operations.
        several: whether a batch undergoes those of ``sample_several``.

    Returns:
        From a batch and a generator to the augmented batch.
    """
    operations = usual_operations(flip_invariant, among)

    def augment(images: Tensor, generator: Generator) -> Tensor:
        batch, channels, height, width = images.shape
        shape = channels, height, width
        if several:
            for drawn in sample_several(operations, batch, shape, generator):
                images = apply(drawn, images)
            return images
        return apply(sample(operations, batch, shape, generator, always_flip), images)

    return augment


def _color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    brightness, saturation, contrast = (
        v.to(images.dtype).view(-1, 1, 1, 1) for v in (brightness, saturation, contrast)
    )
    images = images + (brightness - 0.5) * BRIGHTNESS
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (saturation * SATURATION) + grey
    level = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - level) * (contrast + CONTRAST) + level


def _crop(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    return _shift(down, images.shape[2], images) @ images @ _shift(right, images.shape[3], images).mT


def _shift(offset: Tensor, side: int, like: Tensor) -> Tensor:
    """[b, 1, side, side] matrices of 0 and 1 whose row i picks i + offset, or nothing outside the image.

    A product with them is an exact shift with zero fill, and its gradient is a product too: quicker than indexing,
    whose gradient scatters.
    """
    places = torch.arange(side, device=like.device)
    picked = places[:, None] + offset.view(-1, 1, 1, 1)
    return (picked == places).to(like.dtype)


def _cutout(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    inside = [
        (places >= start) & (places < start + hole)
        for side, centre in zip(images.shape[2:], (row, column), strict=True)
        for hole in [int(CUTOUT * side + 0.5)]
        for start in [centre.view(-1, 1) - hole // 2]
        for places in [torch.arange(side, device=images.device)]
    ]
    hole_mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return images * (~hole_mask).to(images.dtype)


def _flip(images: Tensor, flip: Tensor) -> Tensor:
    return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)


def _scale(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    zero = torch.zeros_like(x)
    return _warp(images, torch.stack([x, zero, zero, zero, y, zero], dim=1))


def _rotate(images: Tensor, angle: Tensor) -> Tensor:
    zero, cos, sin = torch.zeros_like(angle), angle.cos(), angle.sin()
    return _warp(images, torch.stack([cos, -sin, zero, sin, cos, zero], dim=1))


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear, zero outside, with align_corners off.

    The original leaves it out, and the torch 1.2.0 of its requirements.txt had it on; from torch 1.3 on, it is off
    where it is left out. Square images come out alike, to rounding. On others a rotation mixes the axes in the ratio
    of width to height here, and of width - 1 to height - 1 there.
    """
    theta = matrix.view(-1, 2, 3).to(images.dtype).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


_APPLY: dict[str, Callable[..., Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
