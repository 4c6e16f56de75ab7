"""Back into others' forms: a set that a form holds comes back to the last digit; of others it is said what is lost."""

import json
import re
import shlex
import sys

import forms_table
import numpy
import pytest
import torch
from forms_table import KINDS, LABELS, held, made, pixels, recorded, smooth, soft
from PIL import Image
from torchvision.datasets import ImageFolder

from distill_bench import evaluate, load_dataset, load_distilled
from distill_bench.datasets.builtin import BUILT_IN
from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.datasets.imagenet import SUBSETS
from distill_bench.distilled.card import Origin
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import training_images
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS
from distill_bench.hub import export, way_back, writable_formats
from distill_bench.hub.convert.format import OWN_OPTIONS
from distill_bench.hub.formats.folder import CLASSES, class_folder_names

ALIKE = ("datasets", "imagefolder", "parquet")
"""Forms of pictures like ``folder``, by the same functions: a few kinds of sets are tried of each."""
TRIED = ("8-bit pixels, used whitened", "images out of class order", "a class without an image", "soft labels, logits")
PAIRS = [(kind, form) for kind in KINDS for form in writable_formats() if form not in ALIKE or kind in TRIED]


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """A protocol that takes a moment."""
    short = {"epochs": 1, "networks": 1, "network": "MLP"}
    monkeypatch.setitem(PROTOCOLS, "standard-v1", PROTOCOLS["standard-v1"].model_copy(update=short))


@pytest.fixture
def exported(command, tmp_path):
    """Export a set by the command: (exit code, standard output, standard error, where to)."""

    def run(one, form, *options):
        one.save(tmp_path / "set.safetensors")
        out = tmp_path / {"res": "res_back.pt", "parquet": "back.parquet"}.get(form, "back")
        return *command("export", tmp_path / "set.safetensors", "--to", form, "--out", out, *options), out

    return run


@pytest.fixture
def printed(command, tmp_path):
    """Run the import that an export has printed, with further options: (exit code, standard output, standard error)."""

    def run(said, *options):
        (line,) = re.findall(r"^read back by: distill-bench (.*)$", said, re.MULTILINE)
        return command(*shlex.split(line)[:-1], tmp_path / "again.safetensors", *options)

    return run


@pytest.fixture
def read_back(printed, tmp_path):
    """The set that the import makes which an export has printed."""

    def run(said, *options):
        assert printed(said, *options)[0] == 0
        return load_distilled(tmp_path / "again.safetensors")

    return run


def accuracies(one):
    return [evaluate(one, labels=use).accuracies for use in ("stored", "hard")[: 1 + one.has_strict_score]]


def probabilities(one):
    return None if one.soft_labels is None else (one.soft_labels.float() / one.card.temperature).softmax(dim=1)


@pytest.mark.parametrize(("kind", "form"), PAIRS)
def test_every_kind_of_set_comes_back_to_the_last_digit_or_is_refused_with_what_would_be_lost(
    digits, exported, read_back, kind, form
):
    one = KINDS[kind](digits)
    code, said, error, out = exported(one, form)
    if held(one, form) != "yes":
        assert (code, out.exists(), said) == (2, False, "")
        reasons = held(one, form).removeprefix("no: ").split("; ")
        assert all(reason in error for reason in reasons)
        return
    assert code == 0, error
    again = read_back(said)
    assert torch.equal(training_images(again), training_images(one))
    assert torch.equal(again.labels, one.labels)
    assert (again.learning_rate, again.card.temperature) == (one.learning_rate, one.card.temperature)
    for name in ("method", "protocol", "source", "pixel_space", "class_names", "label_kind"):
        assert getattr(again.card, name) == getattr(one.card, name)
    if one.soft_labels is not None:
        assert torch.equal(probabilities(again), probabilities(one))
    assert accuracies(again) == accuracies(one)


def holds(form, digits):
    """A set that a form holds."""
    return next(one for one in (make(digits) for make in KINDS.values()) if held(one, form) == "yes")


@pytest.mark.parametrize("form", writable_formats())
def test_a_rate_that_is_given_is_the_sets_in_every_form(digits, exported, read_back, form):
    assert read_back(exported(holds(form, digits), form)[1], "--learning-rate", 0.02).learning_rate == 0.02


