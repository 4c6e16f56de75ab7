"""The classes of one's own data: named, numbered, chosen, absent; and what a set remembers of them."""

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from distill_bench import Dataset, DistilledSet, Split, evaluate, load_dataset, load_distilled, synthesize
from distill_bench.benchmark.cells import SetCell
from distill_bench.datasets.card import source_card
from distill_bench.datasets.pixel_space import Transform
from distill_bench.distilled.budget import Budget
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS, score_key
from distill_bench.methods import load_method, synthesis_key

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
TEN = np.array([f"c{k}" for k in range(10)])


@pytest.fixture
def quick(monkeypatch):
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)


def client(path: Path, present=(3, 4, 5, 6), names: np.ndarray | None = TEN) -> str:
    """A part of a dataset of ten classes: training images of some, test images of all, label k's of grey 20 k + 1."""
    labels = np.resize(np.array(present), 40)
    images = np.broadcast_to((20 * labels + 1).astype(np.uint8)[:, None, None], PIXELS.shape)
    test = np.arange(20) % 10
    grey = np.broadcast_to((20 * test + 1).astype(np.uint8)[:, None, None], (20, 8, 8))
    more = {} if names is None else {"class_names": names}
    np.savez(path, x_train=images, y_train=labels, x_test=grey, y_test=test, **more)
    return f"npz:{path}"


def make_photos(root: Path, classes=("ant", "bee", "cat")) -> str:
    for split, first in (("train", 0), ("test", 20)):
        for number, name in enumerate(classes):
            for index in range(2):
                path = root / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(PIXELS[first + 2 * number + index]).save(path)
    return f"folder:{root}"


# ---- absent and chosen classes


def test_absent_classes_are_an_error_with_a_way_ready_to_copy(command, tmp_path, quick):
    spec, out = client(tmp_path / "client.npz"), tmp_path / "client.safetensors"
    made = ["synthesize", "random", "--dataset", spec, "--ipc", 1, "--out", out]
    code, _, error = command(*made)
    assert code == 3
    assert "no training image has the label 0 ('c0'), nor any of 5 other classes" in error
    assert "take the 4 that have images alone: --classes c3,c4,c5,c6 (in Python: classes=…)" in error
    advice = shlex.split(error[error.index("--classes") :].split(" (in")[0])
    assert command(*made, *advice)[0] == 0
    assert load_distilled(out).card.class_names == ("c3", "c4", "c5", "c6")
    code, said, _ = command("evaluate", out, "--protocol", "quick-v1", "--json")
    assert code == 0
    assert "of the classes c3, c4, c5, c6 alone" in said


def test_chosen_classes_are_numbered_in_their_order_in_both_splits(tmp_path):
    source = load_dataset(client(tmp_path / "x.npz"), classes=["c5", "c3"])
    assert source.class_names == source.classes == ("c5", "c3")
    for split, count in ((source.train, 20), (source.test, 4)):
        assert len(split) == count
        greys = split.images(torch.arange(count))[:, 0, 0, 0].tolist()
        assert greys == [101 if label == 0 else 61 for label in split.labels.tolist()]
        assert set(split.labels.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [(["4", "c3"], ("c4", "c3")), ([3, 4], ("c3", "c4")), (["c6"], ("c6",)), ((6, "5"), ("c6", "c5"))],
)
def test_classes_are_chosen_by_name_or_label(tmp_path, wanted, names):
    assert load_dataset(client(tmp_path / "x.npz"), classes=wanted).class_names == names


def test_a_name_that_is_a_number_is_a_name_first(tmp_path):
    names = np.array([str(9 - k) for k in range(10)])  # the class called 9 has the label 0
    source = load_dataset(client(tmp_path / "x.npz", present=range(10), names=names), classes=["9"])
    assert source.train.images(torch.tensor([0])).unique().tolist() == [1]


@pytest.mark.parametrize("wanted", [[], ["c3", "c3"], ["c3", 3], ["c3", "3"], ["nope"], [10], [-1], [True], ["-1"]])
def test_wrong_choices_say_what_there_is(tmp_path, wanted):
    with pytest.raises(UsageError, match=r"^classes: .*`classes=a,b`"):
        load_dataset(client(tmp_path / "x.npz"), classes=wanted)


