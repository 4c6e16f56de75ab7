"""Nothing in a file is a path, an address or a name to import: what names another file never has it opened."""

import builtins
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from distill_bench import load_dataset
from distill_bench.datasets.picture import open_image
from distill_bench.errors import DataError


def png(grey: int = 7) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def secret(tmp_path, monkeypatch) -> Path:
    """A picture that nobody gave. Opening it fails the test, by whatever door."""
    path = tmp_path / "private" / "secret.png"
    path.parent.mkdir()
    path.write_bytes(png(200))

    def guarded(real):
        def opened(file, *arguments, **options):
            if not isinstance(file, int) and os.path.basename(os.fspath(file)) in (path.name, os.fsencode(path.name)):
                pytest.fail("it was opened")
            return real(file, *arguments, **options)

        return opened

    for module, name in ((builtins, "open"), (io, "open"), (os, "open")):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))
    return path


def test_the_guard_sees_what_is_opened(secret):
    with pytest.raises(pytest.fail.Exception, match="it was opened"):
        open_image("x", secret)


def cells(kind: str, named: str) -> pa.Array:
    text = [named] * 2
    if kind == "struct of text":
        return pa.array([{"bytes": name} for name in text])
    if kind == "struct of large text":
        return pa.StructArray.from_arrays([pa.array(text, pa.large_string())], ["bytes"])
    if kind == "struct of a dictionary":
        return pa.StructArray.from_arrays([pa.array(text).dictionary_encode()], ["bytes"])
    if kind == "struct of text views":
        return pa.StructArray.from_arrays([pa.array(text, pa.string_view())], ["bytes"])
    if kind == "struct of lists":
        return pa.array([{"bytes": [name]} for name in text])
    if kind == "struct of paths":
        return pa.array(
            [{"bytes": None, "path": name} for name in text], pa.struct({"bytes": "binary", "path": "string"})
        )
    types = {"text": pa.string(), "large text": pa.large_string(), "text views": pa.string_view()}
    if kind in types:
        return pa.array(text, types[kind])
    if kind == "a dictionary":
        return pa.array(text).dictionary_encode()
    return pa.array([name.encode() for name in text], pa.binary())  # bytes, which are no picture


KINDS = [
    "struct of text", "struct of large text", "struct of a dictionary", "struct of text views", "struct of lists",
    "struct of paths", "text", "large text", "text views", "a dictionary", "bytes",
]  # fmt: skip


