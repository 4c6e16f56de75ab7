"""Rank correlation and the area under the ROC curve, on hand-worked numbers and against slow loops."""

import math

import numpy
import pytest
from scipy import stats

from distill_bench.errors import UsageError
from distill_bench.evaluation.rank_statistics import area_under_curve, spearman


def test_a_correlation_worked_by_hand():
    """Σd² = 4: r = 1 - 6 · 4 / (5 · 24) = 0.8; atanh 0.8 = ln 3, and the error √((1 + 0.32) / 2)."""
    r, (low, high) = spearman([1, 2, 3, 4, 5], [20, 10, 40, 30, 50])
    half = 1.959964 * math.sqrt(0.66)
    assert r == pytest.approx(0.8)
    assert (low, high) == pytest.approx((math.tanh(math.log(3) - half), math.tanh(math.log(3) + half)), abs=1e-6)
    r, (low, high) = spearman([1, 2, 3, 4, 5], [-20, -10, -40, -30, -50])
    assert (r, high) == (pytest.approx(-0.8), pytest.approx(-math.tanh(math.log(3) - half), abs=1e-6))


def test_equal_values_share_their_rank():
    draws = numpy.random.default_rng(0)
    first, second = draws.integers(0, 5, 30), draws.integers(0, 5, 30)
    assert spearman(first, second)[0] == pytest.approx(stats.spearmanr(first, second).statistic)


def test_where_there_is_no_correlation_or_no_interval():
    assert spearman([1, 1, 1, 1], [1, 2, 3, 4]) == (None, (None, None))
    assert spearman([1], [2]) == (None, (None, None))
    assert spearman([1, 2, 3], [1, 3, 2]) == (pytest.approx(0.5), (None, None))  # n - 3 = 0
    assert spearman([1, 2, 3, 4, 5], [5, 4, 3, 2, 1]) == (pytest.approx(-1), (None, None))
    with pytest.raises(UsageError, match="got 2 and 1 values"):
        spearman([1, 2], [1])


def test_an_area_worked_by_hand():
    """3 is above 2 and 0, 1 above 0 alone: 3 of 4 pairs. Shares 1 and ½ on either side, whose variance is ⅛."""
    area, (low, high) = area_under_curve([3, 1], [2, 0])
    assert area == 0.75
    assert (low, high) == (pytest.approx(0.75 - 1.959964 * math.sqrt(1 / 8), abs=1e-6), 1.0)


def test_an_area_and_its_variance_are_those_of_all_pairs():
    draws = numpy.random.default_rng(1)
    high, low = draws.integers(0, 9, 40) + 2, draws.integers(0, 9, 25)
    pairs = numpy.array([[(h > other) + (h == other) / 2 for other in low] for h in high])
    area, (lower, upper) = area_under_curve(high.tolist(), low.tolist())
    variance = pairs.mean(axis=1).var(ddof=1) / 40 + pairs.mean(axis=0).var(ddof=1) / 25
    assert area == pytest.approx(pairs.mean())
    assert (upper - lower) / 2 == pytest.approx(1.959964 * math.sqrt(variance), abs=1e-6)


def test_areas_without_an_interval():
    assert area_under_curve([5, 6], [1, 2]) == (1.0, (None, None))
    assert area_under_curve([5], [1, 7]) == (0.5, (None, None))
    with pytest.raises(UsageError, match="a value of either group"):
        area_under_curve([], [1])