def test_all_classes_in_their_order_are_no_choice(digits):
    assert load_dataset("digits", classes=list("0123456789")).classes is None
    assert source_card(digits).model_dump(mode="json").keys() == {"name", "size", "holdout", "train_fingerprint"}


@pytest.mark.parametrize("form", ["digits", "folder", "parquet"])
def test_every_kind_of_data_takes_a_choice(tmp_path, form):
    if form == "folder":
        spec, wanted = make_photos(tmp_path / "photos"), ["cat", "ant"]
    elif form == "parquet":
        cells = [{"bytes": (Path(make_photos(tmp_path / "p")[7:]) / "train/ant/0.png").read_bytes()}] * 6
        pq.write_table(pa.table({"image": cells, "label": [0, 1, 2] * 2}), tmp_path / "x.parquet")
        spec, wanted = f"parquet:{tmp_path / 'x.parquet'}", ["2", "0"]
    else:
        spec, wanted = "digits", ["7", "1"]
    whole, chosen = load_dataset(spec), load_dataset(spec, classes=wanted)
    labels = [whole.class_names.index(name) for name in wanted]
    counts = [int((whole.train.labels == label).sum()) for label in labels]
    assert [len(indices) for indices in chosen.train.class_indices] == counts
    assert chosen.flip_invariant == whole.flip_invariant


def test_chosen_classes_stay_in_their_files_where_these_are_large(tmp_path, monkeypatch):
    monkeypatch.setattr("distill_bench.datasets.decode.RESIDENT_BYTES", 0)
    source = load_dataset(make_photos(tmp_path), classes=["cat"])
    assert type(source.train).__name__ == "LazyFileSplit"
    assert (source.train.images(torch.tensor([1]))[0, 0].numpy() == PIXELS[5]).all()


def test_a_holdout_is_of_the_chosen_classes(tmp_path):
    source = load_dataset(client(tmp_path / "x.npz"), classes=["c3", "c4"], holdout=0.5)
    assert source.classes == ("c3", "c4")
    assert [len(k) for k in source.test.class_indices] == [5, 5]


def test_a_set_remembers_its_classes(tmp_path, quick, command):
    spec, out = client(tmp_path / "x.npz"), tmp_path / "x.safetensors"
    made = synthesize(load_dataset(spec, classes=["c6", "c3"]), "random", 1)
    made.save(out)
    assert load_distilled(out).card.source.classes == ("c6", "c3")
    score = evaluate(load_distilled(out), protocol="quick-v1")  # the source is loaded from the card alone
    assert score.test_fingerprint == load_dataset(spec, classes=["c6", "c3"]).test.fingerprint
    assert "of the classes c6, c3 alone, in training and test" in score.notes
    assert command("evaluate", out, "--protocol", "quick-v1", "--json")[0] == 0
    # elsewhere the same classes are taken
    assert command("evaluate", out, "--dataset", client(tmp_path / "y.npz", (3, 6)), "--protocol", "quick-v1")[0] == 0


def test_a_choice_is_part_of_every_address(digits):
    some, other = load_dataset("digits", classes=["1", "7"]), load_dataset("digits", classes=["7", "1"])
    method = load_method("random")
    sets = {synthesis_key(s, method, method.config("digits", 1), Budget(1), "paper", 0) for s in (digits, some, other)}
    scores = {score_key(s, "full-v1", None) for s in (digits, some, other)}
    assert (len(sets), len(scores)) == (3, 3)


