"""Options that would do nothing are refused, and what is left of an earlier command does not pass for this one's."""

import shlex

import numpy
import pytest
import torch

from distill_bench import DistilledSet, load_dataset
from distill_bench.datasets.classes import as_words, words_of


@pytest.mark.parametrize("words", [("--dataset", "mnist"), ("--ipc", 5, "--preset", "small"), ("--only", "ipc=1")])
def test_a_new_suite_takes_no_other_option(command, tmp_path, words):
    code, _, error = command("bench", "--new", tmp_path / "mine.toml", *words)
    assert code == 2 and words[0] in error and not (tmp_path / "mine.toml").exists()


def test_force_is_for_a_new_suite(command):
    code, _, error = command("bench", "digits", "--dry-run", "--force")
    assert code == 2 and "--new" in error


@pytest.mark.parametrize("words", [("--zca-eps", 0.7), ("--zca-input", "normalized"), ("--zca-eps=0.1",)])
def test_the_whitening_is_described_where_pixels_are_whitened(command, tmp_path, words):
    numpy.savez(tmp_path / "x.npz", images=numpy.zeros((10, 1, 8, 8), numpy.float32), labels=numpy.arange(10))
    asked = ("import", tmp_path / "x.npz", "--dataset", "digits", "--out", tmp_path / "x.safetensors")
    code, _, error = command(*asked, "--space", "normalized", *words)
    assert code == 2 and "give --space zca" in error
    assert command(*asked, "--space", "zca", *words)[0] == 0


def test_losses_of_an_earlier_set_do_not_stay_beside_another(command, tmp_path):
    out = tmp_path / "x.safetensors"
    made = ("--dataset", "digits", "--ipc", 1, "--preset", "test", "--out", out)
    assert command("synthesize", "dm", *made)[0] == 0 and (tmp_path / "x.losses.csv").exists()
    assert command("synthesize", "random", *made)[0] == 0 and not (tmp_path / "x.losses.csv").exists()


def test_a_recipe_for_a_fraction_of_resized_images_is_shown(command, tmp_path, monkeypatch):
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / "mixed" / name).mkdir(parents=True)
        for side in (8, 9, 10, 12):
            Image.new("L", (side, side), 9 * side).save(tmp_path / "mixed" / name / f"{side}.png")
    asked = ("recipe", "show", "random", "--dataset", f"folder:{tmp_path}/mixed", "--fraction", 0.5)
    assert command(*asked, "--size", 8)[0] == 0
    code, _, error = command(*asked)
    assert code == 3 and "--size" in error


@pytest.mark.parametrize("names", [["cat", "dog"], ["a,b", "c"], [" c", "é"], ["[x]", "y"], ['["q"]'], ["1", "2"]])
def test_chosen_classes_come_back_from_the_words_that_are_printed(names):
    (word,) = shlex.split(shlex.quote(as_words(names)))
    assert words_of(word) == names


def test_a_set_of_classes_with_commas_is_read_back_by_the_printed_command(command, tmp_path, monkeypatch):
    from folders import images_folder

    monkeypatch.chdir(tmp_path)
    images_folder(tmp_path / "pets", ("a,b", "cat", "dog"))
    data = load_dataset("folder:pets", classes=["a,b", "dog"])
    DistilledSet.from_tensors(torch.randn(2, 3, 8, 8), torch.arange(2), data).save("x.safetensors")
    code, said, error = command("export", "x.safetensors", "--to", "res", "--out", "back.pt")
    assert code == 0, error
    (line,) = [line for line in said.splitlines() if "distill-bench import" in line]
    words = shlex.split(line.partition("distill-bench ")[2].replace("FILE.safetensors", "y.safetensors"))
    assert command(*words)[0] == 0
