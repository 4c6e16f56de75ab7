"""ImageNet's family: layouts, label order and refusals; and splits that stay in their files."""

import hashlib
import os

import numpy as np
import pytest
import torch
from PIL import Image

from distill_bench.datasets import lazy, load_dataset
from distill_bench.datasets.imagenet import SUBSETS
from distill_bench.datasets.lazy import LazyFileSplit
from distill_bench.errors import DataError, UsageError

MTT = {
    "imagenette": (0, 217, 482, 491, 497, 566, 569, 571, 574, 701),
    "imagewoof": (193, 182, 258, 162, 155, 167, 159, 273, 207, 229),
    "imagemeow": (281, 282, 283, 284, 285, 291, 292, 290, 289, 287),
    "imagesquawk": (84, 130, 88, 144, 145, 22, 96, 9, 100, 89),
    "imagefruit": (953, 954, 949, 950, 951, 957, 952, 945, 943, 948),
    "imageyellow": (309, 986, 954, 951, 987, 779, 599, 291, 72, 11),
}


@pytest.fixture(autouse=True)
def sources(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "sources"


def save(path, seed=0, size=(6, 6)):
    """A picture of random pixels. PNG inside whatever its name says, so that pixels can be compared."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")
    return torch.from_numpy(pixels).permute(2, 0, 1)


def tiny(root, classes=200):
    """Tiny-ImageNet as it is unpacked: one image a class, and the first three validation images."""
    wnids = [f"n{number:08}" for number in range(7, 7 + classes)]
    for number, wnid in enumerate(wnids):
        save(root / "train" / wnid / "images" / f"{wnid}_0.JPEG", number, (64, 64))
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("0\t0\t0\t1\t1\n")
    lines = []
    for number, wnid in enumerate((wnids[5], wnids[-1], wnids[0])):
        save(root / "val" / "images" / f"val_{number}.JPEG", 1000 + number, (64, 64))
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    save(root / "test" / "images" / "test_0.JPEG", 0, (64, 64))  # without labels, so never read
    return wnids


def refusal(name, split="train", **options):
    with pytest.raises(DataError) as caught:
        getattr(load_dataset(name, **options), split)
    return str(caught.value)


# ---- what a dataset is


@pytest.mark.parametrize("name", SUBSETS)
def test_subsets_are_mtts_in_its_order(name):
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    assert list(SUBSETS[name].values()) == [_IMAGENET_CATEGORIES[index] for index in MTT[name]]


def test_folders_sort_as_their_classes_are_numbered():
    """ImageNet's classes are numbered in the order of their WordNet ids, which ties ids to MTT's numbers."""
    pairs = {(number, wnid) for name in SUBSETS for number, wnid in zip(MTT[name], SUBSETS[name], strict=True)}
    assert [wnid for _, wnid in sorted(pairs)] == sorted(wnid for _, wnid in pairs)
    assert len(pairs) == len({number for number, _ in pairs}) == len({wnid for _, wnid in pairs}) == 57


def test_tiny_imagenet_as_it_is_unpacked(sources):
    wnids = tiny(sources / "tiny_imagenet")
    source = load_dataset("tiny_imagenet")
    assert source.class_names == tuple(wnids)
    assert source.train.labels.tolist() == list(range(200))
    assert source.train.shape == source.test.shape == (3, 64, 64)
    expected = save(sources.parent / "one.png", 1001, (64, 64))
    assert torch.equal(source.test.images(torch.tensor([1]))[0], expected)
    assert source.test.labels.tolist() == [5, 199, 0]
    assert (source.mean, source.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert source.flip_invariant
    assert load_dataset("tiny_imagenet", size=32).train.shape == (3, 32, 32)


def test_tiny_imagenet_in_class_folders(sources):
    wnids = tiny(sources / "tiny_imagenet")
    (sources / "tiny_imagenet" / "val" / "val_annotations.txt").unlink()
    for name in sorted((sources / "tiny_imagenet" / "val" / "images").iterdir()):
        name.unlink()
    (sources / "tiny_imagenet" / "val" / "images").rmdir()
    save(sources / "tiny_imagenet" / "val" / wnids[3] / "a.JPEG", 0, (64, 64))
    assert load_dataset("tiny_imagenet").test.labels.tolist() == [3]


def test_a_subset_is_cut_out_of_imagenet(sources):
    root = sources / "imagenet"
    for number, wnid in enumerate(sorted(SUBSETS["imagefruit"])):
        save(root / "train" / wnid / "a.JPEG", number, (300, 200))
        save(root / "val" / wnid / "b.JPEG", number, (200, 300))
    save(root / "train" / "n01440764" / "tench.JPEG", 99, (300, 200))
    source = load_dataset("imagefruit")
    assert source.class_names[:3] == ("pineapple", "banana", "strawberry")
    assert source.train.shape == (3, 128, 128)
    assert source.size == 128
    assert source.train.labels.tolist() == list(range(10))
    first = load_dataset(f"folder:{root}", size=128)  # sorted by folder: another order, the same pictures
    sorted_wnids = sorted(SUBSETS["imagefruit"])
    for label, wnid in enumerate(SUBSETS["imagefruit"]):
        position = torch.tensor([1 + sorted_wnids.index(wnid)])
        assert torch.equal(source.train.images(torch.tensor([label])), first.train.images(position))
    assert load_dataset("imagefruit", size=64).test.shape == (3, 64, 64)
    own = sources / "imagefruit"
    for wnid in SUBSETS["imagefruit"]:
        for split in ("train", "val"):
            save(own / split / wnid / "a.JPEG")
    assert len(load_dataset("imagefruit").train) == 10
    assert load_dataset("imagefruit").train.fingerprint != source.train.fingerprint  # its own folder comes first


def test_imagenet_asks_for_a_size(sources):
    for number in range(1000):
        (sources / "imagenet" / "train" / f"n{number:08}").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"many sizes: give `size`, such as 64 \(TESLA\)"):
        load_dataset("imagenet")
    source = load_dataset("imagenet", size=64)
    assert (len(source.class_names), source.class_names[1]) == (1000, "n00000001")


# ---- refusals


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("imagenet", r"imagenet/train/<wnid>/\*.JPEG and \S+/val/<wnid>/\*.JPEG for all 1,000 classes"),
        ("imagewoof", r"sources/imagewoof or \S+sources/imagenet\. It needs \S+imagenet/train/.* its ten classes"),
        (
            "tiny_imagenet",
            r"tiny_imagenet/train/<wnid>/images/\*.JPEG .* \S+/val/images/\*.JPEG with \S+annotations.txt",
        ),
    ],
)
def test_without_files_the_layout_is_said(sources, name, expected):
    with pytest.raises(DataError, match=expected) as caught:
        load_dataset(name)
    assert str(caught.value).startswith(f"{name} is not in {sources / name}")
    assert caught.value.exit_code == 3


def test_other_classes_are_refused(sources):
    tiny(sources / "tiny_imagenet", classes=10)
    message = refusal("tiny_imagenet")
    assert "has 10 class folders; tiny_imagenet has 200" in message
    assert f"folder:{sources / 'tiny_imagenet'}" in message
    save(sources / "imagenet" / "train" / "n01440764" / "a.JPEG")
    assert "has no folder n02102040, a class of imagenette. It needs" in refusal("imagenette")


def test_unsorted_or_missing_validation_images(sources):
    for wnid in SUBSETS["imagemeow"]:
        save(sources / "imagenet" / "train" / wnid / "a.JPEG")
    assert "has no validation images in class folders. It needs" in refusal("imagemeow", "test")
    save(sources / "imagenet" / "val" / "ILSVRC2012_val_00000001.JPEG")
    assert "has no validation images in class folders. It needs" in refusal("imagemeow", "test")


def test_annotations_that_do_not_fit(sources):
    tiny(sources / "tiny_imagenet")
    path = sources / "tiny_imagenet" / "val" / "val_annotations.txt"
    whole = path.read_text()
    path.write_text(whole + "val_9.JPEG\tn00000007\t0\t0\t1\t1\n")
    assert "val_9.JPEG is in one of them only" in refusal("tiny_imagenet", "test")
    path.write_text(whole + "val_9.JPEG\tn99999999\t0\t0\t1\t1\n")
    assert "line 4 has the class 'n99999999'" in refusal("tiny_imagenet", "test")


# ---- splits in their files


@pytest.fixture
def photos(tmp_path):
    for split, count in (("train", 5), ("test", 2)):
        for number, name in enumerate(("cat", "dog")):
            for index in range(count):
                save(tmp_path / "photos" / split / name / f"{index}.png", 10 * number + index, (8, 8))
    return f"folder:{tmp_path / 'photos'}"


@pytest.fixture
def large(monkeypatch):
    """Every split counts as too large for the memory."""
    monkeypatch.setattr("distill_bench.datasets.decode.RESIDENT_BYTES", 0)


def test_decoded_on_demand_is_what_is_decoded_at_once(photos, large, monkeypatch):
    lazy = load_dataset(photos)
    assert isinstance(lazy.train, LazyFileSplit) and isinstance(lazy.test, LazyFileSplit)
    monkeypatch.setattr("distill_bench.datasets.decode.RESIDENT_BYTES", 2**32)
    resident = load_dataset(photos)
    assert not isinstance(resident.train, LazyFileSplit)
    assert lazy.train.shape == resident.train.shape == (3, 8, 8)
    assert torch.equal(lazy.train.labels, resident.train.labels)
    indices = torch.tensor([7, 0, 0, 3, 9])
    for threads in (1, 3, 8):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert torch.equal(lazy.train.images(indices), resident.train.images(indices))
    assert lazy.train.images(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 8, 8)
    assert (lazy.mean, lazy.std) == (resident.mean, resident.std)
    pairs = zip(lazy.with_holdout(0.4).test.chunks(), resident.with_holdout(0.4).test.chunks(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    other = lazy.train.relabelled(1 - lazy.train.labels)
    assert other.labels.tolist() == [1] * 5 + [0] * 5 and torch.equal(other.images(indices), lazy.train.images(indices))


def test_the_limit_counts_what_images_are_decoded_to(photos, monkeypatch):
    monkeypatch.setattr("distill_bench.datasets.decode.RESIDENT_BYTES", 10 * 3 * 8 * 8)
    assert not isinstance(load_dataset(photos).train, LazyFileSplit)
    assert isinstance(load_dataset(photos, size=9).train, LazyFileSplit)
    assert load_dataset(photos, size=9).train.images(torch.tensor([3])).shape == (1, 3, 9, 9)


def test_the_fingerprint_is_over_files(photos, large, tmp_path):
    train = load_dataset(photos).train
    files = sorted((tmp_path / "photos" / "train").rglob("*.png"))
    sums = b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)
    labels = np.repeat(np.arange(2, dtype=np.int64), 5).tobytes()
    assert train.fingerprint == hashlib.sha256(b"(3, 8, 8)" + sums + labels).hexdigest()
    assert load_dataset(photos, size=4).train.fingerprint != train.fingerprint
    assert train.subset(torch.arange(9)).fingerprint != train.fingerprint
    assert train.relabelled(1 - train.labels).fingerprint != train.fingerprint


def test_files_are_summed_once_and_again_when_they_change(photos, large, tmp_path, monkeypatch):
    monkeypatch.setattr(lazy, "GROUP", 4)
    first = load_dataset(photos).train.fingerprint
    assert len(list((tmp_path / "home" / "digests").iterdir())) == 3  # 10 files, 4 at a time
    read = []
    digest = lazy._digest
    monkeypatch.setattr(lazy, "_digest", lambda file: read.append(file.name) or digest(file))
    assert load_dataset(photos).train.fingerprint == first
    assert read == []
    changed = tmp_path / "photos" / "train" / "dog" / "4.png"
    content, times = changed.read_bytes(), changed.stat()
    changed.write_bytes(content[:-1] + b"x")
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert load_dataset(photos).train.fingerprint != first
    assert sorted(read) == ["3.png", "4.png"]  # the last group alone
    changed.write_bytes(content)
    assert load_dataset(photos).train.fingerprint == first


def test_a_damaged_cache_of_sums_is_made_again(photos, large, tmp_path):
    first = load_dataset(photos).train.fingerprint
    for path in (tmp_path / "home" / "digests").iterdir():
        path.write_bytes(b"short")
    assert load_dataset(photos).train.fingerprint == first


def test_files_that_disappear_or_differ_are_named(photos, large, tmp_path):
    train = load_dataset(photos).train
    save(tmp_path / "photos" / "train" / "cat" / "2.png", 0, (9, 8))
    with pytest.raises(DataError, match=r"2\.png is 9x8 pixels, but \S+cat/0\.png is 8x8"):
        train.images(torch.tensor([2]))
    (tmp_path / "photos" / "train" / "cat" / "1.png").unlink()
    with pytest.raises(DataError, match=r"cat/1\.png cannot be read as an image"):
        train.images(torch.tensor([1]))
    with pytest.raises(DataError, match=r"cat/1\.png cannot be read: No such file"):
        _ = train.fingerprint


def test_sets_are_made_and_scored_from_files(photos, large, monkeypatch):
    from distill_bench import evaluate, synthesize
    from distill_bench.evaluation import PROTOCOLS

    monkeypatch.setattr("distill_bench.datasets.pixel_space.RESIDENT_BYTES", 0)
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    source = load_dataset(photos)
    lazy = synthesize(source, "random", ipc=2)
    score = evaluate(lazy, source, "quick-v1")
    monkeypatch.undo()
    assert torch.equal(lazy.images, synthesize(load_dataset(photos), "random", ipc=2).images)
    assert score.train_fingerprint == source.train.fingerprint == lazy.card.source.train_fingerprint
