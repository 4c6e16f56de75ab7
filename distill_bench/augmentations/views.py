"""Views of images: crops, mirrors and mixtures of two, sampled from a generator, then applied by pure functions.

A crop is two products with matrices of interpolation weights, one an axis: bilinear resizing of the region alone, whose
gradient is a product too.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from distill_bench.runtime.device import send, take

_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
_PADDING = 4

Share = Annotated[float, Field(gt=0, le=1)]
"""Of an image's area."""


class AugmentPolicy(BaseModel):
    """How views are drawn. Mirrors come with every rule, where a dataset is flip-invariant.

    Attributes:
        crop: none; ``resized``: a random part of the image, resized; ``padded``: the image shifted by up to 4 pixels,
            beside it zero; ``reflected``: beside it the image itself, mirrored at its outermost pixels.
        scale: the least and greatest share of the image's area that a resized crop has.
        tiles: the image is cut into tiles × tiles, in random order, before the crop.
        mix: none; ``cutmix``: a box of another image of the batch; ``mixup``: a weighted mean with another one.
        beta: the share of the image itself is drawn from Beta(beta, beta), once a batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop: Literal["none", "resized", "padded", "reflected"] = "resized"
    scale: tuple[Share, Share] = (0.08, 1.0)
    tiles: PositiveInt = 1
    mix: Literal["none", "cutmix", "mixup"] = "none"
    beta: PositiveFloat = 1.0


@dataclass(frozen=True)
class AugmentParams:
    """What is done to each image of a batch.

    Attributes:
        tiles: int64 [b, tiles²], the order of the tiles.
        crops: int64 [b, 4]: top, left, height, width in pixels, of the region that fills the view.
        mirrored: bool [b].
        partners: int64 [b], the image each is mixed with: a position in the batch.
        boxes: int64 [b, 4]: top, left, height, width of the partner's part; of no height if there is none.
        weights: float32 [b], the weight of the image itself outside the box.
        reflected: whether beside the image lies the image itself, mirrored; else zero.
    """

    tiles: Int64[Tensor, "b t"]
    crops: Int64[Tensor, "b 4"]
    mirrored: Bool[Tensor, " b"]
    partners: Int64[Tensor, " b"]
    boxes: Int64[Tensor, "b 4"]
    weights: Float[Tensor, " b"]
    reflected: bool = False


def sample(
    rule: AugmentPolicy, count: int, shape: tuple[int, int, int], mirror: bool, generator: Generator
) -> AugmentParams:
    """Draw the views of a batch of ``count`` images of ``shape`` (channels, height, width)."""
    _, height, width = shape
    tiles = torch.rand(count, rule.tiles**2, generator=generator).argsort(dim=1)
    crops = torch.tensor([0, 0, height, width]).repeat(count, 1)
    if rule.crop == "resized":
        crops = sample_crops(count, height, width, rule.scale, generator)
    elif rule.crop in ("padded", "reflected"):
        crops[:, :2] = torch.randint(-_PADDING, _PADDING + 1, (count, 2), generator=generator)
    mirrored = (torch.rand(count, generator=generator) < 0.5) & mirror
    partners, boxes, weights = torch.arange(count), torch.zeros(count, 4, dtype=torch.int64), torch.ones(count)
    if rule.mix != "none":
        partners = torch.randperm(count, generator=generator)
        share = _beta(rule.beta, generator)
        if rule.mix == "cutmix":
            boxes = _box(share, height, width, generator).expand(count, 4)
        else:
            weights = torch.full((count,), share)
    return AugmentParams(tiles, crops, mirrored, partners, boxes, weights, rule.crop == "reflected")


def augmentation(rule: AugmentPolicy, mirror: bool) -> Callable[[Tensor, Generator], Tensor]:
    """From a batch and a generator to its views."""

    def augment(images: Tensor, generator: Generator) -> Tensor:
        _, channels, height, width = images.shape
        return shown(sample(rule, len(images), (channels, height, width), mirror, generator), images)

    return augment


def sample_crops(
    count: int,
    height: int,
    width: int,
    scale: tuple[float, float],
    generator: Generator,
    ratio: tuple[float, float] = _RATIO,
) -> Int64[Tensor, "count 4"]:
    """Regions (top, left, height, width) of random area and shape, as torchvision's RandomResizedCrop draws them.

    The area's share is uniform in ``scale``, the logarithm of width / height in that of ``ratio``; the first of ten
    draws that fits into the image counts, else the largest central region of an allowed ratio. The numbers drawn do not
    depend on ``scale``: two scales give regions of the same position in the generator's stream.
    """
    draws = torch.rand(4, count, _TRIES, generator=generator, dtype=torch.float64)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[0])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = (low + (high - low) * draws[1]).exp()
    widths, heights = (area * shape).sqrt().round(), (area / shape).sqrt().round()
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    tops = (draws[2] * (height - heights + 1)).floor()
    lefts = (draws[3] * (width - widths + 1)).floor()
    first = fits.long().argmax(dim=1, keepdim=True)
    drawn = torch.stack([each.gather(1, first)[:, 0] for each in (tops, lefts, heights, widths)], dim=1).long()
    return torch.where(fits.any(dim=1, keepdim=True), drawn, torch.tensor(_central(height, width, ratio)))


def single(views: AugmentParams, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The views before they are mixed: tiles in their order, the crop, the mirror."""
    tiles, crops, mirrored = (send(each, images.device) for each in (views.tiles, views.crops, views.mirrored))
    return mirror(mirrored, crop(crops, shuffle_tiles(tiles, images), views.reflected))


