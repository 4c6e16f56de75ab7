"""Budgets: how many images of every class a fraction comes to, and what is no budget."""

import math

import pytest

from distill_bench.distilled.budget import Budget, shown
from distill_bench.errors import UsageError

SIZES = (139, 146, 145, 1)


@pytest.mark.parametrize("fraction", [0.001, 0.02, 0.1, 0.5, 1.0])
def test_a_fraction_is_rounded_class_by_class_with_at_least_one_and_over_all_without(fraction):
    counts = Budget(fraction=fraction).counts(SIZES)
    assert counts == tuple(max(1, math.floor(fraction * size + 0.5)) for size in SIZES)
    assert all(1 <= count <= size for count, size in zip(counts, SIZES, strict=True))
    assert Budget(fraction=fraction).total(SIZES) == math.floor(fraction * sum(SIZES) + 0.5)


def test_by_hand():
    assert Budget(fraction=0.1).counts(SIZES) == (14, 15, 15, 1)
    assert Budget(fraction=0.1).total(SIZES) == 43
    assert Budget(2).counts(SIZES) == (2, 2, 2, 2) and Budget(2).total(SIZES) == 8


@pytest.mark.parametrize("fraction", [0, -0.1, 1.0001, math.nan, math.inf])
def test_a_fraction_that_is_none_is_refused_with_the_number(fraction):
    with pytest.raises(UsageError, match=rf"`fraction={fraction:g}`: .* above 0 and at most 1"):
        Budget(fraction=fraction)


@pytest.mark.parametrize("both", [{}, {"ipc": 1, "fraction": 0.1}])
def test_one_of_the_two_is_given(both):
    with pytest.raises(UsageError, match="one of the two"):
        Budget(**both)


def test_names():
    budgets = [Budget(10), Budget(fraction=0.1), Budget(fraction=1e-5)]
    assert [str(each) for each in budgets] == ["ipc 10", "10 %", "0.001 %"]
    assert [each.slug for each in budgets] == ["ipc10", "fraction0.1", "fraction1e-05"]
    assert [each.option for each in budgets[:2]] == [["--ipc", "10"], ["--fraction", "0.1"]]
    assert shown(None, None) == "" and shown(None, 0.07) == "7 %"