def test_bench_takes_a_choice_and_calls_it_other_data(command, quick, tmp_path, monkeypatch):
    from distill_bench.benchmark import expand, load_suite

    (tmp_path / "mine.toml").write_text(
        'title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1]\nreference = "none"\n'
        'classes = ["3", "8"]\n'
    )
    monkeypatch.chdir(tmp_path)
    assert [cell.data for cell in expand(load_suite("mine.toml"), {})] == ["digits classes 3,8"]
    bench = ["bench", "mine.toml", "--classes", "1,7,3", "--results", "r", "--executor", "in-process", "--quiet"]
    code, said, _ = command(*bench)
    assert code == 0
    assert "digits classes 1,7,3" in said
    result = tmp_path / "r" / "mine.jsonl"
    sets = list(Path(os.environ["DISTILL_BENCH_HOME"]).glob("store/sets/*.safetensors"))
    (path,) = [path for path in sets if load_distilled(path).card.class_names == ("1", "7", "3")]
    code, said, _ = command("verify", path, result, "--quiet")
    assert (code, said.startswith("holds")) == (0, True)


def test_many_chosen_classes_still_make_a_name_of_a_file():
    cells = [
        SetCell("digits", "random", 1, 0, "cpu", (), classes=tuple(f"class {k + j}" for k in range(500)))
        for j in (0, 1)
    ]
    names = {cell.result_name("x") for cell in cells}
    assert len(names) == 2
    assert all(len(part) < 200 for name in names for part in name.parts)


def test_sets_of_disjoint_classes_are_joined(digits, quick):
    """The lines of docs/own-data.md."""
    parts = [synthesize(load_dataset("digits", classes=part), "random", 2) for part in (range(5), range(5, 10))]
    low, high = parts
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (digits.mean, digits.std))
    pixels = torch.cat([Transform(part.card.pixel_space, None).decode(part.images) for part in (low, high)])
    labels = torch.cat([low.labels, high.labels + len(low.card.class_names)])
    joined = DistilledSet.from_tensors((pixels - mean) / std, labels, digits, method="joined")
    assert joined.card.ipc == 2
    real = {image.numpy().tobytes() for image in digits.train.images(torch.arange(len(digits.train)))}
    back = (Transform(joined.card.pixel_space, None).decode(joined.images) * 255).round().to(torch.uint8)
    assert all(image.numpy().tobytes() in real for image in back)
    assert evaluate(joined, digits, protocol="quick-v1").networks == 1


# ---- labels as they come


def test_labels_with_gaps_say_which_there_are_and_what_to_do(tmp_path):
    source = load_dataset(client(tmp_path / "x.npz", (2, 9), names=None))
    with pytest.raises(
        DataError, match=r"label 0 \('0'\), nor any of 7 other .* take the 2 .*: `classes=2,9` \(in Python"
    ):
        _ = source.train
    assert len(load_dataset(source.name, classes=[2, 9]).train) == 40


@pytest.mark.parametrize("top", [100_000, 2_000_000, 2**62])
def test_labels_far_apart_are_named_and_nothing_is_made_of_them(tmp_path, top):
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.where(np.arange(40) % 2, top, 7))
    with pytest.raises(DataError, match=rf"label {top}; labels are 0 to 99,999 at most\. Found: 7, {top}\. Number the"):
        load_dataset(f"npz:{tmp_path / 'x.npz'}")


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.uint8])
def test_one_hot_labels_of_an_archive_are_refused_by_name(tmp_path, dtype):
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.eye(4, dtype=dtype)[np.arange(40) % 4])
    with pytest.raises(DataError, match=r"of one-hot labels, store labels\.argmax\(1\)"):
        load_dataset(f"npz:{tmp_path / 'x.npz'}")


