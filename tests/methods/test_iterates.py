"""Sets as they are while their run is under way: those of shorter runs, and nothing to the run itself."""

from itertools import pairwise

import pytest
import torch
from stopping import StopsAfter

from distill_bench import evaluate, synthesize
from distill_bench.benchmark import load_suite
from distill_bench.benchmark.planning import plan
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import Interrupted, UsageError
from distill_bench.methods import Checkpoint
from distill_bench.methods.recipe import TEST
from distill_bench.runtime.progress import SILENT

LEARNED = {"dm": 1, "datadam": 1, "ncfm": 1, "dc": 2, "dsa": 2, "mtt": 1, "datm": 1, "rat-bptt": 1}
"""Methods whose rates do not depend on how long the run is, with the steps of an iteration."""


def iterates(digits, method, parts, **how):
    kept = {}
    made = synthesize(digits, method, 2, TEST, iterates=parts, on_iterate=kept.__setitem__, **how)
    return made, kept


@pytest.mark.parametrize(("method", "steps"), LEARNED.items())
def test_an_iterate_is_the_set_of_a_shorter_run(digits, method, steps):
    made, kept = iterates(digits, method, 2, iterations=4)
    ((after, iterate),) = kept.items()
    shorter = synthesize(digits, method, 2, TEST, iterations=2)
    assert after == 2 * steps == iterate.card.iterate
    assert {*iterate.tensors} == {*shorter.tensors}
    assert all(torch.equal(tensor, shorter.tensors[name]) for name, tensor in iterate.tensors.items())
    assert iterate.learning_rate == shorter.learning_rate
    assert iterate.card.model_copy(update={"iterate": None}) == made.card
    assert made.to_bytes() == synthesize(digits, method, 2, TEST, iterations=4).to_bytes()


def test_what_a_run_still_changes_is_not_what_was_kept(digits):
    made, kept = iterates(digits, "dm", 5, iterations=5)
    assert list(kept) == [1, 2, 3, 4]  # the last is the set
    images = [*(each.images for each in kept.values()), made.images]
    assert all(not torch.equal(a, b) for a, b in pairwise(images))


def test_a_run_that_goes_on_keeps_the_same(digits, tmp_path):
    whole = iterates(digits, "dm", 6, iterations=6)[1]
    kept = {}
    how = {"iterations": 6, "iterates": 6, "on_iterate": kept.__setitem__}
    for looks in (3, None):
        checkpoint = Checkpoint(tmp_path / "unfinished.pt", every_seconds=0)
        if looks:
            with pytest.raises(Interrupted):
                synthesize(digits, "dm", 2, TEST, checkpoint=checkpoint, monitor=StopsAfter(looks), **how)
            assert 0 < len(kept) < len(whole)
        else:
            synthesize(digits, "dm", 2, TEST, checkpoint=checkpoint, **how)
    assert {step: each.to_bytes() for step, each in kept.items()} == {
        step: each.to_bytes() for step, each in whole.items()
    }


@pytest.mark.parametrize("method", ["random", "sre2l"])
def test_what_learns_no_set_as_a_whole_has_none(digits, method):
    assert iterates(digits, method, 3)[1] == {}


def test_what_cannot_be_a_set_is_left_out_and_the_run_goes_on(digits, monkeypatch, caplog):
    monkeypatch.setattr("distill_bench.methods.packing.FARTHEST", 0.0)
    with pytest.raises(Exception, match="no distilled set"):  # the finished one is none either
        iterates(digits, "dm", 2, iterations=4)
    assert "after step 2 of 4 there is no set to keep: dm at ipc 2" in caplog.text


def test_no_part_is_refused(digits):
    with pytest.raises(UsageError, match="`iterates=0`: give how many equal parts"):
        iterates(digits, "dm", 0)


def test_an_accuracy_of_one_says_so(digits):
    kept = iterates(digits, "dm", 2, iterations=4)[1]
    (iterate,) = kept.values()
    assert "kept after 2 steps of a run that went on" in evaluate(iterate, digits, "quick-v1", networks=1).notes


def test_the_command_writes_them_beside_the_set(command, tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    make = ("synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--preset", "test", "--set", "iterations=4", "-q")
    assert command(*make, "-o", tmp_path / "a.safetensors")[0] == 0
    code, out, _ = command(*make, "-o", tmp_path / "a.safetensors", "--iterates", 2)
    assert code == 0 and "no iterates: the store has none of this set (--fresh" in out
    code, out, _ = command(*make, "-o", tmp_path / "a.safetensors", "--iterates", 2, "--fresh")
    assert code == 0 and f"{tmp_path / 'a.step-2.safetensors'}: after 2 steps" in out
    assert load_distilled(tmp_path / "a.step-2.safetensors").card.iterate == 2
    assert load_distilled(tmp_path / "a.safetensors").card.iterate is None
    code, out, _ = command(*make, "-o", tmp_path / "b.safetensors", "--iterates", 2)  # out of the store
    assert (tmp_path / "b.step-2.safetensors").read_bytes() == (tmp_path / "a.step-2.safetensors").read_bytes()


def test_a_suite_keeps_them_in_the_store(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "s.toml").write_text(
        'title = "t"\ndatasets = ["digits"]\nmethods = ["dm"]\nipc = [1]\npreset = "test"\n'
        'reference = "none"\niterates = 2\n'
    )
    (work,) = plan(load_suite(str(tmp_path / "s.toml")), tmp_path / "r").works
    made = work.obtain_set(SILENT, own_process=False)
    ((after, file),) = work.stored.iterates.items()
    assert after == -(-work.config.iterations // 2) == load_distilled(file).card.iterate
    assert work.stored_set().to_bytes() == made.to_bytes()
