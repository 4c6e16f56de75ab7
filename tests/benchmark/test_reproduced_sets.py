"""Sets that were made with the papers' own values, as a registry in the results."""

import sys

import pytest
import reproduced_sets
import torch
from reproduction_figure import draw
from result_files import score, write

from distill_bench import evaluate
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError
from distill_bench.hub.registry.published import obtain
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.stored import write_with_sum

KEY, NAME = "a" * 32, "dm-digits-ipc1-reproduced"


@pytest.fixture
def made(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    distilled = DistilledSet.from_tensors(noise, torch.arange(10), digits, method="dm", protocol="quick-v1")
    of_set = {"suite": "reproduction", "preset": "paper", "set_sha256": distilled.sha256, "cell_key": KEY}
    scores = [score(**of_set), score(protocol="standard-v1", accuracies=(1.0, 2.0), **of_set)]
    strict = score(accuracies=(3.0, 4.0), strict=True, **of_set)
    write(tmp_path / "results" / "reproduction", [*scores, strict])
    return distilled


def store(distilled, history):
    write_with_sum(cache_dir() / "store" / "sets" / f"{KEY}.safetensors", distilled.to_bytes(), {"history": history})


def written(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["reproduced_sets.py", str(tmp_path / "results")])
    reproduced_sets.main()
    folder = tmp_path / "results" / "reproduced"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_set_of_the_store_is_an_entry_with_its_score_picture_and_losses(made, tmp_path, monkeypatch):
    store(made, [0.5, 0.25])
    files = written(tmp_path, monkeypatch)
    assert {*files} == {"registry.toml", *(f"{NAME}{ending}" for ending in (".safetensors", ".png", ".losses.csv"))}
    assert files[f"{NAME}.losses.csv"] == b"step,loss\n0,0.5\n1,0.25\n"
    taken = obtain(NAME, registry=tmp_path / "results" / "reproduced" / "registry.toml", may_download=False)
    assert taken.paths[0].read_bytes() == made.to_bytes()
    assert (taken.entry.protocol, taken.entry.claim.accuracy) == ("quick-v1", 89.0)
    assert taken.entry.claim.source == "results/reproduction.jsonl"


def test_accuracies_of_iterates_are_a_curve(made, tmp_path, monkeypatch):
    assert reproduced_sets.curve(KEY, 1) == ""
    for step in (10, 2):
        iterate = DistilledSet(made.images, made.labels, made.card.model_copy(update={"iterate": step}))
        iterate.save(cache_dir() / "store" / "iterates" / KEY / f"{step}.safetensors")
    accuracy = evaluate(made, networks=1).accuracy
    assert reproduced_sets.curve(KEY, 1) == f"step,accuracy,networks\n2,{accuracy!r},1\n10,{accuracy!r},1\n"


def test_without_the_store_the_folder_stays_as_it_is(made, tmp_path, monkeypatch, capsys):
    store(made, [0.5])
    before = written(tmp_path, monkeypatch)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "other"))
    assert written(tmp_path, monkeypatch) == before
    (tmp_path / "results" / "reproduced" / f"{NAME}.safetensors").unlink()
    assert "registry.toml" in written(tmp_path, monkeypatch)
    assert f"{NAME}: its set is neither in the store nor in " in capsys.readouterr().err


def test_another_set_than_was_scored_is_refused(made, tmp_path, monkeypatch):
    store(made, [0.5])
    written(tmp_path, monkeypatch)
    changed = DistilledSet(made.images + 1, made.labels, made.card)
    store(changed, [0.5])
    written(tmp_path, monkeypatch)  # what the store has is not taken
    changed.save(tmp_path / "results" / "reproduced" / f"{NAME}.safetensors")
    with pytest.raises(DataError, match="is not the set that reproduction scored"):
        written(tmp_path, monkeypatch)


def test_variants_and_presets_have_ids_of_their_own_and_of_several_seeds_the_least_stands_for_all():
    other = [(name, "paper-convnet", 0) for name in ("rded", "random-soft")]
    asked = [("tesla exact", "paper", 2), ("tesla exact", "paper", 1), ("rded", "paper", 0), *other]
    rows = [score(name, preset=preset, seed=seed, dataset="fashion_mnist") for name, preset, seed in asked]
    names = ("tesla-exact-{}", "rded-{}", "rded-convnet-{}")
    found = reproduced_sets.by_id(rows)
    assert [*found] == [name.format("fashion-mnist-ipc1-reproduced") for name in names]
    assert [[each.seed for each in own] for own in found.values()] == [[1], [0], [0]]


def test_the_figure_has_a_row_a_set_with_what_is_known_of_it(made, tmp_path, monkeypatch):
    store(made, [0.5, 0.25, 0.125])
    written(tmp_path, monkeypatch)
    registry = tmp_path / "results" / "reproduced" / "registry.toml"
    pictures, losses, accuracies = draw(registry).axes
    assert pictures.get_title(loc="left") == "dm-digits-ipc1" and pictures.images[0].get_array().shape == (8, 89, 3)
    assert [list(line.get_ydata()) for line in losses.lines] == [[0.5, 0.25, 0.125]] * 2
    assert not accuracies.axison
    (registry.parent / f"{NAME}.accuracy.csv").write_text("step,accuracy,networks\n1,50.0,2\n2,60.0,2\n")
    curve, line = draw(registry).axes[2].lines
    assert list(curve.get_ydata()) == [50.0, 60.0] and list(line.get_ydata()) == [89.0, 89.0]