def test_several_labels_an_image_are_refused_by_name(tmp_path):
    cell = {"bytes": (Path(make_photos(tmp_path / "p")[7:]) / "train/ant/0.png").read_bytes()}
    pq.write_table(pa.table({"image": [cell] * 2, "label": [[0, 1], [1]]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="one class an image: lists of several"):
        load_dataset(f"parquet:{tmp_path / 'x.parquet'}")


# ---- a Split made in Python


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: (torch.rand(4, 1, 8, 8), torch.arange(4)), r"torch.float32 .*\(pixels \* 255\)\.round\(\)"),
        (lambda: (np.random.rand(4, 1, 8, 8), torch.arange(4)), "torch.float64"),
        (lambda: (torch.zeros(4, 1, 8, 8, dtype=torch.int64), torch.arange(4)), "torch.int64"),
        (lambda: (torch.zeros(4, 8, 8, dtype=torch.uint8), torch.arange(4)), r"\(4, 8, 8\); they are uint8"),
        (
            lambda: (np.array([None] * 4), torch.arange(4)),
            "pixels are a object. Give a tensor, a NumPy array",
        ),
        (lambda: (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.rand(4)), "labels are torch.float32"),
        (
            lambda: (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.eye(4).long()),
            r"one-hot labels: labels\.argmax\(1\)",
        ),
        (lambda: (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) > 1), "torch.bool"),
        (lambda: (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(3)), "4 images, but 3 labels"),
        (lambda: (torch.zeros(4, 1, 8, 8, dtype=torch.uint8), np.array(["a"] * 4)), "labels are a <U1"),
    ],
)
def test_a_split_of_other_things_says_what_it_takes(make, said):
    pixels, labels = make()
    with pytest.raises(DataError, match=said):
        Split(pixels, labels)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
@pytest.mark.parametrize("column", [False, True])
def test_a_split_takes_numpy_arrays_and_labels_of_any_integer_type(dtype, column):
    labels = np.array([1, 0, 2, 1], dtype)
    pixels = PIXELS[:4, None][:, :, ::-1]  # which runs backwards
    split = Split(pixels, labels[:, None] if column else labels)
    assert split.labels.dtype == torch.int64 and split.labels.tolist() == [1, 0, 2, 1]
    assert (split.images(torch.arange(4)).numpy() == pixels).all()
    assert [k.tolist() for k in split.class_indices] == [[1], [0, 3], [2]]


# ---- names


BAD_NAMES = ["", " ", "a\nb", "a\x1b[2J", "x" * 256, "\ud800", "a\u202eb"]


@pytest.mark.parametrize("bad", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("way", ["Python", "parquet", "npz"])
def test_class_names_that_cannot_be_written_and_read_are_refused_where_they_come_in(tmp_path, bad, way):
    if way == "npz" and "\ud800" in bad:
        pytest.skip("NumPy writes no such text")

    def load() -> Dataset:
        if way == "Python":
            return Dataset("mine", ("a", bad), lambda: Split(PIXELS[:2, None], torch.arange(2)), None, True)
        if way == "npz":
            np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.arange(40) % 2, class_names=np.array(["a", bad]))
            return load_dataset(f"npz:{tmp_path / 'x.npz'}")
        return load_dataset(f"parquet:{named_parquet(tmp_path, ['a', bad])}")

    with pytest.raises(DataError, match="name of class 1 of"):
        load()


def named_parquet(tmp_path: Path, names) -> Path:
    import json

    cell = {"bytes": (Path(make_photos(tmp_path / "p")[7:]) / "train/ant/0.png").read_bytes()}
    table = pa.table({"image": [cell] * 2, "label": [0, 1]})
    about = {"info": {"features": {"label": {"names": names}}}}
    pq.write_table(table.replace_schema_metadata({b"huggingface": json.dumps(about)}), tmp_path / "x.parquet")
    return tmp_path / "x.parquet"


def test_a_text_for_names_is_not_taken_apart(tmp_path):
    assert load_dataset(f"parquet:{named_parquet(tmp_path, 'cat')}").class_names == ("0", "1")


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(DataError, match="two classes of the name 'a'"):
        Dataset("mine", ("a", "a"), lambda: Split(PIXELS[:2, None], torch.arange(2)), None, True)


def test_classes_are_counted_before_anything_large_is_done():
    with pytest.raises(DataError, match=r"2,000,000 classes\. At most 100,000"):
        Dataset("mine", tuple(map(str, range(2_000_000))), lambda: pytest.fail("loaded"), None, True)


