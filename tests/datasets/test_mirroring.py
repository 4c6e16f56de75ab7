"""Whether a mirrored image keeps its label: said of one's own data, kept on the card, fixed for named datasets."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from typer.main import get_command

from distill_bench import cli, evaluate, list_datasets, load_dataset, load_distilled, synthesize
from distill_bench.datasets.card import source_card
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.evaluation import PROTOCOLS, score_key
from distill_bench.methods import load_method, synthesis_key

OWN = ("folder", "parquet", "npz")


@pytest.fixture
def quick(monkeypatch):
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 15, "networks": 1, "network": "ConvNetD1W8"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)


@pytest.fixture
def own(tmp_path) -> str:
    """Digits as somebody's own data."""
    bunch = load_digits()
    pixels = np.rint(bunch.images / 16 * 255).astype(np.uint8)
    arrays = {"x_train": pixels[:200], "y_train": bunch.target[:200]}
    np.savez(tmp_path / "own.npz", **arrays, x_test=pixels[200:300], y_test=bunch.target[200:300])
    return f"npz:{tmp_path / 'own.npz'}"


def made_of(kind: str, tmp_path: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    path = tmp_path / "a" / "0.png"
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    if kind == "folder":
        return f"folder:{tmp_path}"
    if kind == "parquet":
        pq.write_table(pa.table({"image": [path.read_bytes()], "label": [0]}), tmp_path / "x.parquet")
        return f"parquet:{tmp_path / 'x.parquet'}"
    np.savez(tmp_path / "x.npz", images=np.zeros((1, 8, 8), np.uint8), labels=[0])
    return f"npz:{tmp_path / 'x.npz'}"


@pytest.mark.parametrize("kind", OWN)
def test_own_data_is_mirrored_unless_said(tmp_path, kind):
    spec = made_of(kind, tmp_path)
    assert [load_dataset(spec, flip_invariant=told).flip_invariant for told in (None, True, False)] == [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize("told", [True, False])
def test_named_datasets_have_their_own_answer(told, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    for name in ("digits", "mnist", "cifar10", "svhn"):
        answer = "keep their" if load_dataset(name).flip_invariant else "do not keep their"
        with pytest.raises(UsageError, match=f"fixed for {name}: its mirrored images {answer} label"):
            load_dataset(name, flip_invariant=told)
    assert "digits" in list_datasets()


def test_the_card_keeps_it_and_says_nothing_where_it_is_as_usual(own):
    cards = {
        told: source_card(load_dataset(own, flip_invariant=told)).model_dump(mode="json")
        for told in (None, True, False)
    }
    assert cards[None] == cards[True]
    assert cards[None].keys() == {"name", "size", "holdout", "train_fingerprint"}
    assert cards[False] == cards[None] | {"flip_invariant": False}
    changed = dataclasses.replace(load_dataset(own), flip_invariant=False)  # as in Python
    assert source_card(changed) == source_card(load_dataset(own, flip_invariant=False))


def test_networks_see_mirrored_digits_only_where_they_keep_their_label(own, quick):
    """The same set and the same seeds: other accuracies."""
    made = synthesize(load_dataset(own), "random", 1)
    sources = {told: load_dataset(own, flip_invariant=told) for told in (True, False)}
    scores = {told: evaluate(made, source, protocol="quick-v1") for told, source in sources.items()}
    assert scores[True].accuracies != scores[False].accuracies
    assert evaluate(made, load_dataset(own), protocol="quick-v1").accuracies == scores[True].accuracies
    turned = "mirrored images do not keep their label"
    assert (turned in scores[True].notes, turned in scores[False].notes) == (False, True)
    assert score_key(sources[True], "quick-v1", made) != score_key(sources[False], "quick-v1", made)


def test_an_evaluation_takes_it_from_the_card(own, quick, tmp_path, command):
    out = tmp_path / "x.safetensors"
    made = ["synthesize", "random", "--dataset", own, "--ipc", 1, "--out", out]
    assert command(*made, "--flip-invariant", "no")[0] == 0
    distilled = load_distilled(out)
    assert distilled.card.source.flip_invariant is False
    expected = evaluate(distilled, load_dataset(own, flip_invariant=False), protocol="quick-v1").accuracies
    assert evaluate(distilled, protocol="quick-v1").accuracies == expected
    asked = ["evaluate", out, "--protocol", "quick-v1", "--json"]
    assert tuple(json.loads(command(*asked)[1])["accuracies"]) == expected
    mirrored = evaluate(distilled, load_dataset(own), protocol="quick-v1").accuracies
    assert tuple(json.loads(command(*asked, "--flip-invariant", "yes")[1])["accuracies"]) == mirrored != expected
    # a named dataset keeps its own answer, whatever the card says
    assert command("evaluate", out, "--protocol", "quick-v1", "--dataset", "digits")[0] == 0


def test_it_is_part_of_a_sets_address(own):
    dm = load_method("dm")
    keys = [
        synthesis_key(load_dataset(own, flip_invariant=told), dm, dm.config("npz", 1, "cpu"), Budget(1), "cpu", 0)
        for told in (None, True, False)
    ]
    assert keys[0] == keys[1] != keys[2]


def test_synthesis_mirrors_only_where_it_may(own):
    values = {"iterations": 3, "network": "ConvNetD1W4", "real_batch": 8}
    images = [
        synthesize(load_dataset(own, flip_invariant=told), "dm", 1, **values).images for told in (None, True, False)
    ]
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


def test_bench_and_suites_take_it(own, quick, tmp_path, command, monkeypatch):
    from distill_bench.benchmark import expand, load_suite

    suite = f'title = "t"\ndatasets = ["{own}"]\nmethods = ["random"]\nipc = [1]\nreference = "none"\n'
    (tmp_path / "mine.toml").write_text(suite + "flip_invariant = false\n")
    (tmp_path / "plain.toml").write_text(suite)
    monkeypatch.chdir(tmp_path)
    (cell,) = expand(load_suite("mine.toml"), {})
    assert (cell.flip_invariant, cell.data) == (False, f"{own} not mirrored")
    assert expand(load_suite("plain.toml"), {})[0].data == own
    bench = ["bench", "plain.toml", "--results", "r", "--executor", "in-process", "--quiet"]
    code, said, _ = command(*bench, "--flip-invariant", "no")
    assert (code, f"{own} not mirrored" in said) == (0, True)
    assert command(*bench)[0] == 0
    assert len(Path("r/plain.jsonl").read_text().splitlines()) == 2  # other data: neither replaces the other
    code, _, error = command(*bench, "--flip-invariant", "no", "--dataset", "digits")
    assert (code, "fixed for digits" in error) == (2, True)


@pytest.mark.parametrize("value", ["maybe", "", "True"])
def test_other_answers_are_refused(command, own, tmp_path, value):
    made = ["synthesize", "random", "--dataset", own, "--ipc", 1, "--out", tmp_path / "x.safetensors"]
    code, _, error = command(*made, "--flip-invariant", value)
    assert (code, "give yes or no" in error) == (2, True)


def test_every_command_that_loads_data_takes_both_choices():
    group = get_command(cli.app)
    leaves = {}
    for name, sub in group.commands.items():  # type: ignore[attr-defined]
        leaves |= {f"{name} {below}": leaf for below, leaf in getattr(sub, "commands", {"": sub}).items()}
    loading = {name.strip(): leaf for name, leaf in leaves.items() if any("--size" in p.opts for p in leaf.params)}
    del loading["recipe show"]  # whose --size is of images that are not loaded
    assert {"synthesize", "evaluate", "measure", "bench", "import"} < loading.keys()
    assert {"teachers train", "experts train", "experts import"} < loading.keys()
    for name, leaf in (loading | {"verify": leaves["verify "]}).items():
        options = {option for parameter in leaf.params for option in parameter.opts}
        assert {"--flip-invariant", "--classes"} <= options, name
        told = next(p.help for p in leaf.params if "--flip-invariant" in p.opts)
        assert "yes unless said" in told


def test_teachers_and_experts_are_others(own, command):
    common = ["--dataset", own, "--epochs", 20, "--set", "learning_rate=0.05", "--quiet"]
    keys = set()
    for told in ("yes", "no"):
        code, said, error = command("teachers", "train", *common, "--network", "ConvNetD1W4", "--flip-invariant", told)
        assert code == 0, error
        keys.add(said.split()[-1])
    assert len(keys) == 2
