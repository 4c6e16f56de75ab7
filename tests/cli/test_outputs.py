"""Where commands write: never onto what they read, nowhere that is found unwritable only after the work."""

import importlib
import os
import sys

import pytest
import torch
from PIL import Image

from distill_bench import DistilledSet, load_dataset
from distill_bench.distilled.render import render_grid
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.files import UNFINISHED, check_no_input, check_place

LABELS = torch.arange(10).repeat_interleave(2)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to be in, with a set, its tensors, a result and pictures."""
    monkeypatch.chdir(tmp_path)
    digits = load_dataset("digits")
    made = DistilledSet.from_tensors(digits.train.images(torch.arange(20)), LABELS, digits)
    made.save("set.safetensors")
    torch.save({"data": [[made.images.float() / 100, LABELS]], "accs_all_exps": {}}, "tensors.pt")
    for split, count in (("train", 3), ("test", 1)):
        for name in ("a", "b"):
            for index in range(count):
                path = tmp_path / "pets" / split / name / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (8, 8), (index, 50, 90)).save(path)
    return tmp_path


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


SYNTHESIZE = ("synthesize", "random", "--ipc", 1, "--dataset")
COMMANDS = {
    "synthesize": ((*SYNTHESIZE, "digits", "--out", "{}.safetensors"), "set.safetensors"),
    "import": (("import", "tensors.pt", "--dataset", "digits", "--out", "{}.safetensors"), "set.safetensors"),
    "export": (("export", "set.safetensors", "--to", "res", "--out", "{}.pt"), "tensors.pt"),
    "render": (("render", "set.safetensors", "--out", "{}.png"), "pets/train/a/0.png"),
}
WORK = {
    "synthesize": "datasets.load_dataset",
    "import": "datasets.load_dataset",
    "export": "hub.convert.exporting._write",
    "render": "distilled.render.render_grid",
    "publish": "hub.publish.release",
    "leaderboard": "benchmark.leaderboard.render_page",
    "bench": "benchmark.planning.run_cells",
}


@pytest.fixture
def idle(monkeypatch):
    """The test fails if a command begins its work."""

    def forbid(name):
        def work(*arguments, **options):
            raise AssertionError(f"{name} began its work")

        room, _, function = f"distill_bench.{WORK[name]}".rpartition(".")
        monkeypatch.setattr(importlib.import_module(room), function, work)

    return forbid


def asked(name, stem):
    return [str(part).format(stem) for part in COMMANDS[name][0]]


# --- output is never an input


def linked(kind, out, given):
    """``out`` as another name of the file ``given``."""
    if kind == "symbolic link":
        out.symlink_to(given)
    elif kind == "hard link":
        os.link(given, out)


@pytest.mark.parametrize("kind", ["symbolic link", "hard link"])
@pytest.mark.parametrize(
    ("name", "given", "ending"),
    [
        ("render", "set.safetensors", "png"),
        ("export", "set.safetensors", "pt"),
        ("import", "tensors.pt", "safetensors"),
    ],
)
def test_another_name_of_an_input_is_an_input(command, place, idle, name, given, ending, kind):
    linked(kind, place / f"other.{ending}", place / given)
    idle(name)
    before = content(place)
    code, said, error = command(*asked(name, "other"))
    assert (code, said, "which is read: it would be replaced" in error) == (2, "", True)
    assert content(place) == before


@pytest.mark.parametrize("out", ["{0}", "./{0}", "pets/../{0}", "{1}/{0}"])
@pytest.mark.parametrize(
    "given",
    [("--set", "init={}"), ("--set", 'init="{}"'), ("--dataset", "npz:{}"), ("--dataset", "parquet:{}")],
)
def test_synthesize_does_not_replace_what_it_starts_from_however_that_is_spelled(
    command, place, monkeypatch, given, out
):
    monkeypatch.setattr("distill_bench.methods.stored_sets.make_set", None)  # any work would be an error
    before = content(place)
    option, value = given[0], given[1].format("set.safetensors")
    path = out.format("set.safetensors", place)
    code, said, error = command("synthesize", "dm", "--ipc", 1, "--dataset", "digits", option, value, "--out", path)
    assert (code, said, "which is read: it would be replaced" in error) == (2, "", True)
    assert content(place) == before


@pytest.mark.parametrize(("name", "words"), [("export", "would be replaced"), ("render", "must end in .png")])
def test_a_set_is_not_replaced_by_what_is_made_of_it(command, place, name, words):
    before = content(place)
    request = [*asked(name, "x")[:-1], "set.safetensors"]
    code, _, error = command(*request)
    assert (code, words in error) == (2, True)
    assert content(place) == before


def test_nothing_is_written_into_the_folders_of_images_that_are_read(command, place, idle):
    before, pets = content(place), "folder:pets"
    idle("synthesize")
    for out in ("pets/train/a/x.safetensors", "pets/train/new/x.safetensors", f"{place}/pets/test/b/x.safetensors"):
        code, _, error = command(*SYNTHESIZE, pets, "--out", out)
        assert (code, "give a place outside of it" in error) == (2, True)
    assert content(place) == before


@pytest.mark.parametrize("out", ["pets/x.safetensors", "pets/results/x.safetensors", "pets/train/x.safetensors"])
def test_what_lies_beside_the_folders_of_images_is_no_input(command, place, out):
    code, _, error = command(*SYNTHESIZE, "folder:pets", "--out", out)
    assert (code, (place / out).is_file()) == (0, True), error
    assert command(*SYNTHESIZE, "folder:pets", "--out", "after.safetensors")[0] == 0
    assert (place / "after.safetensors").read_bytes() == (place / out).read_bytes()


def test_pictures_of_a_whitened_set_do_not_go_into_its_datasets_folders(command, place):
    assert command(*SYNTHESIZE, "folder:pets", "--set", "pixel_space=zca", "--out", "white.safetensors")[0] == 0
    before = content(place)
    for request in (
        ("export", "white.safetensors", "--to", "folder", "--out", "pets/train/new"),
        ("export", "white.safetensors", "--to", "folder", "--out", "pets/train/new", "--dataset", "folder:pets"),
        ("render", "white.safetensors", "--out", "pets/train/a/new.png"),
    ):
        code, _, error = command(*request)
        assert (code, "which is read" in error) == (2, True)
    assert content(place) == before


def test_a_folder_of_the_same_name_elsewhere_is_no_input(place):
    check_no_input(place / "pets2" / "x" / "y", [place / "pets"])
    check_no_input(place / "missing", [place / "not there either"])
    with pytest.raises(UsageError, match="would be replaced"):
        check_no_input(place / "missing", [place / "pets" / ".." / "missing"])


# --- the place is tried before work begins

PLACES = {
    "a file where a folder should be": "tensors.pt/x",
    "a folder where no folder can be made": "/proc/none/x",
    "a name too long for a file": "x" * 250,
    "a folder's name too long": "y" * 256 + "/x",
}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_place_that_cannot_be_written_is_noticed_before_the_work(command, place, idle, name, where):
    if where.startswith("a folder where") and not sys.platform.startswith("linux"):
        pytest.skip("no such place here")
    idle(name)
    before = content(place)
    code, said, error = command(*asked(name, PLACES[where]))
    assert (code, said, "cannot write" in error) == (3, "", True), error
    assert content(place) == before


@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_in_the_outputs_place_is_noticed_before_the_work(command, place, idle, name):
    request = asked(name, "there")
    (place / request[-1]).mkdir()
    idle(name)
    code, said, error = command(*request)
    assert (code, said, "Is a directory" in error) == (3, "", True)


@pytest.mark.parametrize("form", ["mtt", "folder"])
@pytest.mark.parametrize(
    ("out", "code", "words"), [("tensors.pt", 2, "is a file"), ("tensors.pt/x", 3, "cannot write")]
)
def test_a_file_in_place_of_an_exports_folder_is_noticed(command, place, form, out, code, words):
    before = content(place)
    found = command("export", "set.safetensors", "--to", form, "--out", out)
    assert (found[0], words in found[2]) == (code, True), found
    assert content(place) == before


def test_publish_leaderboard_and_bench_try_their_place_first(command, place, idle):
    result = place / "results" / "own" / "x.json"
    result.parent.mkdir(parents=True)
    result.write_text("{}")
    before = content(place)
    for name, code, *request in (
        ("publish", 3, "publish", "set.safetensors", "--to", "folder", "--out", "tensors.pt/x"),
        ("leaderboard", 3, "leaderboard", "--results", "results", "--html", "tensors.pt/x.html"),
        ("leaderboard", 2, "leaderboard", "--results", "results", "--html", "results/own/x.json"),
        ("bench", 3, "bench", "digits", "--results", "tensors.pt/x"),
    ):
        idle(name)
        found = command(*request)
        assert (found[0], found[1]) == (code, ""), found
    assert content(place) == before


def test_trying_a_place_leaves_nothing(tmp_path):
    (tmp_path / "there").write_text("before")
    for path in (tmp_path / "new" / "deep" / "x", tmp_path / "there"):
        check_place(path)
    assert content(tmp_path) == {tmp_path / "there": b"before"} and not (tmp_path / "new").exists()
    check_place(tmp_path / ("x" * (255 - len(UNFINISHED))))
    with pytest.raises(DataError, match="cannot write"):
        check_place(tmp_path / ("x" * (256 - len(UNFINISHED))))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_noticed(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(DataError, match="Permission denied"):
        check_place(tmp_path / "closed" / "deep" / "x")


# --- a name says what is in the file


@pytest.mark.parametrize(
    ("name", "endings"),
    [
        ("synthesize", ".pt .png .SAFETENSORS"),
        ("import", ".pt .png"),
        ("export", ".safetensors .npz .res"),
        ("render", ".jpg .jpeg .PNG .gif .pdf .safetensors"),
    ],
)
def test_an_ending_that_says_something_else_is_refused_by_every_command(command, place, idle, name, endings):
    idle(name)
    before = content(place)
    for ending in (*endings.split(), ""):
        request = [*asked(name, "x")[:-1], f"picture{ending}"]
        code, said, error = command(*request)
        assert (code, said, "must end in ." in error) == (2, "", True)
    assert content(place) == before


def test_a_picture_is_drawn_under_the_name_of_a_png_alone(digits, tmp_path):
    made = DistilledSet.from_tensors(digits.train.images(torch.arange(20)), LABELS, digits)
    with pytest.raises(UsageError, match=r"must end in \.png"):
        render_grid(made, tmp_path / "a.jpg")
    assert not (tmp_path / "a.jpg").exists()
    render_grid(made, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["synthesize", "import", "export", "render"])
def test_what_was_there_is_replaced_by_what_is_asked_for_in_its_place(command, place, name):
    request = asked(name, "again")
    (place / request[-1]).write_text("before")
    code, _, error = command(*request)
    assert code == 0, error
    assert (place / request[-1]).read_bytes() != b"before"