@pytest.mark.parametrize("how", ["absolute", "relative", "address", "file address"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_table_names_is_not_opened(tmp_path, monkeypatch, secret, kind, how):
    monkeypatch.chdir(tmp_path)
    named = {
        "absolute": str(secret),
        "relative": "private/secret.png",
        "address": "https://example.org/secret.png",
        "file address": secret.as_uri(),
    }[how]
    pq.write_table(pa.table({"image": cells(kind, named), "label": [0, 1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet") as caught:
        _ = load_dataset(f"parquet:{tmp_path / 'x.parquet'}").train
    message = str(caught.value)
    wanted = {"struct of paths": "no image bytes", "bytes": "cannot be read as an image"}
    assert wanted.get(kind, "Names of files are not followed") in message
    if kind not in wanted:
        assert "is of type" in message and "binary" in message


def test_a_pipe_that_a_table_names_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    pq.write_table(pa.table({"image": [{"bytes": str(tmp_path / "pipe.png")}], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="Names of files are not followed"):
        _ = load_dataset(f"parquet:{tmp_path / 'x.parquet'}").train


def binary(kind: str) -> pa.Array:
    data = [png(7), png(7)]
    types = {
        "binary": pa.binary(), "large": pa.large_binary(), "view": pa.binary_view(), "fixed": pa.binary(len(data[0])),
    }  # fmt: skip
    return pa.array(data, types[kind])


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("kind", ["binary", "large", "view", "fixed"])
def test_bytes_of_every_kind_are_pictures(tmp_path, kind, nested):
    column = binary(kind)
    whole = pa.StructArray.from_arrays([column], ["bytes"]) if nested else column
    pq.write_table(pa.table({"image": whole, "label": [0, 1]}), tmp_path / "x.parquet")
    train = load_dataset(f"parquet:{tmp_path / 'x.parquet'}").train
    assert (train.images(torch.arange(2)) == 7).all()


@pytest.mark.parametrize("name", ["../../private/secret.png", "/private/secret.png", "..\\secret.png"])
def test_names_in_annotations_are_compared_and_never_opened(tmp_path, secret, name):
    for path in ("data/train/n1/images/a.png", "data/val/images/val_0.png"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(png())
    table = f"val_0.png\tn1\t0\t0\t1\t1\n{name}\tn1\t0\t0\t1\t1\n"
    (tmp_path / "data" / "val" / "val_annotations.txt").write_text(table)
    with pytest.raises(DataError, match="is in one of them only"):
        _ = load_dataset(f"folder:{tmp_path / 'data'}").test


@pytest.mark.parametrize("where", ["class name", "metadata", "label names"])
def test_names_of_classes_are_text_alone(tmp_path, secret, where):
    if where == "class name":
        names = np.array([str(secret), "b"])
        np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8), np.uint8), labels=[0, 1], class_names=names)
        source = load_dataset(f"npz:{tmp_path / 'x.npz'}")
        assert source.class_names == (str(secret), "b")
    else:
        label = (
            {"names": [str(secret), "b"]}
            if where == "label names"
            else {"names_file": str(secret), "_type": "os.system"}
        )
        about = {"info": {"features": {"label": label, "image": {"decode": str(secret)}}, "download": str(secret)}}
        table = pa.table({"image": [{"bytes": png()}] * 2, "label": [0, 1]})
        pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(about)}), tmp_path / "x.parquet")
        source = load_dataset(f"parquet:{tmp_path / 'x.parquet'}")
        assert source.class_names == ((str(secret), "b") if where == "label names" else ("0", "1"))
    assert len(source.train) == 2


def test_an_array_of_objects_is_not_unpickled(tmp_path):
    class Runs:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    images = np.empty(2, object)
    images[:] = [Runs(), Runs()]
    np.savez(tmp_path / "x.npz", images=images, labels=[0, 1])
    with pytest.raises(DataError, match=r"cannot be read as an \.npz file: Object arrays cannot be loaded"):
        _ = load_dataset(f"npz:{tmp_path / 'x.npz'}").train
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("text", ["%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "<svg/>", "%PDF-1.4"])
def test_content_that_another_program_would_read_is_not_handed_on(tmp_path, monkeypatch, text):
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.png").write_bytes(text.encode())
    with pytest.raises(DataError, match="it holds none of BMP"):
        _ = load_dataset(f"folder:{tmp_path}").train


# ---- what else a table or an archive may hold


def test_two_columns_of_one_name_are_refused(tmp_path):
    image = pa.array([{"bytes": png()}])
    for names in (["image", "label", "label"], ["image", "image", "label"]):
        columns = [image if name == "image" else pa.array([0]) for name in names]
        pq.write_table(pa.Table.from_arrays(columns, names=names), tmp_path / "x.parquet")
        with pytest.raises(DataError, match="has 2 columns of the name"):
            _ = load_dataset(f"parquet:{tmp_path / 'x.parquet'}").train


@pytest.mark.parametrize("label", [2**63, 2**64 - 1])
@pytest.mark.parametrize("way", ["parquet", "npz"])
def test_labels_beyond_63_bits_are_refused(tmp_path, label, way):
    labels = np.array([0, label], np.uint64)
    if way == "npz":
        np.savez(tmp_path / "x.npz", images=np.zeros((2, 8, 8), np.uint8), labels=labels)
    else:
        pq.write_table(pa.table({"image": [{"bytes": png()}] * 2, "label": labels}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"has the label {label}"):
        load_dataset(f"{way}:{tmp_path / f'x.{way}'}")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"PAR1", b"PAR1" + b"\0" * 40 + b"PAR1", b"\x93NUMPY"])
@pytest.mark.parametrize("way", ["npz", "parquet"])
def test_errors_of_readers_stand_in_whole_sentences(tmp_path, way, content):
    (tmp_path / f"x.{way}").write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_dataset(f"{way}:{tmp_path / f'x.{way}'}")
    message = str(caught.value)
    assert ".." not in message.replace("…", "") and ": ." not in message and "\n" not in message
    assert message.endswith(("Write it again with np.savez.", "Fetch or write it again."))
