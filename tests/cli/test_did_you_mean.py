"""A name that is unknown: what comes close is offered, all that is known is named, and the error is whole."""

import numpy
import pytest
from folders import images_folder

from distill_bench.errors import brief, did_you_mean, unknown
from distill_bench.methods.recipe import load_recipe

MAKE = ("synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--out", "x.safetensors")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("synthesize", "herdign", *MAKE[2:]), "herding"),
        (("synthesize", "DM", *MAKE[2:]), "dm"),
        ((*MAKE, "--dataset", "MNIST"), "mnist"),
        ((*MAKE, "--dataset", "CIFAR-10"), "cifar10"),
        ((*MAKE, "--dataset", "foldr:photos"), "folder:photos"),
        ((*MAKE, "--preset", "cpuu"), "cpu"),
        ((*MAKE, "--set", "itertions=3"), "iterations"),
        ((*MAKE, "--set", "network=ConvNetDB"), "ConvNetD3 or ConvNetBN"),
        ((*MAKE, "--device", "cudaa"), "cuda"),
        (("evaluate", "--protocol", "full-v2", "--dataset", "digits"), "full-v1"),
        (("evaluate", "--protocol", "full-v1", "--dataset", "digits", "--network", "ResNet-18BN"), "ResNet18BN"),
        (("evaluate", "datm-cifr10-ipc10"), "datm-cifar10-ipc10"),
        (("evaluate", "datam-cifar10-ipc10"), "datm-cifar10-ipc10"),
        (("download", "datam-cifar10-ipc10"), "datm-cifar10-ipc10"),
        (("info", "datam-cifar10-ipc10"), "datm-cifar10-ipc10"),
        (("measure", "x.safetensors", "transfr"), "transfer"),
        (("bench", "digit"), "digits"),
        (("bench", "digits", "--only", "methods=dm"), "method"),
        (("bench", "digits", "--only", "method=hreding"), "herding"),
        (("bench", "digits", "--only", "protocol=quick"), "quick-v1"),
        (("bench", "digits", "--executor", "in-proces"), "in-process"),
        (("bench", "s.toml"), "seeds"),
        (("recipe", "show", "msdm"), "dm"),
        (("recipe", "validate", "herdingg"), "herding"),
        (("list", "netwroks"), "networks"),
        (("teachers", "train", "--dataset", "digits", "--set", "epoch=3"), "epochs"),
        (("import", "y.npz", "--dataset", "digits", "--out", "x.safetensors", "--form", "arays"), "arrays"),
        (("import", "y.npz", "--dataset", "digits", "--out", "x.safetensors", "--space", "normalised"), "normalized"),
        (("evaluate", "--protocol", "full-v1", "--dataset", "digits", "--split", "hold"), "holdout"),
        (("teachers", "train", "--dataset", "digits", "--pixel-space", "normalised"), "normalized"),
        (("bench", "digits", "--set", "itertions=3"), "iterations"),
        (("bench", "digits", "--protocol", "quick"), "quick-v1"),
        (("publish", "x.safetensors", "--to", "huggingfase", "--repo", "a/b"), "huggingface"),
    ],
)
def test_what_comes_close_is_offered(command, tmp_path, monkeypatch, words, meant):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.toml").write_text('title = "t"\ndatasets = []\nmethods = []\nipc = [1]\nseds = [1]\n')
    numpy.savez(tmp_path / "y.npz", images=numpy.zeros((10, 1, 8, 8), "f4"), labels=numpy.arange(10))
    code, _, error = command(*words)
    assert code == 2
    if words[0] in ("evaluate", "download", "info") and meant.startswith("datm-cifar10"):
        assert meant in error
    else:
        assert meant in error.lower().split("did you mean ")[1].split("?")[0] or meant in error.split("ean ")[1]


@pytest.mark.parametrize("kind", ["folder", "parquet", "npz"])
def test_data_that_lies_there_is_named_with_its_kind(command, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    images_folder(tmp_path / "photos")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "train.parquet").write_bytes(b"")
    (tmp_path / "x.npz").write_bytes(b"")
    name = {"folder": "photos", "parquet": "tables", "npz": "x.npz"}[kind]
    code, _, error = command("synthesize", "random", "--dataset", name, "--ipc", 1, "--out", "o.safetensors")
    there = "file" if kind == "npz" else "folder"
    said = f"there is no dataset '{name}'. There is a {there} of that name: {kind}:{name}. Give one of digits"
    assert (code, said in error) == (2, True)


def test_nothing_is_offered_where_nothing_is_close():
    assert did_you_mean("zzz", ["dm", "dc"]) == did_you_mean("", ["dm"]) == did_you_mean("x" * 10**6, ["dm"]) == ""
    assert unknown("method", "zzz", ["dm", "dc"], "; more") == "unknown method 'zzz'. Known: dm, dc; more."
    assert len(unknown("method", "x" * 10**6, ["dm"])) < 400


@pytest.mark.parametrize("place", [".", "folder.safetensors", "text.safetensors", "picture.png"])
def test_what_is_no_set_is_said_with_the_way_to_one(command, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("text.safetensors", "picture.png"):
        (tmp_path / name).write_bytes(b"hello, this is no set")
    for words in (["info", place], ["render", place, "--out", "x.png"], ["export", place, "--to", "res", "--out", "x"]):
        code, out, error = command(*words)
        assert (code, out) == (3, "")
        assert f"{place}: " in error and "distill-bench import turns into one." in error
        assert "folder" not in place or "is a folder" in error


def test_what_others_errors_say_is_whole_and_ends_in_one_stop():
    assert brief(ValueError("it broke.")) == "it broke" == brief(ValueError("it\n broke..."))
    assert brief(KeyError("data")) == "there is no 'data'"
    assert brief(ValueError()) == "ValueError"
    assert brief(ValueError("x" * 1000)) == "x" * 300 + " …"


@pytest.mark.parametrize("ending", ["npz", "pt", "safetensors", "toml"])
def test_no_error_ends_in_two_stops(command, tmp_path, ending):
    file = tmp_path / f"broken.{ending}"
    file.write_bytes(b"broken\xff" * 100)
    for words in (
        ["import", file, "--dataset", "digits", "--out", tmp_path / "x.safetensors"],
        ["info", file],
        ["synthesize", "random", "--dataset", f"npz:{file}", "--ipc", 1, "--out", tmp_path / "x.safetensors"],
        ["bench", file],
        ["download", "dm-cifar10-ipc1", "--registry", file],
        ["verify", file, file],
    ):
        code, _, error = command(*words)
        assert code in (2, 3)
        assert ".." not in error and "Traceback" not in error


def test_a_recipe_says_which_table_was_meant(tmp_path):
    (tmp_path / "r.toml").write_text('title = "t"\nfunction = "m:f"\n[default]\nx = 1\n')
    with pytest.raises(Exception, match=r"default: Extra inputs are not permitted \(Did you mean defaults\?\)"):
        load_recipe(str(tmp_path / "r.toml"))
