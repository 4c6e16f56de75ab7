"""Predicted times: what is timed, that it is scaled to the whole, and remembered."""

import time

import pytest

from distill_bench import benchmark as suites
from distill_bench.benchmark import Calibration, Cell, CellWork, Setting, predict
from distill_bench.evaluation import PROTOCOLS, Protocol, evaluation_seconds
from distill_bench.evaluation import cost as evaluation_cost
from distill_bench.runtime.progress import Enough, Probe, Stopwatch


class Clock:
    """A clock that goes on by a number of seconds when told."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def steps_of(watch, clock, seconds):
    """How many of the steps are taken, each of so many seconds."""
    for taken, step in enumerate(seconds, start=1):
        clock.now += step
        try:
            watch()
        except Enough:
            return taken
    return None


def test_the_first_step_warms_up_and_the_mean_of_the_others_counts(clock):
    watch = Stopwatch(most=0.5)
    assert watch.seconds == 0
    assert steps_of(watch, clock, [0.4, 0.1, 0.2, 0.3, 9.0]) == 4
    assert watch.seconds == pytest.approx(0.2)


def test_a_long_first_step_is_enough(clock):
    watch = Stopwatch(most=0.5)
    assert steps_of(watch, clock, [3.0, 1.0]) == 1
    assert watch.seconds == pytest.approx(3.0)


def test_few_quick_steps_are_not_cut_off(clock):
    watch = Stopwatch(most=0.5)
    assert steps_of(watch, clock, [0.1, 0.1, 0.3]) is None
    assert watch.seconds == pytest.approx(0.2)


def test_a_probe_scales_a_stage_that_it_cuts_off_and_takes_a_short_one_as_it_was(clock):
    probe = Probe("dm")

    def work():
        with probe.stage("dm, long", 53, 3) as stage:
            for _ in range(50):
                clock.now += 0.25
                stage.advance()

    with pytest.raises(Enough):
        work()
    assert (probe.seconds, probe.first) == (pytest.approx(50 * 0.25), "")
    probe = Probe("dm")
    with probe.stage("dm, short", 1) as stage:
        clock.now += 0.125
        stage.advance()
    assert probe.seconds == pytest.approx(0.125)


def test_a_probe_does_not_begin_what_has_to_come_first():
    probe = Probe("herding")
    with pytest.raises(Enough), probe.stage("teacher ConvNet", 10):
        pytest.fail("began")
    assert (probe.seconds, probe.first) == (0.0, "teacher ConvNet")


def test_an_evaluation_is_its_steps_and_its_tests(monkeypatch, digits):
    common = {"source": "a test", "network": "ConvNetD1W4", "batch_size": 64}
    monkeypatch.setitem(PROTOCOLS, "short", Protocol(id="short", epochs=7, **common))
    batches = []
    monkeypatch.setattr(evaluation_cost, "_step_seconds", lambda exam, batch: batches.append(batch) or 2.0)
    monkeypatch.setattr(evaluation_cost, "_test_seconds", lambda exam: 5.0)
    assert evaluation_seconds(digits, "short", 10, 3, compiled=False) == 3 * (7 * 2.0 + 5.0)
    # 96 images are a batch and a half
    assert evaluation_seconds(digits, "short", 96, 1, compiled=False) == 7 * 1.5 * 2.0 + 5.0
    compiled = [evaluation_seconds(digits, "short", 10, networks, compiled=True) for networks in (1, 2)]
    assert compiled[1] - compiled[0] == pytest.approx(evaluation_cost.COMPILED_FACTOR * (7 * 2.0 + 5.0))
    assert compiled[0] > 19.0 > compiled[1] - compiled[0]
    assert batches == [10, 64, 10, 10]


@pytest.fixture
def work(tmp_path, monkeypatch, digits):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(
        PROTOCOLS, "quick-v1", PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "network": "ConvNetD1W4"})
    )

    def made(method, ipc=1, seed=0):
        cell = Cell("digits", method, ipc, seed, "cpu", ("quick-v1",))
        return CellWork(cell, Setting("suite", tmp_path / "results", networks=1), digits)

    return made


def cell_seconds(work):
    return dict(predict([work], Calibration()))[work].seconds


def test_stages_are_timed_once_on_a_machine_and_serve_every_seed(work, monkeypatch):
    first = cell_seconds(work("dm"))
    assert first > suites.cost.START_SECONDS
    monkeypatch.setattr(suites.cost, "synthesize", lambda *_, **__: pytest.fail("timed again"))
    monkeypatch.setattr(suites.cost, "evaluation_seconds", lambda *_, **__: pytest.fail("timed again"))
    assert cell_seconds(work("dm")) == first
    assert cell_seconds(work("dm", seed=1)) == first


def test_timing_leaves_no_set_behind_and_what_is_done_takes_no_time(work):
    cell = work("random")
    assert cell_seconds(cell) > 0
    assert cell.state() == "missing"
    from distill_bench.runtime.progress import SILENT

    cell.run(SILENT)
    assert cell_seconds(cell) == 0


def test_what_a_method_needs_first_is_named_and_timed_anew_the_next_time(work):
    for _ in range(2):
        (needed,) = dict(predict([work("herding")], Calibration())).values()
        assert needed.first.startswith("teacher")
        assert needed.seconds > suites.cost.START_SECONDS