@pytest.mark.parametrize(
    ("form", "name"), [(form.name, name) for form in writable_formats().values() for name in OWN_OPTIONS]
)
def test_an_option_that_says_nothing_of_a_form_is_refused_and_another_is_heard(digits, exported, printed, form, name):
    option, value = f"--{name.replace('_', '-')}", {"labels": "order", "class_order": "dataset"}.get(name, "none such")
    code, _, error = printed(exported(holds(form, digits), form)[1], option, value)
    unheard = option in error and "is read in the form" in error
    assert (code, unheard) == ((2, True) if name not in writable_formats()[form].takes else (code, False))


def test_the_table_in_the_docs_is_the_one_that_is_true(digits):
    assert len(KINDS) >= 24 and len(writable_formats()) >= 4
    assert forms_table.on_page() == forms_table.table(digits)
    assert all(any(held(KINDS[kind](digits), form) == "yes" for kind in KINDS) for form in writable_formats())


# --- what is written is in the space that the form claims


@pytest.mark.parametrize("form", ["res", "mtt"])
@pytest.mark.parametrize("used", ["normalized", "unit", "zca"])
def test_8_bit_pixels_are_written_as_the_numbers_networks_are_trained_on(digits, tmp_path, form, used):
    one = made(digits, pixels(), pixel_space=used)
    (path, *_) = export([one], form, tmp_path / "x.pt", lossy=form == "res")
    content = torch.load(path)
    images = content["data"][0][0] if form == "res" else content
    unit = pixels().float() / 255
    right = {
        "unit": unit,
        "normalized": (unit - torch.tensor(digits.mean)) / torch.tensor(digits.std),
        "zca": training_images(one),
    }
    assert torch.equal(images, right["normalized" if form == "res" else used])


@pytest.mark.parametrize("space", ["unit", "zca"])
def test_pixels_of_other_spaces_become_normalized_in_a_res_file_if_loss_is_allowed(digits, tmp_path, space):
    one = made(digits, KINDS["pixels in 0 … 1"](digits).images, pixel_space=space)
    (path,) = export([one], "res", tmp_path / "x.pt", lossy=True)
    from distill_bench.datasets.pixel_space import Transform

    decoded = Transform(one.card.pixel_space, digits.train).decode(one.images)
    right = (decoded - torch.tensor(digits.mean)) / torch.tensor(digits.std)
    torch.testing.assert_close(torch.load(path)["data"][0][0], right)


def test_logits_with_a_temperature_are_written_so_that_their_softmax_is_the_target(digits, exported):
    one = KINDS["… with a temperature"](digits)
    code, said, _, out = exported(one, "datm", "--lossy")
    assert (code, "lost: the temperature 20" in said) == (0, True)
    assert torch.equal(torch.load(out / "labels_best.pt").softmax(dim=1), (soft() / 20).softmax(dim=1))


@pytest.mark.parametrize(
    "kind", ["a stored teacher", "recorded labels", "recorded distances", "soft labels, logits", "a learned rate"]
)
@pytest.mark.parametrize("form", ["res", "mtt", "folder"])
def test_what_is_lost_on_request_is_said_on_standard_output(digits, exported, kind, form):
    one = KINDS[kind](digits)
    lost = list(writable_formats()[form].losses(one, digits))
    code, said, _, out = exported(one, form, "--lossy")
    assert code == 0 and out.exists()
    assert [line.removeprefix("lost: ") for line in said.splitlines() if line.startswith("lost: ")] == lost
    assert ("read back by" in said) == (not lost)


def test_a_form_that_holds_the_set_is_named_in_the_refusal_of_another(digits, exported):
    code, _, error, _ = exported(KINDS["a learned rate"](digits), "res")
    assert code == 2 and "--to mtt would lose nothing" in error and "--lossy" in error
    code, _, error, _ = exported(recorded(digits), "mtt")
    assert code == 2 and "would lose nothing" not in error and ".safetensors" in error


