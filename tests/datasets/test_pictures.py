"""Pictures as people have them: turned, transparent, of 16 bits, of several frames, among files that are none."""

import io
import logging
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from distill_bench import load_dataset, synthesize
from distill_bench.errors import DataError

CORNER = np.zeros((4, 6), np.uint8)
CORNER[0, 0] = 200
CORNER[0, 5] = 100
"""Six wide, four high; two corners tell how it lies."""


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png(values: np.ndarray, colour: int, *more: bytes) -> bytes:
    """A 16-bit PNG of [h, w, channels]; Pillow writes grey alone. ``colour``: 0 grey, 2 RGB, 4 grey + alpha, 6 RGBA."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values.reshape(height, -1))
    head = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    body = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def place(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def pixels(tmp_path: Path, content: bytes, way: str = "folder") -> np.ndarray:
    """[c, h, w] of one encoded picture that is a training split by itself."""
    if way == "parquet":
        pq.write_table(pa.table({"image": [{"bytes": content}], "label": [0]}), tmp_path / "one.parquet")
        train = load_dataset(f"parquet:{tmp_path / 'one.parquet'}").train
    else:
        place(tmp_path / way / "train" / "a" / "x.png", content)  # Pillow looks at the content alone
        train = load_dataset(f"folder:{tmp_path / way}").train
    return train.images(torch.tensor([0]))[0].numpy()


@pytest.fixture
def said(caplog):
    """What the log has of the package."""
    caplog.set_level(logging.WARNING, "distill_bench")
    return lambda: [record.getMessage() for record in caplog.records]


# ---- turned


def turned(orientation: int) -> np.ndarray:
    """The picture as a viewer shows it, by the EXIF standard's words for each value."""
    return {
        1: CORNER,
        2: CORNER[:, ::-1],
        3: CORNER[::-1, ::-1],
        4: CORNER[::-1],
        5: CORNER.T,
        6: np.rot90(CORNER, -1),
        7: CORNER[::-1, ::-1].T,
        8: np.rot90(CORNER),
    }[orientation]


@pytest.mark.parametrize("way", ["folder", "parquet"])
@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_data_say(tmp_path, orientation, form, way):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(Image.fromarray(CORNER), form, exif=exif, **options)
    assert (pixels(tmp_path, content, way)[0] == turned(orientation)).all()


