"""Sets for torchvision, ``datasets`` and pandas: with class names, and read by those libraries themselves."""

import sys

import numpy
import pandas
import pytest
import torch
from torchvision.datasets import ImageFolder

from distill_bench import DistilledSet, UsageError, load_dataset
from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.hub import export

NAMES = ("tram", "bus", "Ärger & Co")


@pytest.fixture
def made():
    """Six pictures of three classes, out of order, that 8 bits hold."""
    pixels = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.tensor([2, 0, 1, 1, 0, 2])
    data = Dataset("folder:/x", NAMES, lambda: Split(pixels, labels), None, flip_invariant=True)
    return DistilledSet.from_tensors(pixels, labels, data, method="mine", pixel_space="unit")


def array(picture):
    return torch.from_numpy(numpy.array(picture.convert("RGB"))).permute(2, 0, 1)


def test_torchvision_reads_an_image_folder_with_the_classes_names(made, tmp_path):
    with pytest.raises(UsageError, match="the order of the images"):
        export([made], "imagefolder", tmp_path / "out")
    assert len(export([made], "imagefolder", tmp_path / "out", lossy=True)) == 6
    read = ImageFolder(tmp_path / "out")
    assert read.classes == sorted(NAMES) and {path.name for path in (tmp_path / "out").iterdir()} == set(NAMES)
    by_class = {name: [array(picture) for picture, label in read if read.classes[label] == name] for name in NAMES}
    for label, name in enumerate(NAMES):
        assert torch.equal(torch.stack(by_class[name]), made.images[made.labels == label])


def test_datasets_reads_all_three(made, tmp_path):
    pytest.importorskip("datasets.load")  # a folder of tests is called datasets too
    import datasets

    export([made], "imagefolder", tmp_path / "pictures", lossy=True)
    export([made], "datasets", tmp_path / "repository")
    export([made], "parquet", tmp_path / "one.parquet")
    keep = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    pictures = datasets.load_dataset(str(tmp_path / "pictures"), **keep)
    assert pictures.features["label"].names == sorted(NAMES) and len(pictures) == 6
    repository = datasets.load_dataset(str(tmp_path / "repository"), **keep)
    one = datasets.load_dataset("parquet", data_files=str(tmp_path / "one.parquet"), **keep)
    for table in (repository, one, made.to_hf()):
        assert tuple(table.features["label"].names) == NAMES and table["label"][:] == made.labels.tolist()
        assert torch.equal(torch.stack([array(picture) for picture in table["image"]]), made.images)
    assert load_dataset(f"hf:{tmp_path / 'repository'}").class_names == NAMES


def test_pandas_and_our_own_reader_read_the_table(made, tmp_path):
    (path,) = export([made], "parquet", tmp_path / "one.parquet")
    assert path.read_bytes() == export([made], "parquet", tmp_path / "two.parquet")[0].read_bytes()
    assert pandas.read_parquet(path)["label"].tolist() == made.labels.tolist()
    again = load_dataset(f"parquet:{path}")
    assert again.class_names == NAMES and torch.equal(again.train.images(torch.arange(6)), made.images)


def test_soft_labels_stand_in_the_third_column(made):
    pytest.importorskip("datasets.load")
    soft = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    card = made.card.model_copy(update={"label_kind": "logits"})
    table = DistilledSet(made.images, made.labels, card, soft_labels=soft).to_hf()
    assert torch.equal(torch.tensor(table["soft_label"][:]), soft)


def test_pixels_are_from_0_to_1_in_every_space(digits):
    values = torch.tensor([-0.5, 0.25, 1.5]).repeat(5, 1).flatten()[:10].view(10, 1, 1, 1).expand(-1, 1, 8, 8)
    mean, std = torch.tensor(digits.mean), torch.tensor(digits.std)
    for images, space in ((values, "unit"), ((values - mean) / std, "normalized")):
        one = DistilledSet.from_tensors(images, torch.arange(10), digits, pixel_space=space)
        torch.testing.assert_close(one.pixels(), values.clamp(0, 1))
    eight_bit = torch.full((10, 1, 8, 8), 51, dtype=torch.uint8)
    one = DistilledSet.from_tensors(eight_bit, torch.arange(10), digits)
    assert one.pixels().dtype == torch.float32 and torch.equal(one.pixels(), torch.full((10, 1, 8, 8), 0.2))


def test_names_that_are_no_folders_and_extras_that_are_missing(made, tmp_path, monkeypatch):
    for names in (("a/b", "c", "d"), ("a", "A", "d")):
        one = DistilledSet(made.images, made.labels, made.card.model_copy(update={"class_names": names}))
        with pytest.raises(UsageError, match=r"`to=folder` numbers the folders, and `to=parquet` has the names"):
            export([one], "imagefolder", tmp_path / "no", lossy=True)
    with pytest.raises(UsageError, match=r"parquet"):
        export([made], "parquet", tmp_path / "folder")
    with pytest.raises(UsageError, match=r"takes one set; 2 were given\. Only res files hold several"):
        export([made, made], "parquet", tmp_path / "two.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"to_hf needs .* pip install 'distill_bench\[hf\]'"):
        made.to_hf()