def test_how_far_pictures_are_off_is_said(digits):
    images = torch.tensor([0.0, 1.5, -0.5, 0.5 / 255]).repeat(5).view(20, 1, 1, 1).expand(-1, -1, 8, 8)
    (lost,) = writable_formats()["folder"].losses(made(digits, images, pixel_space="unit"), digits)
    assert "75.0% are moved, by up to 128 levels; 50.0% lie beyond black and white" in lost


def test_a_picture_of_other_channels_than_grey_and_colour_is_refused(tmp_path):
    split = Split(torch.zeros(4, 2, 8, 8, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]))
    source = Dataset("made", ("a", "b"), lambda: split, None, flip_invariant=True)
    one = DistilledSet.from_tensors(split.images(torch.arange(4)), split.labels, source, pixel_space="unit")
    with pytest.raises(UsageError, match="1 or 3 channels; this set's images have 2"):
        export([one], "folder", tmp_path / "back", lossy=True)
    assert not (tmp_path / "back").exists()


def test_a_rate_of_float32_is_written_as_such_and_others_exactly(digits, tmp_path):
    short = float(torch.tensor(0.0123456789))
    for index, (rate, kind) in enumerate([(short, torch.float32), (0.0123456789, torch.float64)]):
        *_, path = export([made(digits, learning_rate=rate)], "mtt", tmp_path / str(index))
        written = torch.load(path)
        assert (float(written), written.dtype) == (rate, kind)


def test_sets_of_unlike_data_are_not_put_into_one_res_file(digits, tmp_path):
    for other in (KINDS["… with other constants than the dataset's"](digits), KINDS["whitened pixels"](digits)):
        with pytest.raises(UsageError, match="the sets differ"):
            export([made(digits), other], "res", tmp_path / "x.pt", lossy=True)


# --- accuracies of a release


def released(digits, index, accuracies=(0.5, 0.75), sets=2):
    origin = Origin(
        form="res", files={"x.pt": "0"}, set_index=index, sets=sets, stored_accuracies={"ConvNet": accuracies}
    )
    return made(digits, origin=origin)


def test_stored_accuracies_go_with_all_the_sets_they_are_of_and_with_no_part(digits, tmp_path, exported):
    def written(*sets):
        (path,) = export(sets, "res", tmp_path / "x.pt")
        return torch.load(path)["accs_all_exps"]

    both = released(digits, 0), released(digits, 1)
    assert written(*both) == {"ConvNet": [0.5, 0.75]}
    assert written(*both[::-1]) == written(both[0]) == written(both[0], both[0]) == {}
    assert written(both[0], released(digits, 1, (0.5, 0.25))) == written(both[0], made(digits)) == {}
    assert "left behind: the accuracies" in exported(both[0], "mtt")[1]
    assert "left behind" not in exported(released(digits, 0, sets=1), "res")[1]


# --- folders


def dataset_of(name, classes, side=8):
    count = len(classes)
    split = Split(torch.arange(count * 3 * side**2, dtype=torch.uint8).view(count, 3, side, side), torch.arange(count))
    return Dataset(name, tuple(classes), lambda: split, None, flip_invariant=True)


def of_pictures(source):
    return DistilledSet.from_tensors(
        source.train.images(torch.arange(len(source.train))), source.train.labels, source, pixel_space="unit"
    )


@pytest.mark.parametrize("name", SUBSETS)
def test_exported_folders_are_numbered_by_imagefolder_as_the_real_images_are(tmp_path, name):
    wnids, names = list(SUBSETS[name]), list(SUBSETS[name].values())
    for wnid in wnids:
        (tmp_path / "val" / wnid).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "val" / wnid / "x.png")
    export([of_pictures(dataset_of(name, names))], "folder", tmp_path / "back")
    real, ours = ImageFolder(tmp_path / "val"), ImageFolder(tmp_path / "back")
    assert ours.classes == real.classes == sorted(wnids)
    listed = json.loads((tmp_path / "back" / CLASSES).read_text())
    assert [entry["name"] for entry in listed] == names
    assert [entry["folder"] for entry in listed] == wnids
    for label, wnid in enumerate(wnids):  # every picture is in its class's folder
        pixel = Image.open(tmp_path / "back" / wnid / f"{label:06d}.png").getpixel((0, 0))
        assert pixel[0] == label * 3 * 64 % 256