def test_so_are_photographs(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    flat = np.zeros((16, 32, 3), np.uint8)
    flat[:, 16:] = 255  # the right half is white, which turned is the lower one
    found = pixels(tmp_path, encoded(Image.fromarray(flat), "JPEG", exif=exif, quality=95))
    assert found.shape == (3, 32, 16)
    assert (found[:, :12] < 60).all() and (found[:, 20:] > 195).all()


def test_exif_data_that_cannot_be_read_turn_nothing(tmp_path):
    content = encoded(Image.fromarray(CORNER), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (pixels(tmp_path, content)[0] == CORNER).all()


def test_turned_and_upright_pictures_of_one_look_are_of_one_size(tmp_path):
    """A telephone held upright: some files lie on their side, all are shown standing."""
    exif = Image.Exif()
    exif[0x0112] = 6
    place(tmp_path / "a" / "0.png", encoded(Image.fromarray(CORNER), exif=exif))
    place(tmp_path / "a" / "1.png", encoded(Image.fromarray(np.ascontiguousarray(turned(6)))))
    train = load_dataset(f"folder:{tmp_path}").train
    assert train.shape == (1, 6, 4)
    assert torch.equal(*train.images(torch.arange(2)))


# ---- transparent


def layered(mode: str) -> Image.Image:
    """Left half opaque black, right half transparent, with a hidden colour beneath."""
    alpha = np.zeros((4, 6), np.uint8)
    alpha[:, :3] = 255
    grey = np.where(alpha, 0, 90).astype(np.uint8)
    if mode == "LA":
        return Image.fromarray(np.stack([grey, alpha], -1), "LA")
    return Image.fromarray(np.stack([grey, grey, grey, alpha], -1), "RGBA")


def keyed(mode: str) -> bytes:
    """The same by a transparent colour, or a palette's transparent entry."""
    grey = Image.fromarray(np.where(np.arange(6) < 3, 0, 90).astype(np.uint8)[None].repeat(4, 0))
    if mode == "P":
        image = Image.fromarray((np.asarray(grey) // 90).astype(np.uint8), "P")
        image.putpalette([0, 0, 0, 90, 90, 90])
        return encoded(image, transparency=1)
    return encoded(grey.convert(mode), transparency=90 if mode == "L" else (90, 90, 90))


TRANSPARENT = {
    "grey and alpha": encoded(layered("LA")),
    "colour and alpha": encoded(layered("RGBA")),
    "webp": encoded(layered("RGBA"), "WEBP", lossless=True, exact=True),
    "tiff": encoded(layered("RGBA"), "TIFF"),
    "a palette's entry": keyed("P"),
    "a grey": keyed("L"),
    "a colour": keyed("RGB"),
    "a palette with alpha": encoded(layered("RGBA").quantize(4, Image.Quantize.FASTOCTREE)),
    "gif": encoded(layered("RGBA"), "GIF"),
    "16-bit grey": deep_png(
        np.where(np.arange(6) < 3, 0, 23130)[None, :, None].repeat(4, 0), 0, chunk(b"tRNS", struct.pack(">H", 23130))
    ),
    "16-bit grey and alpha": deep_png(np.asarray(layered("LA")).astype(np.uint16) * 257, 4),
    "16-bit colour and alpha": deep_png(np.asarray(layered("RGBA")).astype(np.uint16) * 257, 6),
}


@pytest.mark.parametrize("way", ["folder", "parquet"])
@pytest.mark.parametrize("content", TRANSPARENT.values(), ids=TRANSPARENT)
def test_transparent_parts_are_white_and_never_the_hidden_colour(tmp_path, content, way):
    found = pixels(tmp_path, content, way)
    assert (found[:, :, :3] == 0).all()
    assert (found[:, :, 3:] == 255).all()


def test_half_transparent_parts_are_mixed_with_white(tmp_path):
    content = encoded(Image.fromarray(np.full((2, 2, 4), (100, 0, 200, 51), np.uint8), "RGBA"))
    assert pixels(tmp_path, content)[:, 0, 0].tolist() == [224, 204, 244]  # a fifth of each, and 204 of white


def test_transparent_grey_stays_grey(tmp_path):
    assert pixels(tmp_path, TRANSPARENT["grey and alpha"]).shape == (1, 4, 6)


# ---- 16 bits


RAMP = np.linspace(0, 65535, 24).reshape(4, 6).astype(np.uint16)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, form):
    assert (pixels(tmp_path, encoded(Image.fromarray(RAMP), form))[0] == RAMP >> 8).all()


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
    colours = np.stack([RAMP, RAMP[::-1], RAMP[:, ::-1]], -1)
    assert (pixels(tmp_path, deep_png(colours, 2)) == (colours >> 8).transpose(2, 0, 1)).all()


SMALL = np.arange(24).reshape(4, 6)
BLACK = {
    "grey": encoded(Image.fromarray(SMALL.astype(np.uint16))),
    "grey tiff of 32 bits": encoded(Image.fromarray(SMALL.astype(np.int32)), "TIFF"),
    "colour": deep_png(np.stack([SMALL] * 3, -1), 2),
}


@pytest.mark.parametrize("content", BLACK.values(), ids=BLACK)
def test_8_bit_values_in_16_bits_do_not_become_black_without_a_word(tmp_path, content):
    with pytest.raises(DataError, match=r"black at 8: .*No value reaches 256 of 65,535\. If they hold 8-bit values"):
        pixels(tmp_path, content)


@pytest.mark.parametrize("colour", [0, 2])
def test_12_bit_values_in_16_bits_are_said_to_come_out_dark(tmp_path, said, colour):
    values = np.linspace(0, 4095, 24).reshape(4, 6, 1).astype(np.uint16).repeat(1 if colour == 0 else 3, 2)
    assert pixels(tmp_path, deep_png(values, colour)).max() == 15
    (message,) = said()
    assert message.startswith("dark at 8 bits: 1 picture of 16 bits, whose highest value comes out as 15 of 255: ")


def test_a_black_frame_among_bright_ones_is_no_mistake(tmp_path, said):
    place(tmp_path / "a" / "0.png", encoded(Image.fromarray(RAMP)))
    place(tmp_path / "a" / "1.png", encoded(Image.fromarray(RAMP * 0)))
    assert load_dataset(f"folder:{tmp_path}").train.images(torch.tensor([1])).max() == 0
    assert said() == []


@pytest.mark.parametrize("values", [[-1, 0], [0, 65536]])
def test_32_bit_values_beyond_16_bits_are_refused(tmp_path, values):
    with pytest.raises(DataError, match=rf"run from {values[0]} to {values[1]}; 16 bits are 0 to 65535"):
        pixels(tmp_path, encoded(Image.fromarray(np.array([values], np.int32)), "TIFF"))


# ---- several frames


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_said(tmp_path, said, form):
    first, second = (Image.fromarray(np.full((4, 6), value, np.uint8)) for value in (0, 255))
    options = {"lossless": True} if form == "WEBP" else {}
    content = encoded(first, form, save_all=True, append_images=[second], **options)
    assert (pixels(tmp_path, content) == 0).all()
    (message,) = said()
    assert message.startswith("the first frame alone is taken of 1 picture: ") and message.endswith("x.png.")


# ---- splits that stay in their files


def test_pictures_decoded_on_demand_are_shown_alike_and_counted_as_other_pictures(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 3
    place(tmp_path / "data" / "a" / "0.png", encoded(Image.fromarray(CORNER).convert("RGB"), exif=exif))
    place(tmp_path / "data" / "a" / "1.png", TRANSPARENT["colour and alpha"])
    place(tmp_path / "data" / "a" / "2.png", encoded(Image.fromarray(CORNER).convert("RGB")))
    resident = load_dataset(f"folder:{tmp_path / 'data'}").train.images(torch.arange(3))
    monkeypatch.setattr("distill_bench.datasets.decode.RESIDENT_BYTES", 0)
    lazy = load_dataset(f"folder:{tmp_path / 'data'}").train
    assert torch.equal(lazy.images(torch.arange(3)), resident)
    assert (resident[0, 0].numpy() == turned(3)).all()
    # the sum of the plain file is that of its bytes; those of the others are not, whose pixels were once read otherwise
    from hashlib import sha256

    from distill_bench.datasets.lazy import file_digests

    files = [tmp_path / "data" / "a" / f"{k}.png" for k in range(3)]
    sums = file_digests(files)
    plain = [sums[32 * k : 32 * k + 32] == sha256(file.read_bytes()).digest() for k, file in enumerate(files)]
    assert plain == [False, False, True]


# ---- files that are no pictures


def tree(root: Path) -> str:
    for name in ("train/cat/0.png", "train/dog/0.png", "train/dog/deeper/1.PNG", "test/dog/0.png"):
        place(root / name, encoded(Image.fromarray(CORNER)))
    for name in ("train/cat/.DS_Store", "train/cat/Thumbs.db", "train/.hidden/x.png", "train/dog/._0.png"):
        place(root / name, b"of the system")
    return f"folder:{root}"


def test_files_that_are_no_pictures_are_counted_and_named(tmp_path, said):
    spec = tree(tmp_path / "photos")
    _ = load_dataset(spec).train
    assert said() == []  # what systems leave is no news
    for name in ("cat/a.heic", "cat/notes.txt", "dog/deeper/b", "dog/c.mp4", "dog/d.svg", "dog/e.raw", "loose.png"):
        place(tmp_path / "photos" / "train" / name, b"anything")
    source = load_dataset(spec)
    assert source.train.labels.tolist() == [0, 1, 1]
    loose, others = said()
    train = tmp_path / "photos" / "train"
    assert loose == f"{train}: left out 1 file, in no class folder: loose.png."
    assert others.startswith(f"{train}: left out 6 files, no pictures of a kind read here (.bmp .gif .jpeg")
    assert others.endswith(": cat/a.heic, cat/notes.txt, dog/c.mp4, dog/d.svg, dog/deeper/b and 1 more.")


def test_the_command_says_so_and_not_among_results(command, tmp_path, said):
    spec = tree(tmp_path / "photos")
    place(tmp_path / "photos" / "train" / "cat" / "a.heic", b"")
    code, out, _ = command("synthesize", "random", "--dataset", spec, "--ipc", 1, "--out", tmp_path / "x.safetensors")
    assert (code, "left out" in out) == (0, False)
    assert [message for message in said() if "left out 1 file, no pictures" in message and "cat/a.heic" in message]


def test_a_class_of_none_but_other_files_names_them(tmp_path):
    spec = tree(tmp_path / "photos")
    place(tmp_path / "photos" / "train" / "eel" / "a.heic", b"")
    with pytest.raises(DataError, match=r"eel holds no image \(1 other file: a\.heic\)\. Add images \(\.bmp"):
        _ = load_dataset(spec).train


def test_names_of_files_do_not_reach_the_terminal_raw(tmp_path, said):
    spec = tree(tmp_path / "photos")
    place(tmp_path / "photos" / "train" / "cat" / "a\x1b]0;title\x07.txt", b"")
    _ = load_dataset(spec).train
    assert "\x1b" not in said()[0] and "a\\x1b]0;title\\x07.txt" in said()[0]


def test_what_is_named_a_picture_and_is_none_says_what_was_looked_for(tmp_path):
    place(tmp_path / "a" / "x.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(ran) print\n")
    with pytest.raises(DataError, match=r"x\.jpg cannot be read as an image: it holds none of BMP, DIB, GIF, JPEG"):
        _ = load_dataset(f"folder:{tmp_path}").train


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_pipes_and_devices_are_not_opened_and_links_are(tmp_path, said):
    spec = tree(tmp_path / "photos")
    os.mkfifo(tmp_path / "photos" / "train" / "cat" / "pipe.png")
    (tmp_path / "photos" / "train" / "cat" / "zero.png").symlink_to("/dev/zero")
    outside = place(tmp_path / "elsewhere" / "x.png", encoded(Image.fromarray(turned(3).copy())))
    (tmp_path / "photos" / "train" / "cat" / "link.png").symlink_to(outside)
    train = load_dataset(spec).train
    assert train.labels.tolist() == [0, 0, 1, 1]
    assert "left out 2 files" in said()[0] and "cat/pipe.png, cat/zero.png" in said()[0]
    assert (train.images(torch.tensor([1]))[0, 0].numpy() == turned(3)).all()


# ---- folders that cannot be read


@pytest.mark.parametrize("where", ["train", "train/cat", "train/dog/deeper", "test", "test/dog"])
def test_folders_that_may_not_be_read_say_why(tmp_path, monkeypatch, where):
    spec, closed = tree(tmp_path / "photos"), str(tmp_path / "photos" / where)
    scandir, listdir = os.scandir, os.listdir

    def refusing(real):
        def opened(path="."):
            if os.fspath(path).rstrip("/") == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        return opened

    monkeypatch.setattr(os, "scandir", refusing(scandir))
    monkeypatch.setattr(os, "listdir", refusing(listdir))

    def read() -> None:
        source = load_dataset(spec)
        _ = source.train, source.test

    with pytest.raises(DataError, match=f"{closed} cannot be read: Permission denied. Allow reading it"):
        read()


def test_a_path_too_long_for_the_system_is_said(tmp_path):
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        load_dataset(f"folder:{tmp_path / ('x' * 300)}")


# ---- sizes


def test_mixed_sizes_are_refused_after_turning(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    place(tmp_path / "a" / "0.png", encoded(Image.fromarray(CORNER)))
    place(tmp_path / "a" / "1.png", encoded(Image.fromarray(CORNER), exif=exif))
    with pytest.raises(DataError, match=r"1\.png is 4x6 pixels, but \S+0\.png is 6x4: .* Give `size=N`"):
        _ = load_dataset(f"folder:{tmp_path}").train
    assert load_dataset(f"folder:{tmp_path}", size=4).train.shape == (1, 4, 4)


def test_sets_of_such_pictures_are_made(tmp_path):
    for index, content in enumerate((TRANSPARENT["colour and alpha"], encoded(Image.fromarray(RAMP)))):
        place(tmp_path / "ab"[index] / "x.png", content)
    made = synthesize(load_dataset(f"folder:{tmp_path}"), "random", 1)
    assert made.images.shape == (2, 3, 4, 6)
