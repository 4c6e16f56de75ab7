"""Sources: what loads, in which order and with which numbers, and what every refusal says."""

import hashlib
import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageFile

from distill_bench.datasets import Split, list_datasets, load_dataset
from distill_bench.datasets.builtin import BUILT_IN
from distill_bench.datasets.dataset import channel_statistics
from distill_bench.errors import DataError, UsageError

DIGITS_TRAIN = "97e682950bc271fb"
DIGITS_TEST = "734fcda680438bfc"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")


def picture(seed: int, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> Image.Image:
    width, height = size
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def png(image: Image.Image, tmp_path: Path) -> bytes:
    image.save(tmp_path / "one.png")
    return (tmp_path / "one.png").read_bytes()


def save(image: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def make_folder(root: Path, classes=("cat", "dog"), mode="RGB", splits=("train", "test")) -> Path:
    for split in splits:
        for number, name in enumerate(classes):
            for index in range(3):
                save(picture(10 * number + index, mode=mode), root / split / name / f"{split}{index}.png")
    return root


def write_parquet(path: Path, tmp_path, labels, names=None, columns=("image", "label"), nested=True, mode="L", size=6):
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [png(picture(index, (size, size), mode), tmp_path) for index in range(len(labels))]
    cells = [{"bytes": data, "path": None} for data in images] if nested else images
    table = pa.table({columns[0]: cells, columns[1]: labels})
    if names:
        features = {columns[1]: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=4)


def refusal(spec: str, split: str = "train", **options) -> str:
    with pytest.raises(DataError) as caught:
        getattr(load_dataset(spec, **options), split)
    return str(caught.value)


# Names and digits


def test_names():
    small = ["digits", "mnist", "fashion_mnist", "svhn", "cifar10", "cifar100"]
    subsets = ["imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow"]
    assert list_datasets() == [*small, "tiny_imagenet", "imagenet", *subsets]


@pytest.mark.parametrize("name", ["imagenet1k", "", "folder:", "zip:photos", "digits:"])
def test_unknown_names_say_what_is_allowed(name):
    with pytest.raises(UsageError, match=r"digits, mnist.*cifar100.*folder:PATH, parquet:PATH, npz:PATH"):
        load_dataset(name)


@pytest.mark.parametrize("size", [0, -1, 100_000])
def test_size_out_of_range(size):
    with pytest.raises(UsageError, match="from 1 to 4096"):
        load_dataset("digits", size=size)


def test_digits():
    source = load_dataset("digits")
    assert source.train.shape == source.test.shape == (1, 8, 8)
    assert len(source.train) + len(source.test) == 1797
    assert (source.class_names, source.flip_invariant, source.name) == (tuple("0123456789"), False, "digits")
    assert source.train.fingerprint.startswith(DIGITS_TRAIN)
    assert source.test.fingerprint.startswith(DIGITS_TEST)


def test_digits_are_scaled_and_stratified():
    from sklearn.datasets import load_digits

    source, bunch = load_dataset("digits"), load_digits()
    everything = torch.cat([source.train.images(torch.arange(1438)), source.test.images(torch.arange(359))])
    assert int(everything.max()) == 255
    # No image in both: the two splits together are the whole dataset, as a multiset.
    expected = sorted(image.tobytes() for image in np.rint(bunch.images * 255 / 16).astype(np.uint8))
    assert sorted(image.numpy().tobytes() for image in everything) == expected
    for label, count in enumerate(np.bincount(bunch.target)):
        assert len(source.test.class_indices[label]) == round(0.2 * count)


def test_digits_at_another_size():
    source = load_dataset("digits", size=16)
    assert source.train.shape == source.test.shape == (1, 16, 16)
    assert source.size == 16


def test_holdout_is_disjoint_stratified_and_fixed():
    whole, source = load_dataset("digits").train, load_dataset("digits", holdout=0.25)
    images = [{(i.numpy().tobytes()) for i in s.images(torch.arange(len(s)))} for s in (source.train, source.test)]
    assert not images[0] & images[1]
    assert images[0] | images[1] == {i.numpy().tobytes() for i in whole.images(torch.arange(len(whole)))}
    assert len(source.train) + len(source.test) == len(whole)
    assert [len(k) for k in source.test.class_indices] == [round(0.25 * len(k)) for k in whole.class_indices]
    assert source.test.fingerprint == load_dataset("digits", holdout=0.25).test.fingerprint


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0])
def test_holdout_out_of_range(fraction):
    with pytest.raises(UsageError, match="above 0 and below 1"):
        load_dataset("digits", holdout=fraction)