def test_a_set_of_a_subset_of_imagenet_comes_back_with_its_labels_and_in_its_order(
    exported, read_back, tmp_path, monkeypatch
):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    for label, wnid in enumerate(SUBSETS["imagewoof"]):
        for split in ("train", "val"):
            (tmp_path / "home" / "sources" / "imagewoof" / split / wnid).mkdir(parents=True)
            picture = Image.new("RGB", (128, 128), (25 * label, 80, 9))
            picture.save(tmp_path / "home" / "sources" / "imagewoof" / split / wnid / "x.png")
    source = load_dataset("imagewoof")
    one = DistilledSet.from_tensors(255 - source.train.images(torch.arange(10)), source.train.labels, source)
    code, said, _, out = exported(one, "folder")
    assert (code, sorted(path.name for path in out.iterdir())) == (0, [CLASSES, *sorted(SUBSETS["imagewoof"])])
    again = read_back(said)
    assert torch.equal(again.images, one.images) and again.labels.tolist() == list(range(10))


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (BUILT_IN["cifar10"].class_names, BUILT_IN["cifar10"].class_names),
        (BUILT_IN["mnist"].class_names, BUILT_IN["mnist"].class_names),
        (("n01443537", "n02002724"), ("n01443537", "n02002724")),
        (BUILT_IN["fashion_mnist"].class_names, [f"00{label}" for label in range(10)]),  # one has a slash
        (("zebra", "ape"), ("000", "001")),  # readers sort
        (("Ape", "ape"), ("000", "001")),  # one folder where file systems do not tell them apart
        (("..", "ape"), ("000", "001")),
        (("ape", CLASSES), ("000", "001")),
        (tuple(f"{label:04d}/" for label in range(1001)), [f"{label:04d}" for label in range(1001)]),
    ],
)
def test_folders_are_class_names_where_readers_sort_them_into_label_order_and_numbers_else(names, folders):
    one = of_pictures(dataset_of("folder:x", names, side=1))
    assert class_folder_names(one) == list(folders)


def test_a_subset_with_other_class_names_than_the_datasets_is_not_named_by_wordnet_id():
    assert class_folder_names(of_pictures(dataset_of("imagenette", ("a", "b")))) == ["a", "b"]


@pytest.mark.parametrize("form", ["mtt", "datm", "folder"])
def test_an_export_goes_into_a_folder_of_its_own(digits, exported, tmp_path, form):
    one = made(digits, pixels(), soft_labels=soft() if form == "datm" else None)
    (tmp_path / "back").mkdir()
    assert exported(one, form)[0] == 0  # empty
    before = {path: path.read_bytes() for path in (tmp_path / "back").rglob("*.*")}
    assert len(before) >= 2
    code, said, error, _ = exported(one, form)
    assert (code, said) == (2, "")
    assert (
        sorted(path.name for path in (tmp_path / "back").iterdir())[0] in error
        and "new folder or an empty one" in error
    )
    assert {path: path.read_bytes() for path in (tmp_path / "back").rglob("*.*")} == before


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_that_cannot_be_written_whole_is_left_as_it_was(digits, tmp_path, monkeypatch, there):
    module = sys.modules["distill_bench.hub.convert.exporting"]  # whose name in the package is the function's
    write, left = module.write_atomically, [7]

    def until_full(path, content):
        left[0] -= 1
        if not left[0]:
            raise DataError("cannot write: No space left on device")
        write(path, content)

    monkeypatch.setattr(module, "write_atomically", until_full)
    if there:
        (tmp_path / "back").mkdir()
    with pytest.raises(DataError, match="No space left"):
        export([made(digits, pixels())], "folder", tmp_path / "back")
    assert (tmp_path / "back").exists() == there
    assert not there or not any((tmp_path / "back").iterdir())


