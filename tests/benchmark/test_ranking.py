"""Ranks with ties, by hand, against a slow implementation, and on simulated boards."""

from random import Random

import pytest
from result_files import failure, score
from scipy import stats

from distill_bench.benchmark.leaderboard.collect import leaderboard_rows
from distill_bench.benchmark.leaderboard.ranking import places


def rows(**seeds):
    """A row a method, of one network a seed."""
    return leaderboard_rows(
        score(method, seed=seed, accuracies=[value]) for method, values in seeds.items() for seed, value in values
    )


def numbered(*values):
    return list(enumerate(values))


def ranks(group):
    return {row["method"]: place and place.rank for row, place in zip(group, places(group), strict=True)}


def test_what_is_not_resolved_shares_a_rank():
    group = rows(
        a=numbered(90.0, 91.0, 92.0), b=numbered(89.5, 90.8, 91.9), c=numbered(80.0, 81.0, 82.1),
        d=numbered(79.9, 81.1, 82.0), e=numbered(60.0, 61.0, 62.05),
    )  # fmt: skip
    assert ranks(group) == {"a": 1, "b": 1, "c": 3, "d": 3, "e": 5}
    assert [place.best for place in places(group)] == [True, True, False, False, False]


def test_no_row_is_before_one_of_a_higher_accuracy_however_wide_its_spread():
    group = rows(a=numbered(90.0, 91.0, 92.0), b=numbered(80.0, 81.0, 82.1), c=numbered(90.0, 40.0, 60.0))
    assert ranks(group) == {"a": 1, "b": 2, "c": 2}


def test_one_row_and_none():
    assert places([]) == []
    assert ranks(rows(a=numbered(90.0))) == {"a": 1}
    assert ranks(leaderboard_rows([score("a"), failure("b")])) == {"a": 1, "b": None}


def test_single_networks_are_never_resolved():
    assert ranks(rows(a=numbered(90.0), b=numbered(20.0))) == {"a": 1, "b": 1}


def test_a_top_that_common_seeds_deny_is_not_resolved():
    group = rows(a=[(0, 50.0), (1, 51.0), (2, 99.0), (3, 99.0)], b=[(0, 60.0), (1, 61.1)])
    (top, other) = places(group)
    assert top.lead is None and other.lead.difference < 0 and (other.rank, other.p) == (1, 1.0)


def test_the_correction_counts_every_row_that_is_compared():
    values = [90.0, 91.0, 92.0], [88.0, 88.0, 90.5]
    group = rows(a=numbered(*values[0]), b=numbered(*values[1]), c=numbered(88.0, 88.1, 90.4))
    p = [stats.ttest_rel(values[0], other).pvalue for other in (values[1], [88.0, 88.1, 90.4])]
    found = {row["method"]: place for row, place in zip(group, places(group), strict=True)}
    low, high = sorted(p)
    adjusted = {low: 2 * low, high: max(2 * low, high)}
    assert (found["b"].p, found["c"].p) == pytest.approx((adjusted[p[0]], adjusted[p[1]]))


def test_rows_of_the_same_accuracies_are_one_comparison():
    """As strict scores of random images with recorded labels, which are those of random images."""
    values = numbered(88.0, 88.0, 90.5)
    alone = rows(a=numbered(90.0, 91.0, 92.0), b=values, c=numbered(88.0, 88.1, 90.4))
    more = [*alone, *rows(d=values, e=values, f=numbered(90.0, 91.0, 92.0))]
    expected = {row["method"]: place.p for row, place in zip(alone, places(alone), strict=True)}
    found = {row["method"]: place.p for row, place in zip(more, places(more), strict=True)}
    assert found == {**expected, "d": expected["b"], "e": expected["b"], "f": 1.0}


@pytest.mark.parametrize(("methods", "all_marked"), [(2, 0.93), (6, 0.9)])
def test_methods_as_good_as_any_are_marked(methods, all_marked):
    draws, left_out, one = Random(1), 0, 0
    for _ in range(1500):
        group = [
            {"accuracies": (values := {f"{seed}": [draws.gauss(90, 1)] for seed in range(3)}),
             "accuracy": sum(value for (value,) in values.values()) / 3} for _ in range(methods)
        ]  # fmt: skip
        marked = [place.best for place in places(group)]
        one += not marked[0]
        left_out += not all(marked)
    assert one / 1500 < 0.035 and 1 - left_out / 1500 > all_marked
