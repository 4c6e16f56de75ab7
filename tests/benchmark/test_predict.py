"""Predicted times: scaled from the seconds of results, and none where no result says."""

import json

import pytest

from distill_bench.benchmark import (
    BenchConfig,
    ReferenceCell,
    SetCell,
    predict,
    predict_memory,
    predict_pretraining,
    tasks_of,
)
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime.memory import resident_bytes
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.stored import with_sum
from distill_bench.training.timing import Training


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
    assert seconds(tmp_path, work(0, networks=3)) == [2 * 4.0]  # the set is there, and one network is tested
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


def test_results_beside_count_where_the_own_say_nothing(work, tmp_path):
    work().run(SILENT)
    own = seconds(tmp_path, work(1))
    elsewhere = [*predict([work(1)], tmp_path / "nothing", tmp_path / "results").values()]
    assert own == elsewhere and own[0] is not None
    assert [*predict([work(1)], tmp_path / "nothing").values()] == [None]


def test_a_network_takes_as_long_on_the_sets_of_other_methods(work, tmp_path, digits, monkeypatch):
    work().run(SILENT)
    path = work().result_path("quick-v1")
    result = json.loads(path.read_text())
    result["run"]["seconds"] = 4.0
    path.write_text(json.dumps(with_sum(result)))
    other = tasks_of(SetCell("digits", "herding", 1, 0, "cpu", ("quick-v1",)), work(networks=3).setting, digits)
    assert seconds(tmp_path, other) == [None]  # how long its set takes nobody says
    monkeypatch.setattr(type(other), "lacks_set", False)
    assert seconds(tmp_path, other) == [12.0]


def test_what_must_be_pretrained_is_timed_once_for_all_that_need_it(work, digits, monkeypatch):
    timed = []

    def seconds_per_image(*what):
        timed.append(what)
        return 0.001

    monkeypatch.setattr("distill_bench.training.timing.seconds_per_image", seconds_per_image)
    setting = work().setting
    cells = [
        SetCell("digits", name, 1, 0, "test", ("quick-v1",)) for name in ("random", "mtt", "tesla", "sre2l", "cda")
    ]
    works = {cell.method: tasks_of(cell, setting, digits) for cell in cells}
    found = {each.cell.method: value for each, value in predict_pretraining(works.values()).items()}
    mtt, sre2l = works["mtt"].config, works["sre2l"].config
    count = len(digits.train)
    assert found["mtt"] == pytest.approx(0.001 * mtt.experts * mtt.expert.epochs * count)
    assert "random" not in found and "cda" not in found  # whose teacher is sre2l's
    steps = max(sre2l.teacher.epochs * -(-count // sre2l.teacher.batch_size), sre2l.teacher.minimum_steps)
    assert found["sre2l"] == pytest.approx(0.001 * steps * min(sre2l.teacher.batch_size, count))
    assert timed[0][1:] == ((1, 8, 8), 10, min(mtt.expert.batch_size, count))


def test_a_step_is_timed(monkeypatch):
    clock = iter([100.0, 106.0])
    monkeypatch.setattr("distill_bench.training.timing.time.perf_counter", lambda: next(clock))
    assert Training("ConvNetD1W4", (1, 8, 8), 10, 3, 50).seconds == pytest.approx(50 * 6 / 2 / 3)
