"""Predicted times: scaled from the seconds of results, and none where no result says."""

import json

import pytest

from distill_bench.benchmark import BenchConfig, ReferenceCell, SetCell, predict, predict_memory, tasks_of
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime.memory import resident_bytes
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.stored import with_sum


@pytest.fixture
def work(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)

    def new(seed=0, ipc=1, networks=1):
        cell = SetCell("digits", "random", ipc, seed, "cpu", ("quick-v1",))
        return tasks_of(cell, BenchConfig("suite", tmp_path / "results", networks=networks), digits)

    return new


def seconds(folder, *works):
    return [*predict(works, folder / "results").values()]


def test_seconds_of_results_are_scaled_by_networks_and_serve_every_seed(work, tmp_path):
    assert seconds(tmp_path, work()) == [None]
    for seed in range(2):
        work(seed).run(SILENT)
        path = work(seed).result_path("quick-v1")
        result = json.loads(path.read_text())
        result["synthesis"]["seconds"], result["run"]["seconds"] = 10.0 + 2 * seed, 4.0
        path.write_text(json.dumps(with_sum(result)))
    assert seconds(tmp_path, work(), work(2), work(2, networks=3)) == [0.0, 11.0 + 4.0, 11.0 + 3 * 4.0]
    assert seconds(tmp_path, work(0, networks=3)) == [3 * 4.0]  # the set is there
    assert seconds(tmp_path, work(ipc=2)) == [None]


def test_what_cannot_be_run_takes_no_time_and_what_no_result_says_is_not_guessed(work, tmp_path, digits):
    impossible = work()
    impossible.cannot = "too few images"
    reference = tasks_of(ReferenceCell("digits", ("full-v1",)), impossible.setting, digits)
    assert seconds(tmp_path, impossible, reference) == [0.0, None]


def test_memory_of_what_is_to_be_done_is_said(work, tmp_path, digits):
    reference = tasks_of(ReferenceCell("digits", ("full-v1",)), work().setting, digits)
    impossible = work()
    impossible.cannot = "too few images"
    set_, whole, never = predict_memory([work(), reference, impossible], tmp_path / "results").values()
    assert never is None
    assert resident_bytes() / 1e6 < set_ < whole  # a batch of 256 of the whole split, 10 images of the set
