"""``hf:``: folders that Hugging Face's ``datasets`` reads, offline; names that lead nowhere; what is missing."""

import io
import socket
import sys
from types import SimpleNamespace

import numpy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from distill_bench import DataError, UsageError, load_dataset, synthesize
from distill_bench.datasets import hugging_face
from distill_bench.datasets.card import dataset_of
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.reading import reported_to


@pytest.fixture(scope="module")
def library():
    """The library, which may not reach for the network."""
    pytest.importorskip("datasets.load")  # the folder of these tests is called datasets too
    import datasets

    def refuse(*_, **__):
        raise OSError("the network was asked")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield datasets


@pytest.fixture
def table(library):
    """Eight pictures of a grey each, of two classes in turn; a column that is nobody's business."""
    pictures = [Image.fromarray(numpy.full((8, 8, 3), 20 * k, numpy.uint8)) for k in range(8)]
    kinds = {"id": library.Value("string"), "image": library.Image(), "label": library.ClassLabel(names=["cat", "dog"])}
    rows = {"id": list("abcdefgh"), "image": pictures, "label": [0, 1] * 4}
    return library.Dataset.from_dict(rows, features=library.Features(kinds))


def greys(split):
    return split.images(torch.arange(len(split)))[:, 0, 0, 0].tolist()


def test_a_saved_dataset_and_parquet_and_class_folders(library, table, tmp_path):
    library.DatasetDict({"train": table, "validation": table.select([0, 3])}).save_to_disk(tmp_path / "saved")
    (tmp_path / "table/data").mkdir(parents=True)
    table.to_parquet(tmp_path / "table/data/train-00000-of-00001.parquet")
    for k, picture in enumerate(table["image"]):
        folder = tmp_path / "pictures/train" / ["cat", "dog"][k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"{k}.png")
    saved, parquet, folders = (load_dataset(f"hf:{tmp_path / name}") for name in ("saved", "table", "pictures"))
    for found in (saved, parquet, folders):
        assert (found.class_names, found.train.shape, found.kind) == (("cat", "dog"), (3, 8, 8), "hf")
    assert greys(saved.train) == greys(parquet.train) == [20 * k for k in range(8)]
    assert saved.train.labels.tolist() == [0, 1] * 4 and greys(saved.test) == [0, 60]
    assert greys(folders.train) == [0, 40, 80, 120, 20, 60, 100, 140] and folders.load_test is None
    assert saved.train.fingerprint == load_dataset(f"parquet:{tmp_path / 'table'}").train.fingerprint
    made = synthesize(saved, "random", 1)
    assert torch.equal(dataset_of(made.card.source).train.labels, saved.train.labels)


def test_files_that_the_library_passes_over_are_not_said_to_be_none(library, table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    with reported_to(StreamMonitor(stream := io.StringIO())):
        assert len(load_dataset(f"hf:{tmp_path / 'saved'}").train) == 8
    assert "8 images, 2 classes, as `datasets` gives them" in stream.getvalue() and "skipped" not in stream.getvalue()


@pytest.mark.parametrize("folder", ["", "data"])
def test_a_row_that_names_a_file_elsewhere_is_refused(library, table, tmp_path, folder):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    cells = pa.array([{"bytes": None, "path": str(tmp_path / "secret.png")}] * 2, table.data.schema.field("image").type)
    rows = pa.table({"id": ["a", "b"], "image": cells, "label": pa.array([0, 1])})
    (tmp_path / "rows" / folder).mkdir(parents=True)
    place = tmp_path / "rows" / folder / "train.parquet"
    pq.write_table(rows.replace_schema_metadata(table.data.schema.metadata), place)
    with pytest.raises(DataError, match=r"row 0 of hf:.*names a file elsewhere, which is not followed"):
        load_dataset(f"hf:{tmp_path / 'rows'}").train  # noqa: B018


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        (["image"], "no column, or no single one, holds class labels. There are image"),
        (["label"], "no column, or no single one, holds images. There are label"),
    ],
)
def test_columns_that_are_missing_are_named(table, tmp_path, columns, complaint):
    table.select_columns(columns).save_to_disk(tmp_path / "rows")
    with pytest.raises(DataError, match=complaint):
        load_dataset(f"hf:{tmp_path / 'rows'}")


def test_what_is_no_dataset_says_so(library, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"hf:.*empty cannot be loaded \(.*Give a folder that load_dataset"):
        load_dataset(f"hf:{tmp_path / 'empty'}")


def test_a_repository_is_not_fetched_where_the_network_is_forbidden(monkeypatch):
    monkeypatch.setitem(
        sys.modules, "datasets", SimpleNamespace(config=SimpleNamespace(HF_HUB_OFFLINE=False), load_dataset=None)
    )
    with pytest.raises(DataError, match=r"hf:owner/name is no folder here, and DISTILL_BENCH_OFFLINE is set"):
        load_dataset("hf:owner/name")
    with pytest.raises(DataError, match=r"no folder /nowhere/at/all, and no repository has that name"):
        load_dataset("hf:/nowhere/at/all")


def test_a_card_names_no_repository_to_fetch(digits):
    card = synthesize(digits, "random", 1).card.source.model_copy(update={"name": "hf:owner/name"})
    with pytest.raises(DataError, match=r"hf:owner/name, which is no folder here.*`dataset=hf:owner/name`"):
        dataset_of(card)


def test_without_the_library_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'distill_bench\[hf\]'"):
        hugging_face.hf_dataset("hf:x", tmp_path)
