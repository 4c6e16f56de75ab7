"""The stages of a curriculum: where windows start and how long they are, and when a stage ends."""

import pytest
import torch

from distill_bench.methods import load_method
from distill_bench.methods.unrolled.curriculum import Progress, Stages, after_pass, staged_window
from distill_bench.runtime.seeds import generator

NORMS = torch.tensor([5.0, 1.0, 4.0, 4.5, 2.0, 2.2, 0.5, 3.0, 2.9, 2.8])
CHANGES = [0.0, 4.0, 3.0, 0.5, 2.5, 0.2, 1.7, 2.5, 0.1, 0.1]


def config_of(**fields):
    usual = {"window_from": "staged", "total": 10, "window": 4, "window_spread": 2, "losses": 1}
    return load_method("rat-bptt").config("digits", 1, "test", **(usual | fields))


def windows(config, stage, count=4000):
    return [staged_window(config, stage, NORMS, generator("window", stage, index)) for index in range(count)]


def shares(weights):
    weights = weights.double().exp()
    return (weights / weights.sum()).tolist()


def test_windows_of_the_first_stage_start_by_softmax_and_are_as_long_as_the_rank_of_the_change_says():
    found = windows(config_of(), 1)
    expected = {}
    for t, share in enumerate(shares(NORMS)):
        length = 2 + 4 * sum(change < CHANGES[t] - 1e-6 for change in CHANGES) // 10
        window = (min(t, 10 - length), length)
        expected[window] = expected.get(window, 0.0) + share
    assert set(found) <= set(expected)
    for window, share in expected.items():
        assert found.count(window) / len(found) == pytest.approx(share, abs=4 * (share / len(found)) ** 0.5 + 1e-3)


def test_windows_of_the_second_stage_are_long_and_anywhere():
    found = windows(config_of(), 2, 300)
    assert set(found) == {(start, 6) for start in range(5)}


@pytest.mark.parametrize("late", ["mirrored", "unlikely"])
def test_windows_of_the_third_stage_are_short_and_mirrored_or_where_gradients_are_small(late):
    found = windows(config_of(late_windows=late), 3)
    expected = {}
    for t, share in enumerate(shares(NORMS if late == "mirrored" else -NORMS)):
        start = max(8 - t, 0) if late == "mirrored" else min(t, 8)
        expected[start, 2] = expected.get((start, 2), 0.0) + share
    assert set(found) <= set(expected)
    for window, share in expected.items():
        assert found.count(window) / len(found) == pytest.approx(share, abs=4 * (share / len(found)) ** 0.5 + 1e-3)


def test_no_window_leaves_the_training():
    config = config_of(window=8)
    for stage in (1, 2, 3):
        assert all(start >= 0 and start + length <= 10 for start, length in windows(config, stage, 200))


def test_a_stage_ends_after_enough_passes_in_a_row_that_gain_too_little():
    """At T = 300 a part of 0.125 is 37.5 passes: the third stage begins after 38."""
    config = config_of(total=300, window=100, window_spread=20)
    progress, ends, accuracy = Progress(), [], 0.0
    for number in range(1, 120):
        accuracy += 1.49 if number > 1 and progress.stage == 1 else 0.99 if progress.stage == 2 else 2.0
        before = progress.stage
        progress = after_pass(progress, accuracy, config)
        ends += [number] * (progress.stage > before)
    assert ends == [1 + 45, 1 + 45 + 38] and progress.stage == 3


def test_a_pass_that_gains_enough_starts_the_count_again():
    config = config_of(stage_patience=[0.3, 0.3])
    progress = Progress(accuracy=50.0)
    for accuracy, stalled in ((51.0, 1), (52.0, 2), (53.5, 0), (54.0, 1), (40.0, 2), (55.0, 0)):
        progress = after_pass(progress, accuracy, config)
        assert (progress.stage, progress.stalled) == (1, stalled)


def test_a_probe_is_made_once_a_pass_and_accuracy_is_of_the_whole_pass():
    probed = []

    def probe(step):
        probed.append(step)
        return NORMS

    stages = Stages(config_of(stage_patience=[0.1, 0.1]), 3, probe)
    for step in range(7):
        stages.window(step, generator("window", step))
        stages.saw(torch.tensor(step), 10)
    assert probed == [0, 3, 6]
    # passes of 0 + 1 + 2 and 3 + 4 + 5 of 30; one that gains little is enough here, and none did
    assert Progress(**{name: stages.state()[name] for name in Progress._fields}) == Progress(1, 0, 40.0)
    again = Stages(config_of(), 3, probe)
    again.restore(stages.state())
    assert again.state() == stages.state() | {"norms": again.state()["norms"]}
