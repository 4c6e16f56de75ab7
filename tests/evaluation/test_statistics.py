"""Intervals against scipy and against arithmetic done by hand."""

import math
import statistics

import pytest
from scipy import stats

from distill_bench.errors import UsageError
from distill_bench.evaluation.statistics import Estimate, half_width, hierarchical_interval, holm, student, welch


@pytest.mark.parametrize("values", [[88.1, 87.5, 88.9], [50.0, 52.0], [10.0, 11.5, 9.0, 12.25, 10.5]])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_student_interval_is_scipys(values, confidence):
    expected = stats.t.interval(confidence, len(values) - 1, loc=statistics.fmean(values), scale=stats.sem(values))
    assert student(values).interval(confidence) == pytest.approx(expected)


def test_two_values_by_hand():
    # Mean 11, standard error |12 - 10| / 2 = 1, and t(0.975, 1 degree of freedom) = 12.7062.
    assert student([10.0, 12.0]).interval() == pytest.approx((11 - 12.7062, 11 + 12.7062), abs=1e-4)


def test_a_single_value_has_no_interval():
    assert student([88.0]).interval() == (None, None)
    assert hierarchical_interval([[88.0]]) == (None, None)


def test_equal_values_give_an_interval_of_no_width():
    assert student([90.0, 90.0, 90.0]).interval() == (90.0, 90.0)


def test_seeds_are_the_sample_when_there_are_two_or_more():
    by_seed = [[80.0, 82.0, 84.0], [86.0, 88.0], [90.0]]
    assert hierarchical_interval(by_seed) == pytest.approx(student([82.0, 87.0, 90.0]).interval())


def test_more_networks_on_the_same_sets_do_not_narrow_the_interval():
    few, many = [[80.0, 82.0], [86.0, 88.0]], [[80.0, 82.0] * 50, [86.0, 88.0] * 50]
    assert hierarchical_interval(many) == pytest.approx(hierarchical_interval(few))


def test_networks_are_the_sample_with_one_seed():
    assert hierarchical_interval([[80.0, 82.0, 84.0]]) == student([80.0, 82.0, 84.0]).interval()


def test_intervals_are_not_clipped_to_percentages():
    low, high = student([99.0, 100.0]).interval()
    assert low is not None and high > 100


def test_half_of_a_cut_interval_is_the_side_that_is_not_cut():
    assert half_width(99.0, 96.0, 100.0) == half_width(1.0, 0.0, 4.0) == 3.0
    assert half_width(None, 0.0, 1.0) is half_width(1.0, None, None) is None


@pytest.mark.parametrize("by_seed", [[], [[]], [[80.0], []]])
def test_missing_accuracies_are_refused(by_seed):
    with pytest.raises(UsageError):
        hierarchical_interval(by_seed)


SAMPLES = ([88.1, 87.5, 88.9], [80.0, 84.0, 79.5, 83.0, 81.0])


def test_welch_is_scipys():
    found, expected = welch(*map(student, SAMPLES)), stats.ttest_ind(*SAMPLES, equal_var=False)
    assert found.value == pytest.approx(statistics.fmean(SAMPLES[0]) - statistics.fmean(SAMPLES[1]))
    assert (found.freedom, found.p_value()) == pytest.approx((expected.df, expected.pvalue))
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_a_side_that_is_known_exactly_leaves_the_others_freedom():
    """A claim with a std and no number of networks has infinite, beside networks that agree to the last digit."""
    exact, sure = student([90.0] * 3), Estimate(91.5, 0.5, math.inf)
    found = welch(exact, sure)
    assert (found.error, found.freedom) == (0.5, math.inf)
    assert found.interval() == pytest.approx((-1.5 - 1.96 * 0.5, -1.5 + 1.96 * 0.5), abs=1e-4)
    tiny = welch(Estimate(1.0, 1e-200, 2), Estimate(0.0, 1e-200, 2))
    assert (tiny.error, tiny.freedom) == (pytest.approx(math.sqrt(2) * 1e-200), pytest.approx(4))


def test_the_probability_of_a_mean_is_scipys():
    expected = stats.ttest_1samp([1.5, 0.25, 2.0, 0.75], 0.0)
    assert student([1.5, 0.25, 2.0, 0.75]).p_value() == pytest.approx(expected.pvalue)
    assert student([-1.5, -0.25, -2.0, -0.75]).p_value() == pytest.approx(expected.pvalue)


def test_what_has_no_spread_has_no_probability():
    assert student([3.0]) == Estimate(3.0, None, None) and student([3.0]).p_value() is None
    assert student([3.0, 3.0]).p_value() is None
    assert welch(student([3.0]), student([1.0, 2.0])) == Estimate(1.5)
    assert welch(student([3.0, 3.0]), student([1.0, 1.0])) == Estimate(2.0, 0.0, 2)


def holm_slowly(p_values):
    """Step by step: the smallest is compared with level / m, the next with level / (m - 1), until one is above."""
    rejected_at = []
    for index in range(len(p_values)):
        levels = [level / 10000 for level in range(10001)]
        rejected_at.append(next((level for level in levels if index in rejected(p_values, level)), 1.0))
    return rejected_at


def rejected(p_values, level):
    left, out = set(range(len(p_values))), set()
    while left:
        smallest = min(left, key=lambda index: p_values[index])
        if p_values[smallest] > level / len(left):
            break
        out.add(smallest)
        left.remove(smallest)
    return out


@pytest.mark.parametrize(
    "p_values", [[], [0.03], [0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.2], [0.001, 0.9, 0.02, 0.02, 0.6], [1.0, 0.0]]
)
def test_holm_is_the_stepwise_procedure(p_values):
    assert holm(p_values) == pytest.approx(holm_slowly(p_values), abs=1.1e-4)


def test_holm_by_hand():
    # four times 0.005, three times 0.01, twice 0.03; once 0.04 is less than the last, so that counts
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
