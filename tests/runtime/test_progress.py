"""What long work says of itself."""

import sys

import pytest

from distill_bench.runtime import progress
from distill_bench.runtime.progress import StreamMonitor


@pytest.fixture
def time_passes(monkeypatch):
    """A clock that the test moves."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])

    def wait(seconds):
        now[0] += seconds

    return wait


@pytest.mark.parametrize("done", [0, 600])
def test_the_time_left_is_that_of_the_steps_left(time_passes, capsys, done):
    with StreamMonitor().stage("work", done + 400, done) as stage:
        for _ in range(100):
            time_passes(0.25)
            stage.advance()
    # 15 s for 60 steps: 340 more take 85 s, whatever earlier processes had done
    assert capsys.readouterr().err == f"work: {done + 60}/{done + 400}, 1 min 25 s left.\n"


def test_a_bar_begins_where_earlier_work_ended(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with StreamMonitor().stage("work", 1000, 600) as stage:
        stage.advance()
        (task,) = stage._bar.tasks
        assert (task.completed, task.total) == (601, 1000)
        assert sum(sample.completed for sample in task._progress) == 1  # what its speed is measured by
    assert "601/1000" in capsys.readouterr().err
