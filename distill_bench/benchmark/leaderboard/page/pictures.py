"""Small pictures of sets, as data URIs: of those in this machine's store, and those that lie with the results."""

import base64
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.render import render_pixels
from distill_bench.errors import DistillBenchError
from distill_bench.evaluation import Result
from distill_bench.methods.stored_sets import path_of

PICTURES = "pictures"
"""The folder among results that has pictures of their sets, each named by its set's sha256."""
_KEY, _SUM, _PNG = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}"), b"\x89PNG"
_MOST_BYTES = 1_500_000
"""Of all pictures of a page together."""
_CLASSES, _SMALL_SIDE, _IMAGES, _IMAGES_IF_LARGE, _COLOURS = 10, 16, 10, 3, 64


def pictures_of(results: Iterable[Result], folders: Sequence[Path] = ()) -> dict[str, str]:
    """Pictures of the results' sets that the store has unchanged, or that lie with the results; while there is room.

    Whitened sets of the store have none: what undoes that would have to be fitted on their training split.

    Args:
        results: in the order in which they are given room.
        folders: of results, which may have ``PICTURES``.

    Returns:
        Data URIs by the sets' sha256.
    """
    found: dict[str, str] = {}
    room = _MOST_BYTES
    for result in results:
        if result.set_sha256 is None or result.set_sha256 in found:
            continue
        distilled = None if result.pixel_space == "zca" else stored_set(result)
        content = picture(distilled) if distilled else _filed(result.set_sha256, folders)
        if content and len(content) <= room:
            room -= len(content)
            found[result.set_sha256] = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    return found


def _filed(set_sha256: str, folders: Sequence[Path]) -> bytes | None:
    """The picture of a set among results; None without one, or where a stranger's result or file is no such thing."""
    names = [folder / PICTURES / f"{set_sha256}.png" for folder in folders if _SUM.fullmatch(set_sha256)]
    contents = (path.read_bytes() for path in names if path.is_file() and path.stat().st_size <= _MOST_BYTES)
    return next((content for content in contents if content.startswith(_PNG)), None)


def stored_set(result: Result) -> DistilledSet | None:
    """The set that a result is of; None where the store has none, or another, under its key."""
    if not _KEY.fullmatch(result.cell_key or ""):  # a stranger's result names no file
        return None
    path = path_of(str(result.cell_key))
    try:
        distilled = load_distilled(path) if path.exists() else None
    except DistillBenchError:
        return None
    return distilled if distilled is not None and distilled.sha256 == result.set_sha256 else None


def picture(distilled: DistilledSet) -> bytes:
    """A PNG of few colours: a column a class, pixel by pixel, with a pixel between images."""
    pixels, labels = render_pixels(distilled), distilled.labels
    most = _IMAGES if max(pixels.shape[2:]) <= _SMALL_SIDE else _IMAGES_IF_LARGE
    sheet = _sheet([pixels[labels == label][:most] for label in labels.unique()[:_CLASSES].tolist()])
    image = Image.fromarray(sheet[0].numpy() if len(sheet) == 1 else sheet.permute(1, 2, 0).contiguous().numpy())
    content = io.BytesIO()
    image.quantize(_COLOURS).save(content, "PNG", optimize=True)
    return content.getvalue()


def _sheet(columns: list[UInt8[Tensor, "_ c h w"]]) -> UInt8[Tensor, "shown height width"]:
    channels, height, width = columns[0].shape[1:]
    channels = 1 if channels == 1 else 3
    most = max(map(len, columns))
    size = most * (height + 1) - 1, len(columns) * (width + 1) - 1
    sheet = torch.full((channels, *size), 255, dtype=torch.uint8)
    for x, column in enumerate(columns):
        for y, image in enumerate(column):
            top, left = y * (height + 1), x * (width + 1)
            sheet[:, top : top + height, left : left + width] = image[:channels]
    return sheet