@pytest.mark.skipif(os.name == "nt", reason="has no such names")
def test_a_class_folder_that_is_not_utf_8_is_refused_before_a_set_is_made(command, tmp_path):
    make_photos(tmp_path / "photos")
    os.mkdir(os.fsencode(tmp_path / "photos" / "train") + b"/caf\xe9")
    out = tmp_path / "x.safetensors"
    code, _, error = command(
        "synthesize", "random", "--dataset", f"folder:{tmp_path / 'photos'}", "--ipc", 1, "--out", out
    )
    assert (code, out.exists()) == (3, False)
    assert "'caf\\udce9'" in error and "not UTF-8" in error


@pytest.mark.parametrize("name", ["folder:a\nb", "npz:" + "x" * 5000, "folder:\udce9"])
def test_a_name_of_data_that_no_card_could_hold_is_refused(name):
    with pytest.raises(UsageError, match="the dataset's name"):
        load_dataset(name)


# ---- sets and data that disagree


def test_class_lists_that_differ_say_where_first_and_how_many_each_has(command, quick, tmp_path, digits):
    made = synthesize(load_dataset("digits", classes=range(5)), "random", 1)
    made.card = made.card.model_copy(update={"source": source_card(digits)})  # as of data that has five classes
    made.save(tmp_path / "five.safetensors")
    code, _, error = command("evaluate", tmp_path / "five.safetensors", "--protocol", "quick-v1")
    assert code == 2
    assert "the set has 5 classes, digits has 10. They differ first at the label 5" in error
    assert "no class in the set and '5' in the data. Labels would not mean the same." in error
    assert "--classes 0,1,2,3,4." in error
    assert (
        command("evaluate", tmp_path / "five.safetensors", "--protocol", "quick-v1", "--classes", "0,1,2,3,4")[0] == 0
    )


@pytest.mark.parametrize("way", ["evaluate", "measure", "render", "verify", "Python"])
def test_data_that_a_set_remembers_and_is_not_here_is_named_with_the_way_to_say_where(
    command, quick, tmp_path, monkeypatch, way
):
    make_photos(tmp_path / "there" / "photos")
    monkeypatch.chdir(tmp_path / "there")
    made = ["synthesize", "random", "--dataset", "folder:photos", "--ipc", 1, "--set", "pixel_space=zca"]
    out = tmp_path / "x.safetensors"
    assert command(*made, "--out", out)[0] == 0
    assert load_distilled(out).card.source.name == "folder:photos"  # the bytes do not depend on where
    result = command("evaluate", out, "--protocol", "quick-v1", "--json")[1]
    (tmp_path / "x.json").write_text(result)
    monkeypatch.chdir(tmp_path)
    if way == "Python":
        with pytest.raises(DataError, match=r"`dataset=folder:PATH` \(in Python: dataset=load_dataset"):
            evaluate(load_distilled(out), protocol="quick-v1")
        return
    words = {
        "evaluate": ["evaluate", out, "--protocol", "quick-v1"],
        "measure": ["measure", out, "transfer", "--protocol", "quick-v1", "--network", "ConvNetD1W4"],
        "render": ["render", out, "--out", "x.png"],
        "verify": ["verify", out, "x.json"],
    }[way]
    code, _, error = command(*words)
    assert code == 3
    assert f"the set was made from folder:photos, and there is no {tmp_path / 'photos'} here" in error
    assert "--dataset folder:PATH" in error
    assert command(*words, "--dataset", "folder:there/photos")[0] == 0


# ---- data named without its kind