def shown(views: AugmentParams, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """The whole views of a batch, mixed with each other."""
    own = single(views, images)
    return mixed(views, own, take(own, views.partners))


def crop(
    crops: Int64[Tensor, "k 4"], images: Float[Tensor, "b c h w"], reflected: bool = False
) -> Float[Tensor, "b c h w"]:
    """The regions resized to the image's size, bilinearly.

    Args:
        crops: top, left, height, width of every region; k = b, or 1 for all.
        images: the images.
        reflected: whether the image goes on outside itself, mirrored at its outermost pixels, which are not repeated;
            else zero lies there.

    Returns:
        The views.
    """
    height, width = images.shape[2:]
    rows = _weights(crops[:, 0], crops[:, 2], height, images, reflected)
    columns = _weights(crops[:, 1], crops[:, 3], width, images, reflected)
    return rows @ images @ columns.mT


def mirror(mirrored: Bool[Tensor, " k"], images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Mirror the images marked; k = b, or 1 for all."""
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)


def shuffle_tiles(order: Int64[Tensor, "b t"], images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Cut each image into √t × √t tiles and put tile ``order[i]`` in place i, row by row."""
    side = math.isqrt(order.shape[1])
    if side == 1:
        return images
    batch, channels, height, width = images.shape
    cut = images.view(batch, channels, side, height // side, side, width // side).permute(0, 2, 4, 1, 3, 5)
    tiles = cut.reshape(batch, side**2, channels, height // side, width // side)
    moved = tiles[torch.arange(batch, device=images.device)[:, None], order]
    grid = moved.view(batch, side, side, channels, height // side, width // side)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(images.shape)


def mixed(
    views: AugmentParams, own: Float[Tensor, "b c h w"], other: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c h w"]:
    """``own`` with ``other`` in the boxes, and outside them the mean of both with the views' weights."""
    weights = send(views.weights.to(own.dtype), own.device).view(-1, 1, 1, 1)
    top, left, height, width = (each.view(-1, 1) for each in send(views.boxes, own.device).unbind(dim=1))
    row, column = (torch.arange(side, device=own.device) for side in own.shape[2:])
    inside = ((row >= top) & (row < top + height))[:, None, :, None]
    inside = inside & ((column >= left) & (column < left + width))[:, None, None, :]
    outside = own if bool((views.weights == 1).all()) else weights * own + (1 - weights) * other
    return torch.where(inside, other, outside)


def own_share(views: AugmentParams, height: int, width: int) -> Float[Tensor, " b"]:
    """The part of each mixture that is the image itself, by area and weight."""
    covered = views.boxes[:, 2] * views.boxes[:, 3] / (height * width)
    return views.weights * (1 - covered)


def _central(height: int, width: int, ratio: tuple[float, float]) -> list[int]:
    if width / height < ratio[0]:
        size = (round(width / ratio[0]), width)
    elif width / height > ratio[1]:
        size = (height, round(height * ratio[1]))
    else:
        size = (height, width)
    return [(height - size[0]) // 2, (width - size[1]) // 2, *size]


def _weights(start: Tensor, length: Tensor, side: int, like: Tensor, reflected: bool) -> Float[Tensor, "k 1 side side"]:
    """Matrices whose row i interpolates pixel i of ``length`` pixels from ``start`` on, stretched to ``side``.

    Pixel centres lie at halves, and beyond the outermost the nearest counts: bilinear resizing without antialiasing.
    """
    place = torch.arange(side, device=like.device)
    length = length.view(-1, 1)
    at = (((place + 0.5) * length / side) - 0.5).clamp(min=0)
    below = at.floor().long().clamp(max=length - 1)
    above = (below + 1).clamp(max=length - 1)
    part = (at - below).to(like.dtype)[..., None]
    ends = [each + start.view(-1, 1) for each in (below, above)]
    first, last = (_reflected(each, side) if reflected else each for each in ends)
    rows = (place == first[..., None]) * (1 - part) + (place == last[..., None]) * part
    return rows.to(like.dtype)[:, None]


def _reflected(index: Tensor, side: int) -> Int64[Tensor, "k side"]:
    """Which pixel of a row of ``side`` lies at an index outside of it, as NumPy's ``pad`` reflects."""
    period = max(1, 2 * (side - 1))
    folded = index.abs() % period
    return torch.minimum(folded, period - folded)


def _beta(beta: float, generator: Generator) -> float:
    uniform = float(torch.rand((), generator=generator, dtype=torch.float64))
    if beta == 1:
        return uniform
    from scipy.special import betaincinv  # torch's own Beta draws from the global generator

    return float(betaincinv(beta, beta, uniform))


def _box(share: float, height: int, width: int, generator: Generator) -> Int64[Tensor, " 4"]:
    """CutMix's box (Yun et al., ICCV 2019): 1 − ``share`` of the area about a random pixel, cut at the edges."""
    sides = [int(side * math.sqrt(1 - share)) for side in (height, width)]
    centre = [int(torch.randint(side, (), generator=generator)) for side in (height, width)]
    first = [max(0, middle - side // 2) for middle, side in zip(centre, sides, strict=True)]
    last = [min(whole, middle + side // 2) for middle, side, whole in zip(centre, sides, (height, width), strict=True)]
    return torch.tensor([*first, last[0] - first[0], last[1] - first[1]])