def test_channel_statistics_match_numpy():
    pixels = torch.randint(0, 256, (50, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(Split(pixels, torch.zeros(50, dtype=torch.int64)))
    reference = pixels.numpy() / 255
    assert mean == pytest.approx(reference.mean((0, 2, 3)), abs=1e-6)
    assert std == pytest.approx(reference.std((0, 2, 3)), abs=1e-6)


def test_fingerprint_is_over_pixels_then_labels():
    split = load_dataset("digits").test
    pixels, labels = split.images(torch.arange(len(split))).numpy(), split.labels.numpy()
    assert split.fingerprint == hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


# Folders


def test_folder(tmp_path):
    root = make_folder(tmp_path / "photos", classes=("dog", "cat"))
    (root / "train" / ".cache").mkdir()
    (root / "train" / "cat" / "._train0.png").write_bytes(b"not an image")
    (root / "train" / "cat" / "notes.txt").write_text("ignored")
    source = load_dataset(f"folder:{root}")
    assert source.name == f"folder:{root}"
    assert source.class_names == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.train.shape == source.test.shape == (3, 6, 6)
    expected = np.asarray(Image.open(root / "train" / "dog" / "train1.png")).transpose(2, 0, 1)
    assert (source.train.images(torch.tensor([4]))[0].numpy() == expected).all()
    assert source.flip_invariant
    assert len(source.mean) == len(source.std) == 3


def test_folder_with_val_nested_files_and_a_missing_test_class(tmp_path):
    root = make_folder(tmp_path, splits=("train",))
    save(picture(0), root / "val" / "dog" / "images" / "deep.JPEG")
    assert load_dataset(f"folder:{root}").test.labels.tolist() == [1]


def test_folder_without_splits_is_training_only(tmp_path):
    make_folder(tmp_path, splits=("photos",))
    source = load_dataset(f"folder:{tmp_path / 'photos'}")
    assert len(source.train) == 6
    with pytest.raises(UsageError, match=r"`holdout=0\.2`"):
        _ = source.test
    assert len(load_dataset(f"folder:{tmp_path / 'photos'}", holdout=0.34).test) == 2


def test_grey_and_colour(tmp_path):
    grey = make_folder(tmp_path / "grey", mode="L")
    save(picture(5), grey / "test" / "cat" / "colour.png")
    source = load_dataset(f"folder:{grey}")
    assert source.train.shape == source.test.shape == (1, 6, 6)

    mixed = make_folder(tmp_path / "mixed", mode="L")
    save(picture(5), mixed / "train" / "dog" / "colour.png")
    source = load_dataset(f"folder:{mixed}")
    assert source.train.shape == source.test.shape == (3, 6, 6)
    first = source.train.images(torch.tensor([0]))[0].numpy()
    assert (first == np.asarray(Image.open(mixed / "train" / "cat" / "train0.png"))).all()


def test_every_mode_decodes(tmp_path):
    root, colour = tmp_path / "modes", picture(0)
    sixteen = Image.fromarray(np.full((6, 6), 0x7F12, dtype=np.uint16))
    save(sixteen, root / "grey" / "a.png")
    save(colour.convert("1"), root / "grey" / "b.png")
    save(colour.convert("LA"), root / "grey" / "c.png")
    save(colour.convert("P"), root / "colour" / "a.png")
    save(colour.convert("RGBA"), root / "colour" / "b.webp")
    save(colour.convert("CMYK"), root / "colour" / "c.jpg")
    save(colour.convert("P"), root / "colour" / "d.gif")
    train = load_dataset(f"folder:{root}").train
    assert (len(train), train.shape) == (7, (3, 6, 6))
    assert (train.images(torch.tensor([4])) == 0x7F).all()


def test_size_resizes_the_shorter_side_and_crops_the_centre(tmp_path):
    # Red, green, blue thirds side by side: the centre square is green.
    stripes = np.zeros((10, 30, 3), dtype=np.uint8)
    for third in range(3):
        stripes[:, 10 * third : 10 * third + 10, third] = 255
    save(Image.fromarray(stripes), tmp_path / "wide" / "stripes.png")
    save(picture(0, (7, 40)), tmp_path / "tall" / "noise.png")
    train = load_dataset(f"folder:{tmp_path}", size=4).train
    assert train.shape == (3, 4, 4)
    inner = train.images(torch.tensor([1]))[0, :, :, 1:3]
    assert (inner[1] == 255).all()
    assert (inner[[0, 2]] == 0).all()


def test_mixed_sizes_name_the_file_both_sizes_and_the_rule(tmp_path):
    root = make_folder(tmp_path)
    save(picture(0, (5, 7)), root / "train" / "dog" / "odd.png")
    message = refusal(f"folder:{root}")
    assert "odd.png is 5x7" in message
    assert "train0.png is 6x6" in message
    assert "`size=N`" in message
    assert load_dataset(f"folder:{root}", size=5).train.shape == (3, 5, 5)


def test_test_split_of_another_size(tmp_path):
    root = make_folder(tmp_path, splits=("train",))
    save(picture(0, (8, 8)), root / "test" / "dog" / "big.png")
    assert "big.png is 8x8 pixels, but the training split is 6x6" in refusal(f"folder:{root}", "test")


def test_damaged_images(tmp_path):
    root = make_folder(tmp_path)
    (root / "train" / "cat" / "train1.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    assert "train1.png cannot be read as an image" in refusal(f"folder:{root}")
    whole = (root / "test" / "cat" / "test0.png").read_bytes()
    (root / "train" / "cat" / "train1.png").write_bytes(whole[: len(whole) // 2])
    assert "train1.png cannot be read as an image" in refusal(f"folder:{root}")


def test_floating_point_images_are_refused(tmp_path):
    save(Image.fromarray(np.zeros((6, 6), dtype=np.float32)), tmp_path / "a" / "depth.tif")
    assert "floating-point" in refusal(f"folder:{tmp_path}")


@pytest.mark.parametrize("side", [8_000, 10_000, 30_000])  # ours, Pillow's warning, Pillow's error
def test_huge_images_are_refused_before_decoding(tmp_path, monkeypatch, side):
    chunks = [b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(b"")]
    framed = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        assert "bomb.png has more than 50 million pixels" in refusal(f"folder:{tmp_path}")


def test_more_images_than_memory(tmp_path, monkeypatch):
    spec, empty = f"folder:{make_folder(tmp_path)}", np.empty

    def refuse(shape, dtype):
        if 0 in shape:
            return empty(shape, dtype)
        raise MemoryError

    monkeypatch.setattr("distill_bench.datasets.decode.np.empty", refuse)
    assert "6 images of the size of" in (message := refusal(spec))
    assert "`size=N`" in message


def test_folder_layout_errors(tmp_path):
    assert "is not a folder" in refusal(f"folder:{tmp_path / 'nowhere'}")
    (tmp_path / "flat").mkdir()
    save(picture(0), tmp_path / "flat" / "a.png")
    assert "no class folders" in refusal(f"folder:{tmp_path / 'flat'}")
    make_folder(tmp_path / "testonly", splits=("test",))
    assert "no train/" in refusal(f"folder:{tmp_path / 'testonly'}")

    root = make_folder(tmp_path / "unknown")
    save(picture(0), root / "test" / "bird" / "a.png")
    assert str(root / "test" / "bird") in refusal(f"folder:{root}")

    root = make_folder(tmp_path / "hollow")
    (root / "train" / "ant").mkdir()
    assert f"{root / 'train' / 'ant'} holds no image" in refusal(f"folder:{root}")


# Parquet


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label")])
def test_parquet(tmp_path, nested, columns):
    root = tmp_path / "data set"
    write_parquet(root / "train.parquet", tmp_path, [0, 1, 2] * 4, "abc", columns, nested)
    write_parquet(root / "test.parquet", tmp_path, [2, 1], "abc", columns, nested)
    source = load_dataset(f"parquet:{root}")
    assert source.class_names == ("a", "b", "c")
    assert source.train.labels.tolist() == [0, 1, 2] * 4
    assert source.train.shape == (1, 6, 6)
    for index in (0, 7, 11):
        expected = np.asarray(picture(index, mode="L"))
        assert (source.train.images(torch.tensor([index]))[0, 0].numpy() == expected).all()
    assert source.test.labels.tolist() == [2, 1]


def test_parquet_shards_under_data_with_validation(tmp_path):
    root = tmp_path / "snapshot"
    write_parquet(root / "data" / "train-00001-of-00002.parquet", tmp_path, [1, 1])
    write_parquet(root / "data" / "train-00000-of-00002.parquet", tmp_path, [0])
    write_parquet(root / "data" / "validation-00000-of-00001.parquet", tmp_path, [1])
    source = load_dataset(f"parquet:{root}")
    assert source.class_names == ("0", "1")
    assert source.train.labels.tolist() == [0, 1, 1]
    assert source.test.labels.tolist() == [1]
    (root / "data" / "train-00001-of-00002.parquet").unlink()
    assert "has 1 of the 2 files" in refusal(f"parquet:{root}")


def test_parquet_of_one_file(tmp_path):
    write_parquet(tmp_path / "mine.parquet", tmp_path, [0, 1], mode="RGB", size=9)
    source = load_dataset(f"parquet:{tmp_path / 'mine.parquet'}", size=5)
    assert source.train.shape == (3, 5, 5)
    assert source.load_test is None


@pytest.mark.parametrize(("label", "said"), [(-1, "label -1"), (3, "label 3"), (None, "label None")])
def test_parquet_labels_out_of_range(tmp_path, label, said):
    write_parquet(tmp_path / "p" / "train.parquet", tmp_path, [0, 1, 2], "abc")
    write_parquet(tmp_path / "p" / "test.parquet", tmp_path, [0, label], "abc")
    message = refusal(f"parquet:{tmp_path / 'p'}", "test")
    assert said in message
    assert "row 1 of" in message
    assert "test.parquet" in message


def test_parquet_class_without_training_image(tmp_path):
    write_parquet(tmp_path / "train.parquet", tmp_path, [0, 2], "abc")
    assert "no training image has the label 1 ('b')" in refusal(f"parquet:{tmp_path}")


def test_parquet_files_that_disagree(tmp_path):
    write_parquet(tmp_path / "train.parquet", tmp_path, [0, 1], "ab")
    write_parquet(tmp_path / "test.parquet", tmp_path, [0, 1], "ba")
    assert "other class names" in refusal(f"parquet:{tmp_path}")


def test_parquet_errors(tmp_path):
    assert "no train.parquet" in refusal(f"parquet:{tmp_path}")
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 but not really")
    assert "x.parquet cannot be read as a parquet file" in refusal(f"parquet:{path}")
    write_parquet(path, tmp_path, [0, 1], columns=("picture", "label"))
    assert "no column image or img; it has picture, label" in refusal(f"parquet:{path}")
    write_parquet(path, tmp_path, ["cat", "dog"])
    assert "Labels are integers" in refusal(f"parquet:{path}")
    write_parquet(path, tmp_path, [])
    assert "x.parquet" in refusal(f"parquet:{path}")
    pq.write_table(pa.table({"image": [[1, 2], [3]], "label": [0, 1]}), path)
    assert "encoded files" in refusal(f"parquet:{path}")
    pq.write_table(pa.table({"image": [b"junk", b"junk"], "label": [0, 1]}), path)
    assert f"row 0 of {path} cannot be read as an image" in refusal(f"parquet:{path}")
    cells = [{"bytes": png(picture(0), tmp_path), "path": "a"}, {"bytes": None, "path": "b"}]
    pq.write_table(pa.table({"image": cells, "label": [0, 1]}), path)
    assert "row 1 of" in refusal(f"parquet:{path}")
    assert "no image bytes" in refusal(f"parquet:{path}")


# NumPy archives

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
LABELS = np.array([0, 1, 1, 0])


def save_npz(tmp_path: Path, **arrays) -> str:
    np.savez(tmp_path / "own.npz", **arrays)
    return f"npz:{tmp_path / 'own.npz'}"


@pytest.mark.parametrize(
    "images",
    [PIXELS, PIXELS[..., None], PIXELS[:, None], PIXELS.astype(np.int64), PIXELS.astype(np.float32)],
    ids=["nhw", "nhwc", "nchw", "int64", "whole floats"],
)
def test_npz_layouts(tmp_path, images):
    source = load_dataset(save_npz(tmp_path, images=images, labels=LABELS))
    assert source.train.shape == (1, 5, 6)
    assert (source.train.images(torch.arange(4))[:, 0].numpy() == PIXELS).all()
    assert (source.class_names, source.load_test) == (("0", "1"), None)


@pytest.mark.parametrize(
    "names", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"]
)
def test_npz_with_a_test_split(tmp_path, names):
    colour = np.stack([PIXELS] * 3, axis=-1)
    arrays = dict(zip(names.split(), [colour, LABELS[:, None], colour[:2], LABELS[:2]], strict=True))
    source = load_dataset(save_npz(tmp_path, class_names=np.array(["cat", "dog"]), **arrays), size=4)
    assert source.class_names == ("cat", "dog")
    assert source.train.shape == source.test.shape == (3, 4, 4)
    assert source.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": PIXELS}, "has the arrays pictures"),
        ({"x_train": PIXELS, "y_train": LABELS, "x_test": PIXELS}, "x_test alone"),
        ({"images": PIXELS, "labels": LABELS[:3]}, "4 images, but labels 3 labels"),
        ({"images": PIXELS, "labels": LABELS - 1}, "label -1"),
        ({"images": PIXELS, "labels": LABELS * 1.0}, "1-d array of integers"),
        ({"images": PIXELS, "labels": LABELS + 5, "class_names": np.array(["a", "b"])}, "run from 0 to 1"),
        ({"images": PIXELS, "labels": LABELS, "class_names": np.array([1, 2])}, "1-d array of strings"),
        ({"images": PIXELS / 255, "labels": LABELS}, "store images as uint8"),
        ({"images": (PIXELS > 99) * 1.0, "labels": LABELS}, "floats from 0 to 1"),
        ({"images": PIXELS * np.nan, "labels": LABELS}, "store images as uint8"),
        ({"images": PIXELS.astype(int) + 200, "labels": LABELS}, "values from"),
        ({"images": PIXELS > 99, "labels": LABELS}, "of type bool"),
        ({"images": np.zeros((4, 3, 5, 3), np.uint8), "labels": LABELS}, "shape (4, 3, 5, 3)"),
        ({"images": np.zeros((4, 5, 5, 2), np.uint8), "labels": LABELS}, "shape (4, 5, 5, 2)"),
        ({"images": np.array([None] * 4), "labels": LABELS}, "cannot be read"),
    ],
)
def test_npz_errors(tmp_path, arrays, said):
    message = refusal(save_npz(tmp_path, **arrays))
    assert said in message
    assert "own.npz" in message


def test_npz_splits_of_different_shapes(tmp_path):
    spec = save_npz(tmp_path, x_train=PIXELS, y_train=LABELS, x_test=PIXELS[:, :3], y_test=LABELS)
    assert "6x3 with 1 channel, x_train of 6x5" in refusal(spec, "test")


def test_npz_that_is_none(tmp_path):
    assert "cannot be read" in refusal(f"npz:{tmp_path / 'nowhere.npz'}")
    np.save(tmp_path / "one.npy", PIXELS)
    assert "single array" in refusal(f"npz:{tmp_path / 'one.npy'}")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 truncated")
    assert "bad.npz cannot be read" in refusal(f"npz:{tmp_path / 'bad.npz'}")


# Built-in datasets


def home_of(tmp_path: Path, name: str) -> Path:
    return tmp_path / "home" / "sources" / name


@pytest.mark.parametrize("name", list(BUILT_IN))
@pytest.mark.parametrize("split", ["train", "test"])
def test_missing_and_offline_says_what_to_put_where(tmp_path, name, split):
    message = refusal(name, split)
    assert str(home_of(tmp_path, name)) in message
    for part in ("DISTILL_BENCH_OFFLINE", "train.parquet and test.parquet", "train/<class>/", "torchvision/"):
        assert part in message
    assert BUILT_IN[name].files in message


def test_facts_need_no_files():
    source = load_dataset("cifar100")
    assert len(set(source.class_names)) == 100
    assert list(source.class_names) == sorted(source.class_names)
    assert (source.mean, source.std) == ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762))
    invariant = {name: load_dataset(name).flip_invariant for name in ("digits", *BUILT_IN)}
    assert [name for name, flips in invariant.items() if not flips] == ["digits", "mnist", "svhn"]
    assert load_dataset("svhn").mean == (0.4377, 0.4438, 0.4728)
    assert load_dataset("svhn").std == (0.1980, 0.2010, 0.1970)


def test_a_failed_download_names_the_files_and_the_reason(monkeypatch):
    from torchvision.datasets import CIFAR100

    def unreachable(self):
        raise OSError("no route to host")

    monkeypatch.delenv("DISTILL_BENCH_OFFLINE")
    monkeypatch.setattr(CIFAR100, "download", unreachable)
    message = refusal("cifar100")
    assert "no route to host" in message
    assert "cifar-100-python/train, test and meta" in message


def test_builtin_from_torchvision_files(tmp_path):
    raw = home_of(tmp_path, "mnist") / "torchvision" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (10, 28, 28), dtype=np.uint8)
    for split in ("train", "t10k"):
        images = struct.pack(">IIII", 2051, 10, 28, 28) + pixels.tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 10) + bytes(range(10)))
    source = load_dataset("mnist")
    assert (source.train.images(torch.arange(10))[:, 0].numpy() == pixels).all()
    assert source.train.labels.tolist() == source.test.labels.tolist() == list(range(10))
    assert load_dataset("mnist", size=32).test.shape == (1, 32, 32)