@pytest.mark.parametrize("kind", ["folder", "npz", "parquet", "parquet folder"])
def test_a_path_without_its_kind_is_told_its_kind(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "folder":
        make_photos(tmp_path / "photos")
        name, meant = "photos", "There is a folder of that name: folder:photos."
    elif kind == "npz":
        client(tmp_path / "x.npz")
        name, meant = "x.npz", "There is a file of that name: npz:x.npz."
    elif kind == "parquet":
        named_parquet(tmp_path, ["a", "b"])
        name, meant = str(tmp_path / "x.parquet"), f"There is a file of that name: parquet:{tmp_path / 'x.parquet'}."
    else:
        (tmp_path / "hub" / "data").mkdir(parents=True)
        named_parquet(tmp_path, ["a", "b"]).rename(tmp_path / "hub" / "data" / "train-00000-of-00001.parquet")
        name, meant = "hub", "There is a folder of that name: parquet:hub."
    with pytest.raises(UsageError) as caught:
        load_dataset(name)
    assert meant in str(caught.value)


def test_a_name_that_is_no_path_is_not_told_to_be_one():
    with pytest.raises(UsageError, match=r"there is no dataset 'x{300}'.*of the Hugging Face Hub\)\.$"):
        load_dataset("x" * 300)


# ---- Tiny-ImageNet's own layout, of any classes


def tiny(root: Path, classes=("n01443537", "n02002724"), annotated=("n01443537", "n02231487", "n02002724")) -> str:
    for number, wnid in enumerate(classes):
        for index in range(3):
            save(root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 40 * number + index)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    for number, _ in enumerate(annotated):
        save(root / "val" / "images" / f"val_{number}.JPEG", 100 + number)
    rows = [f"val_{number}.JPEG\t{wnid}\t0\t0\t62\t62\n" for number, wnid in enumerate(annotated)]
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    save(root / "test" / "images" / "test_0.JPEG", 0)  # without labels
    return f"folder:{root}"


def save(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(path, format="PNG")


def test_a_part_of_tiny_imagenet_is_read_in_its_own_layout(command, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    root = tmp_path / "home" / "sources" / "tiny_imagenet"
    tiny(root)
    made = ["synthesize", "random", "--ipc", 1, "--out", tmp_path / "x.safetensors", "--dataset"]
    code, _, error = command(*made, "tiny_imagenet")
    assert code == 3
    advice = f"folder:{root}"
    assert advice in error
    assert command(*made, advice)[0] == 0  # what the error says works
    source = load_dataset(advice)
    assert source.class_names == ("n01443537", "n02002724")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test.labels.tolist() == [0, 1]
    assert source.test.images(torch.tensor([1])).unique().tolist() == [102]
    assert "val: left out 1 image, of classes that train/ does not have." in caplog.text
    assert "boxes" not in caplog.text


def test_annotations_that_are_no_text_are_said(tmp_path):
    spec = tiny(tmp_path)
    (tmp_path / "val" / "val_annotations.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"val_annotations\.txt is no text: invalid start byte at byte 0"):
        _ = load_dataset(spec).test


# ---- splits that would be classes


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("TRAIN", "Val")])
def test_splits_spelled_otherwise_are_no_classes(tmp_path, names):
    make_photos(tmp_path / "x")
    for split, name in zip(("train", "test"), names, strict=True):
        (tmp_path / "x" / split).rename(tmp_path / "x" / f"{name} ")
    for name in names:
        (tmp_path / "x" / f"{name} ").rename(tmp_path / "x" / name)
    with pytest.raises(DataError, match=r"which would be a class. Splits are named train and test"):
        load_dataset(f"folder:{tmp_path / 'x'}")


def test_splits_a_folder_further_down_are_no_class(tmp_path):
    make_photos(tmp_path / "parent" / "photos")
    with pytest.raises(DataError, match=r"has splits in its folder photos. Give that one: folder:.*parent/photos"):
        load_dataset(f"folder:{tmp_path / 'parent'}")


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_every_usual_name_of_a_test_split_is_one(tmp_path, name):
    make_photos(tmp_path)
    (tmp_path / "test").rename(tmp_path / name)
    assert len(load_dataset(f"folder:{tmp_path}").test) == 6


def test_a_second_test_split_and_arrays_that_nobody_reads_are_named(tmp_path, caplog):
    make_photos(tmp_path)
    shutil.copytree(tmp_path / "test", tmp_path / "val")
    assert len(load_dataset(f"folder:{tmp_path}").test) == 6
    assert "another test split is there: val" in caplog.text
    np.savez(tmp_path / "x.npz", x_train=PIXELS, y_train=np.arange(40) % 2, x_val=PIXELS, y_val=np.arange(40) % 2)
    load_dataset(f"npz:{tmp_path / 'x.npz'}")
    assert "not read: x_val, y_val" in caplog.text
