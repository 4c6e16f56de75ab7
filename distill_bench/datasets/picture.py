"""One encoded picture, brought to 8-bit grey or RGB as a viewer shows it. Image files are opened here and nowhere else.

Turned as its EXIF says, the first of several frames, what is transparent on white, 16 bits by their high byte.
"""

import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from distill_bench.errors import DataError, brief
from distill_bench.runtime.files import check_regular

MAX_PIXELS = 50_000_000
_SIXTEEN_BIT = ("I", "I;16", "I;16L", "I;16B", "I;16N")
GREY = ("1", "L", "LA", "La")
_WHITE_16 = 2**16 - 1
_FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Those that are pixels alone: Pillow runs another program, or reads other files, for some of the rest."""
DEEP, FRAMES = "distill_bench.deep", "distill_bench.frames"
"""Keys of ``Image.info``: the file has 16 bits a channel; it has several frames."""

EncodedImage = tuple[str, bytes | Path]
"""What errors call the image, and its file or the bytes of one."""


def open_image(name: str, encoded: bytes | Path, size: int | None = None) -> Image.Image:
    """One image in mode L or RGB; its ``info`` has ``DEEP`` and ``FRAMES``.

    Args:
        name: what errors call it.
        encoded: the bytes of a file, or where the user has one. Text is never taken for a path.
        size: see ``crop_to``.

    Returns:
        The image, upright and with 8 bits a channel.

    Raises:
        DataError: it cannot be read, or has more than ``MAX_PIXELS``.
    """
    try:
        with _stream(encoded) as stream, Image.open(stream, formats=_FORMATS) as file:
            # Checked before any pixel is decoded: a small file can claim a picture that fills the memory.
            if file.width * file.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            deep = file.mode in _SIXTEEN_BIT or ";16" in str(file.tile)
            image = eight_bit(upright(file))
            frames = file.format != "MPO" and getattr(file, "is_animated", False)  # MPO: a photograph and its previews
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{name} has more than {MAX_PIXELS // 1_000_000} million pixels, the most an image may have. "
            "Shrink it or take it out."
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{name} cannot be read as an image: it holds none of {', '.join(_FORMATS)}. Replace it or take it out."
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many types for damaged files.
        raise DataError(f"{name} cannot be read as an image: {brief(error)}. Replace it or take it out.") from error
    image.info.update({DEEP: deep, FRAMES: frames})
    return image if size is None else crop_to(image, size)


def _stream(encoded: bytes | Path) -> io.BufferedReader | io.BytesIO:
    if isinstance(encoded, bytes):
        return io.BytesIO(encoded)
    if not isinstance(encoded, Path):
        raise TypeError(f"it is a {type(encoded).__name__}, not the bytes of a file")
    check_regular(encoded)
    return encoded.open("rb")


def upright(file: Image.Image) -> Image.Image:
    """The picture turned and mirrored as its EXIF data say; as it lies where they cannot be read, as viewers do."""
    file.load()
    try:
        return ImageOps.exif_transpose(file)
    except Exception:  # of many types; damage to the pixels themselves shows in load
        return file.copy()


def eight_bit(image: Image.Image) -> Image.Image:
    """The image in mode L or RGB: 16-bit grey by its high byte, what is transparent laid on white.

    Raises:
        ValueError: its pixels are no whole numbers of 16 bits.
    """
    if image.mode in _SIXTEEN_BIT:
        return _high_byte(image)
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; save it with 8 or 16 bits per channel")
    grey = image.mode in GREY
    if not image.has_transparency_data:
        return image.convert("L" if grey else "RGB")
    layered = image.convert("LA" if grey else "RGBA")
    paper = Image.new("L" if grey else "RGB", image.size, "white")
    paper.paste(layered.convert(paper.mode), mask=layered.getchannel("A"))
    return paper


def _high_byte(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _WHITE_16:
        raise ValueError(
            f"its pixels run from {values.min()} to {values.max()}; 16 bits are 0 to {_WHITE_16}. Save it in these"
        )
    if isinstance(key := image.info.get("transparency"), int):
        values[values == key] = _WHITE_16
    return Image.fromarray((values >> 8).astype(np.uint8))


def crop_to(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to ``size`` (bilinear, antialiased) and crop the centre to size x size.

    Both are one operation on the central square, so that a long narrow image never grows large in between.
    """
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    return image.resize((size, size), Image.Resampling.BILINEAR, box=(left, top, left + side, top + side))


def is_shown_as_it_lies(content: bytes) -> bool:
    """Whether a file's pixels are shown as they are: neither turned by EXIF data nor laid on white."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as file:
            if file.format == "PNG":  # whose getexif decodes the pixels
                turned = b"eXIf" in content
            else:
                turned = file.getexif().get(ExifTags.Base.Orientation, 1) != 1
            return not (turned or file.has_transparency_data)
    except Exception:  # damaged: said when it is decoded
        return True
