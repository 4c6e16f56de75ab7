"""A distilled set as a picture: a row a class, with what was done to the pixels undone."""

import io
import math
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import transform_of
from distill_bench.errors import UsageError
from distill_bench.runtime.files import check_ending, write_atomically

_LEAST_SIDE = 48
_GAP = 4
_GUTTER = 24
"""Between strips: a name stands nearer to its own images than to those of the class beside it."""
BACKGROUND, INK, RULE = (255, 255, 255), (40, 40, 40), (200, 200, 200)
_FONT_SIZE = 14


def render_pixels(distilled: DistilledSet, dataset: Dataset | None = None) -> UInt8[Tensor, "n c h w"]:
    """The images as 8-bit pixels, clipped: synthetic values may lie beyond white and black.

    Args:
        distilled: the set.
        dataset: as for ``playback.transform_of``: a whitened set's transform is fitted on its training split.

    Returns:
        uint8 pixels, [n, c, h, w].
    """
    if distilled.images.dtype == torch.uint8:
        return distilled.images
    transform = transform_of(distilled, dataset)
    return (transform.decode(distilled.images) * 255).round().clamp(0, 255).to(torch.uint8)


def render_grid(
    distilled: DistilledSet, path: str | Path, *, dataset: Dataset | None = None, columns: int = 10
) -> None:
    """Write ``grid`` to a file.

    Args:
        distilled: the set.
        path: ends in ``.png``.
        dataset, columns: as for ``grid``.

    Raises:
        UsageError: its name does not end in .png.
        DataError: the file cannot be written.
    """
    check_ending(Path(path), ".png")
    write_atomically(Path(path), grid(distilled, dataset=dataset, columns=columns))


def grid(distilled: DistilledSet, *, dataset: Dataset | None = None, columns: int = 10) -> bytes:
    """A PNG: a row a class with its name, at most ``columns`` images of each, enlarged where they are small.

    Args:
        distilled: the set.
        dataset: as for ``render_pixels``.
        columns: images of a class at most.

    Returns:
        The file's content.

    Raises:
        UsageError: there is no column.
    """
    if columns < 1:
        raise UsageError(f"`columns={columns}`: give 1 or more.")
    pixels, labels = render_pixels(distilled, dataset), distilled.labels
    names = distilled.card.class_names
    height, width = pixels.shape[2:]
    scale = -(-_LEAST_SIDE // min(height, width)) if min(height, width) < _LEAST_SIDE else 1
    font = ImageFont.load_default(_FONT_SIZE)
    margin = int(max(font.getlength(name) for name in names)) + 3 * _GAP
    shown = [labels.eq(label).nonzero().flatten()[:columns] for label in range(len(names))]
    step_x, step_y = width * scale + _GAP, height * scale + _GAP
    strip = margin + max(map(len, shown)) * step_x + _GUTTER
    # classes fill as many strips side by side as make the sheet about square
    rows = math.ceil(len(names) / max(1, round(math.sqrt(len(names) * step_y / strip))))
    strips = math.ceil(len(names) / rows)
    sheet = Image.new("RGB", (strip * strips - _GUTTER, _GAP + rows * step_y), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    for x in range(strip, strip * strips, strip):
        draw.line((x - _GUTTER // 2, 0, x - _GUTTER // 2, sheet.height), RULE)
    for label, indices in enumerate(shown):
        left, top = label // rows * strip, _GAP + label % rows * step_y
        draw.text((left + margin - 2 * _GAP, top + height * scale / 2), names[label], INK, font, anchor="rm")
        for column, index in enumerate(indices):
            tile = _picture(pixels[index]).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(tile, (left + margin + column * step_x, top))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _picture(pixels: UInt8[Tensor, "c h w"]) -> Image.Image:
    if pixels.shape[0] == 1:
        return Image.fromarray(pixels[0].numpy()).convert("RGB")
    return Image.fromarray(pixels[:3].permute(1, 2, 0).contiguous().numpy())