def test_a_res_file_that_cannot_be_replaced_is_left_as_it_was(digits, tmp_path, monkeypatch):
    module = sys.modules["distill_bench.hub.convert.exporting"]  # whose name in the package is the function's

    def full(path, content):
        raise DataError("cannot write: No space left on device")

    (tmp_path / "x.pt").write_text("before")
    monkeypatch.setattr(module, "write_atomically", full)
    with pytest.raises(DataError, match="No space left"):
        export([made(digits)], "res", tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_text() == "before"


# --- where the data lies now


def test_a_whitened_set_of_data_that_moved_is_exported_with_where_it_is_now(command, tmp_path, monkeypatch):
    for index, color in enumerate(("red", "blue")):
        for split in ("train", "test"):
            (tmp_path / "pets" / split / color).mkdir(parents=True)
            for shade in range(3):
                picture = Image.new("RGB", (8, 8), color)
                picture.putpixel((index, shade), (9, 9 * shade, 99))
                picture.save(tmp_path / "pets" / split / color / f"{shade}.png")
    monkeypatch.chdir(tmp_path)
    made = ["synthesize", "random", "--dataset", "folder:pets", "--ipc", 1, "--set", "pixel_space=zca"]
    assert command(*made, "--out", "white.safetensors")[0] == 0
    (tmp_path / "pets").rename(tmp_path / "elsewhere")
    request = ["export", "white.safetensors", "--to", "folder", "--lossy"]
    code, _, error = command(*request, "--out", "back")
    assert (code, "--dataset folder:PATH" in error) == (3, True)
    code, _, error = command(*request, "--out", "back", "--dataset", "folder:elsewhere")
    assert (code, error) == (0, "")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["blue", CLASSES, "red"]
    code, _, error = command(*request, "--out", "other", "--dataset", "digits")
    assert (code, "classes" in error, (tmp_path / "other").exists()) == (2, True, False)


def test_the_way_back_names_all_that_the_files_do_not_say(digits):
    one = KINDS["whitened pixels, normalized before"](digits.with_holdout(0.25))
    assert way_back(one, "mtt", ["a.pt"], "folder:new place") == [
        "a.pt", "--dataset", "folder:new place", "--holdout", "0.25", "--space", "zca", "--zca-eps", "0.2",
        "--zca-input", "normalized", "--method", "custom", "--protocol", "standard-v1",
    ]  # fmt: skip


def test_images_and_labels_are_those_of_the_page():
    assert smooth().shape == (20, 1, 8, 8) and LABELS.bincount().tolist() == [2] * 10


def test_a_set_of_some_classes_that_are_not_mirrored_comes_back_by_the_printed_command(command, tmp_path, monkeypatch):
    """The way back names all that loads the data: other classes, or mirrored images, would be another set."""
    monkeypatch.chdir(tmp_path)
    digits = load_dataset("digits")
    indices = torch.cat([each[:6] for each in digits.train.class_indices])
    numpy.savez(
        "own.npz",
        x_train=digits.train.images(indices)[:, 0].numpy(),
        y_train=digits.train.labels[indices].numpy(),
        x_test=digits.test.images(torch.arange(60))[:, 0].numpy(),
        y_test=digits.test.labels[:60].numpy(),
    )
    chosen = ["--dataset", "npz:own.npz", "--classes", "3,1", "--flip-invariant", "no"]
    assert command("synthesize", "random", *chosen, "--ipc", 2, "--out", "a.safetensors")[0] == 0
    code, said, _ = command("export", "a.safetensors", "--to", "mtt", "--out", "back")
    line = next(line for line in said.splitlines() if line.startswith("read back by: "))
    words = shlex.split(line.removeprefix("read back by: distill-bench ").replace("FILE", "b"))
    assert (code, command(*words)[0]) == (0, 0)
    one, other = load_distilled("a.safetensors"), load_distilled("b.safetensors")
    assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    assert (other.card.source, other.card.class_names) == (one.card.source, ("3", "1"))


def test_sets_of_unlike_method_are_not_put_into_one_res_file(digits, tmp_path):
    sets = [made(digits, method="dc", protocol="dc-v1"), made(digits, method="dm", protocol="dsa-v1")]
    with pytest.raises(UsageError, match="differ in classes, image size, pixel space, method or protocol"):
        export(sets, "res", tmp_path / "x.pt")
    with pytest.raises(UsageError, match="name at least one set"):
        export([], "res", tmp_path / "x.pt")