def test_svhn_from_torchvision_files(tmp_path, monkeypatch):
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    root = home_of(tmp_path, "svhn") / "torchvision"
    root.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
    sums = {}
    for split in ("train", "test"):
        labels = np.arange(1, 11, dtype=np.uint8)[:, None]  # the files call the digit 0 by the label 10
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels})
        digest = hashlib.md5((root / f"{split}_32x32.mat").read_bytes()).hexdigest()
        sums[split] = [*SVHN.split_list[split][:2], digest]
    monkeypatch.setattr(SVHN, "split_list", SVHN.split_list | sums)
    source = load_dataset("svhn")
    assert source.train.labels.tolist() == source.test.labels.tolist() == [*range(1, 10), 0]
    assert (source.train.images(torch.arange(10)).numpy() == pixels.transpose(3, 2, 0, 1)).all()
    assert load_dataset("svhn", size=16).test.shape == (3, 16, 16)


def test_builtin_from_parquet_spelt_as_hugging_face_does(tmp_path):
    names = [{"crab": "cra"}.get(name, name) for name in BUILT_IN["cifar100"].class_names]
    folder = home_of(tmp_path, "cifar100")
    for split in ("train", "test"):
        path = folder / f"{split}-00000-of-00001.parquet"
        write_parquet(path, tmp_path, list(range(100)), names, ("img", "fine_label"), mode="RGB", size=32)
    source = load_dataset("cifar100")
    assert source.class_names == BUILT_IN["cifar100"].class_names
    assert source.train.labels.tolist() == list(range(100))
    assert (source.train.shape, source.mean[0]) == ((3, 32, 32), 0.5071)


def test_builtin_from_folders_keeps_the_canonical_order(tmp_path):
    names = BUILT_IN["fashion_mnist"].class_names
    for label, name in enumerate(names):
        for split in ("train", "val"):
            image = Image.new("RGB", (28, 28), (label, label, label))
            save(image, home_of(tmp_path, "fashion_mnist") / split / name.replace("/", "_") / "0.png")
    source = load_dataset("fashion_mnist")
    assert source.class_names == names
    assert source.train.shape == (1, 28, 28)
    for split in (source.train, source.test):
        assert (split.images(torch.arange(10))[:, 0, 0, 0] == split.labels).all()
        assert sorted(split.labels.tolist()) == list(range(10))


def test_builtin_with_other_classes_or_sizes(tmp_path):
    make_folder(home_of(tmp_path, "cifar10"))
    assert "class 'cat'" not in refusal("cifar10")
    assert "6x6" in refusal("cifar10")
    make_folder(home_of(tmp_path, "mnist"))
    assert "has the class 'cat' where it should have 0, 1, 2, …" in refusal("mnist")
