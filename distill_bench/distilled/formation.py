"""Formation: every stored image holds factor × factor smaller ones, which are cut out and enlarged when they are shown.

Source: Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (IDC, ICML 2022), and
decode_zoom of snu-mllab/Efficient-Dataset-Condensation ceac95a.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from distill_bench.datasets.pixel_space import PixelSpace


def decoded(images: Float[Tensor, "n c h w"], factor: int, fill: Float[Tensor, " c"]) -> Float[Tensor, "shown c h w"]:
    """The images that stored ones hold, as networks are shown them; differentiable.

    Args:
        images: [n, c, h, w], as they are stored.
        factor: f; 1: the images themselves.
        fill: [c], what stands right and below where a side is no multiple of the factor, see ``grey``.

    Returns:
        [n · f², c, h, w]: the f² of the first image row by row, enlarged bilinearly, then those of the second, …
    """
    if factor == 1:
        return images
    count, channels, height, width = images.shape
    tall, wide = _part(height, factor), _part(width, factor)
    edge = fill.to(images).view(1, -1, 1, 1)
    images = torch.cat([images, edge.expand(count, channels, factor * tall - height, width)], dim=2)
    images = torch.cat([images, edge.expand(count, channels, factor * tall, factor * wide - width)], dim=3)
    parts = images.view(count, channels, factor, tall, factor, wide).permute(0, 2, 4, 1, 3, 5)
    parts = parts.reshape(count * factor**2, channels, tall, wide)
    return F.interpolate(parts, size=(height, width), mode="bilinear", align_corners=False)


def composed(images: Float[Tensor, "parts c h w"], factor: int) -> Float[Tensor, "n c h w"]:
    """Stored images that hold the given ones, each made smaller: what ``decoded`` takes apart again.

    Args:
        images: [n · f², c, h, w], in the order of ``decoded``.
        factor: f; 1: the images themselves.

    Returns:
        [n, c, h, w]. Where a side is no multiple of the factor, the last row or column of parts is cut at the edge.
    """
    if factor == 1:
        return images
    count, (channels, height, width) = len(images) // factor**2, images.shape[1:]
    tall, wide = _part(height, factor), _part(width, factor)
    small = F.interpolate(images, size=(tall, wide), mode="bilinear", align_corners=False, antialias=True)
    grid = small.view(count, factor, factor, channels, tall, wide).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(count, channels, factor * tall, factor * wide)[..., :height, :width].contiguous()


def grey(space: PixelSpace) -> Float[Tensor, " c"]:
    """Half of white in a pixel space, channel by channel; for whitened images, which are never cut, that of others."""
    mean, std = torch.tensor(space.mean), torch.tensor(space.std)
    return torch.full_like(mean, 0.5) if space.kind == "unit" else (0.5 - mean) / std


def formation_trouble(factor: int, height: int, width: int, space: PixelSpace) -> str | None:
    """Why images of a size and a pixel space cannot hold factor × factor smaller ones; None if they can."""
    if factor == 1:
        return None
    if not _each_has_pixels(factor, height, width):
        allowed = [f for f in range(1, min(height, width) + 1) if _each_has_pixels(f, height, width)]
        return (
            f"images of {height}×{width} pixels do not hold {factor}×{factor} smaller ones of which each has pixels: "
            f"give one of {', '.join(map(str, allowed))}"
        )
    if space.kind == "zca":
        return (
            f"whitened images do not hold {factor}×{factor} smaller ones, since whole images are whitened: give 1, or "
            "another pixel space"
        )
    return None


def _each_has_pixels(factor: int, height: int, width: int) -> bool:
    """Whether the last row and column of smaller images begin within the stored one: what lies beyond is filler."""
    return all((factor - 1) * _part(side, factor) < side for side in (height, width))


def _part(side: int, factor: int) -> int:
    """A smaller image's side, rounded up."""
    return -(-side // factor)
