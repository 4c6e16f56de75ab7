"""The difference of two sides against scipy, and how often it errs on simulated accuracies."""

from random import Random

import pytest
from scipy import stats

from distill_bench.errors import UsageError
from distill_bench.evaluation.compare import compare

A = {"0": [90.0, 91.0], "1": [92.0, 92.5], "2": [88.0]}
B = {"0": [89.0, 89.5], "1": [90.0], "2": [88.5, 87.0], "3": [10.0]}


def test_common_seeds_are_paired():
    found, expected = compare(A, B), stats.ttest_rel([90.5, 92.25, 88.0], [89.25, 90.0, 87.75])
    assert (found.basis, found.seeds) == ("paired", ("0", "1", "2"))
    assert found.difference == pytest.approx((1.25 + 2.25 + 0.25) / 3)
    assert (found.ci_low, found.ci_high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)
    assert found.half_width == pytest.approx(found.ci_high - found.difference)


def test_other_seeds_are_compared_by_welch():
    found, expected = (
        compare(A, {"3": [80.0, 82.0], "4": [83.0]}),
        stats.ttest_ind([90.5, 92.25, 88.0], [81.0, 83.0], equal_var=False),
    )
    assert (found.basis, found.seeds, found.p) == ("sets", (), pytest.approx(expected.pvalue))


def test_networks_are_compared_where_a_side_has_one_set():
    found = compare(A, {"7": [80.0, 82.0, 84.0]})
    expected = stats.ttest_ind([90.5, 92.25, 88.0], [80.0, 82.0, 84.0], equal_var=False)
    assert (found.basis, found.p) == ("networks", pytest.approx(expected.pvalue))


def test_one_common_seed_is_compared_alone():
    """Also where there are more networks of a set: it does not differ from itself."""
    own, more = [81.0, 84.0, 85.0], {"0": [80.0, 82.0, 84.5, 70.0], "1": [10.0]}
    found, expected = compare({"0": own}, more), stats.ttest_ind(own, more["0"], equal_var=False)
    assert (found.basis, found.seeds, found.p) == ("one seed", ("0",), pytest.approx(expected.pvalue))
    assert found.difference == pytest.approx(250 / 3 - 79.125)
    assert "the networks of synthesis seed 0" in found.about
    same = compare({"0": [80.0, 82.0, 84.5]}, more)
    assert (same.difference, same.half_width, same.basis) == (0.0, None, "none")
    assert compare({"0": [80.0]}, more).difference == pytest.approx(80 - 79.125)  # one equal accuracy is chance
    assert compare({"0": [80.0], "1": [81.0]}, {"0": [80.0], "2": [83.0]}).basis == "sets"


@pytest.mark.parametrize(
    "sides",
    [
        ({"0": [90.0]}, {"0": [80.0, 81.0]}),
        ({"0": [90.0]}, {"0": [80.0]}),
        ({"0": [90.0, 90.0]}, {"1": [80.0, 80.0]}),
        ({"0": [90.1], "1": [90.3]}, {"0": [80.2], "1": [80.4]}),  # apart by 9.9 both times, but for rounding
        (A, A),
    ],
)
def test_without_spread_there_is_no_interval(sides):
    found = compare(*sides)
    assert (found.basis, found.ci_low, found.ci_high, found.p, found.resolved) == ("none", None, None, None, False)


def test_what_is_resolved_leaves_out_zero():
    assert compare(A, {seed: [v - 5 - int(seed) / 10 for v in values] for seed, values in A.items()}).resolved
    assert not compare(A, B).resolved


def test_a_side_without_accuracies_is_refused():
    with pytest.raises(UsageError):
        compare(A, {"0": []})
    with pytest.raises(UsageError):
        compare({}, A)


def drawn(draws, seeds, networks):
    """A side whose sets differ by 2 points (standard deviation) and whose networks by 1."""
    means = {seed: draws.gauss(80, 2) for seed in seeds}
    return {str(seed): [draws.gauss(mean, 1) for _ in range(networks)] for seed, mean in means.items()}


@pytest.mark.parametrize(
    ("first", "second", "networks", "basis"),
    [((0, 1, 2), (0, 1, 2), 2, "paired"), ((0, 1, 2), (3, 4, 5), 2, "sets")],
)
def test_equal_methods_are_resolved_in_at_most_five_of_a_hundred_cases(first, second, networks, basis):
    draws, wrong = Random(0), 0
    for _ in range(3000):
        found = compare(drawn(draws, first, networks), drawn(draws, second, networks))
        assert found.basis == basis
        wrong += found.resolved
    assert 0.025 < wrong / 3000 < 0.06  # Welch's is known to err less often than it may, with three values


def test_networks_of_equal_sets_are_resolved_in_five_of_a_hundred_cases():
    draws, wrong = Random(0), 0
    for _ in range(3000):
        first, second = ([draws.gauss(80, 1) for _ in range(5)] for _ in range(2))
        wrong += compare({"0": first}, {"1": second}).resolved
    assert 0.04 < wrong / 3000 < 0.06
