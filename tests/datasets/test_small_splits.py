"""Splits of few images: what is held out of small classes, classes that no image tests, channels of one value."""

import logging

import numpy
import pytest
import torch
from folders import images_folder

from distill_bench import DistilledSet, evaluate, load_dataset
from distill_bench.datasets.dataset import Dataset, Split, channel_statistics
from distill_bench.errors import UsageError
from distill_bench.evaluation.doubts import data_notes
from distill_bench.evaluation.protocol import PROTOCOLS


def split(labels, channels=1):
    labels = torch.tensor(labels)
    pixels = torch.arange(len(labels) * channels * 64).reshape(-1, channels, 8, 8) % 251
    return Split(pixels.to(torch.uint8), labels)


def data(train, test=None):
    names = tuple("abcdef"[: 1 + max(train)])
    return Dataset("folder:made", names, lambda: split(train), test and (lambda: split(test)), flip_invariant=True)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.6, 0.99])
def test_a_class_of_two_or_more_is_in_both_parts_and_one_of_one_is_trained_on(fraction):
    counts = [1, 2, 3, 10]
    parted = data([label for label, count in enumerate(counts) for _ in range(count)]).with_holdout(fraction)
    train, test = (each.labels.bincount(minlength=4).tolist() for each in (parted.train, parted.test))
    assert [a + b for a, b in zip(train, test, strict=True)] == counts
    assert test[0] == 0 and all(train) and all(test[1:])
    if fraction == 0.2:
        assert test == [0, 1, 1, 2]
    assert parted.untested == ("a",)


def test_a_holdout_of_classes_of_one_image_is_refused():
    with pytest.raises(UsageError, match=r"holdout=0\.2.*no class has two"):
        _ = data([0, 1, 2]).with_holdout(0.2).test


def test_a_class_without_a_test_image_stands_beside_the_accuracy(monkeypatch):
    short = {"epochs": 1, "networks": 1, "network": "ConvNetD1W4"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", PROTOCOLS["quick-v1"].model_copy(update=short))
    partly = data([0, 0, 1, 1, 2, 2], [0, 0, 2])
    made = DistilledSet.from_tensors(torch.rand(3, 1, 8, 8), torch.arange(3), partly, protocol="quick-v1")
    said = "the test split has no image of 1 of 3 classes: b"
    assert said in evaluate(made, partly).notes and said in data_notes(partly)
    assert data_notes(partly, [0, 2]) == () == data_notes(data([0, 1], [0, 1]))


def test_what_is_said_of_a_split_counts_its_own_classes(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images_folder(tmp_path / "pets")
    (tmp_path / "pets/test/dog").rename(tmp_path / "dogs")
    _, _, said = command(
        "evaluate", "--protocol", "full-v1", "--dataset", "folder:pets", "--networks", 1, "--network", "ConvNetD1W4"
    )
    assert "training split: 12 images, 2 classes" in said and "test split: 6 images, 1 class," in said


def test_a_channel_of_one_value_has_a_deviation_of_one():
    """By a tiny one, a test image one grey level off would be thousands of deviations away."""
    pixels = torch.randint(0, 256, (20, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels[:, 2] = 7
    mean, std = channel_statistics(Split(pixels, torch.zeros(20, dtype=torch.int64)))
    assert (mean[2], std[2]) == (round(7 / 255, 6), 1.0)
    expected = numpy.asarray(pixels[:, :2] / 255).transpose(1, 0, 2, 3).reshape(2, -1).std(1)
    assert numpy.allclose(std[:2], expected, atol=1e-6)
    pixels[0, 2, 0, 0] = 8  # one of 320 by one
    assert channel_statistics(Split(pixels, torch.zeros(20, dtype=torch.int64)))[1][2] == 1.0
    pixels[:10, 2] = 8
    assert channel_statistics(Split(pixels, torch.zeros(20, dtype=torch.int64)))[1][2] == round(0.5 / 255, 6)


def test_parquet_files_that_are_not_read_are_named(tmp_path, caplog):
    datasets = pytest.importorskip("pyarrow")
    table = datasets.table({"image": [{"bytes": png()} for _ in range(4)], "label": [0, 1, 0, 1]})
    import pyarrow.parquet

    for name in ("train", "test", "validation", "train-00000-of-00001"):
        pyarrow.parquet.write_table(table, tmp_path / f"{name}.parquet")
    with caplog.at_level(logging.WARNING):
        load_dataset(f"parquet:{tmp_path}")
    assert "left out 2 files: train-00000-of-00001.parquet, validation.parquet" in caplog.text


def png():
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (8, 8), 9).save(file, "png")
    return file.getvalue()
