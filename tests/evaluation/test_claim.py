"""The criterion for claims against scipy, at its borders, and on simulated papers."""

import statistics
from random import Random

import pytest
from scipy import stats

from distill_bench.errors import UsageError
from distill_bench.evaluation.claim import WIDEST, check_claim, claim_of

OURS = [66.67, 66.38, 66.24]


def test_both_sides_count_as_in_welchs_test():
    found = check_claim([OURS], claim_of(66.8, 0.2, 5))
    sides = (statistics.fmean(OURS), statistics.stdev(OURS), 3, 66.8, 0.2, 5)
    expected = stats.ttest_ind_from_stats(*sides, equal_var=False)
    assert found.standard_errors == pytest.approx(expected.statistic)
    assert found.standard_error == pytest.approx((statistics.variance(OURS) / 3 + 0.2**2 / 5) ** 0.5)
    assert (found.outcome, found.assumptions) == ("holds", ())
    assert (abs(found.difference) <= found.margin) == (expected.pvalue >= 0.05)


@pytest.mark.parametrize(("accuracy", "outcome"), [(66.8, "holds"), (66.9, "does not hold"), (65.9, "does not hold")])
def test_the_border_is_half_of_the_interval(accuracy, outcome):
    found = check_claim([OURS], claim_of(accuracy, 0.2, 5))
    assert (found.outcome, found.margin) == (outcome, pytest.approx(0.4306, abs=1e-4))
    assert found.difference == pytest.approx(66.43 - accuracy)


def test_several_sets_are_the_sample():
    by_set = [[28.2, 28.4], [28.5, 28.7], [27.9, 28.1]]
    means = [28.3, 28.6, 28.0]
    found = check_claim(by_set, claim_of(28.03, 0.6, 100))
    assert (found.sets, found.networks, found.measured) == (3, 6, pytest.approx(28.3))
    assert found.standard_error == pytest.approx((statistics.variance(means) / 3 + 0.6**2 / 100) ** 0.5)


def test_an_unknown_number_of_networks_makes_the_std_the_error():
    found = check_claim([OURS], claim_of(66.9, 0.2))
    assert found.standard_error == pytest.approx((statistics.variance(OURS) / 3 + 0.2**2) ** 0.5)
    assert found.outcome == "holds"  # and does not where the paper is known to have trained five
    assert "one is assumed" in found.assumptions[0]


def test_an_unknown_std_is_taken_to_be_ours():
    found = check_claim([OURS], claim_of(66.8, None, 5))
    # an interval for the mean of five more networks
    error = statistics.stdev(OURS) * (1 / 3 + 1 / 5) ** 0.5
    assert found.standard_error == pytest.approx(error)
    assert found.margin == pytest.approx(error * stats.t.ppf(0.975, 2))
    assert found.assumptions == (
        "the claim gives no std: the sample std of the networks measured, 0.22, is taken for it",
    )
    assert check_claim([OURS], claim_of(66.8, None, 1)).assumptions == found.assumptions


@pytest.mark.parametrize(
    ("ours", "claimed"),
    [([66.8], (66.8, 0.2, 5)), ([60.0, 73.6], (66.8, 0.2, 5)), ([5.0, 5.0], (5.0, 0.0, 3)), ([5.0, 5.0], (5.0,))],
)
def test_what_cannot_be_told_is_not_resolved(ours, claimed):
    found = check_claim([ours], claim_of(*claimed))
    assert found.outcome == "not resolved"
    assert found.margin is None or found.margin > WIDEST


def test_far_apart_is_resolved_whatever_the_width():
    assert check_claim([[20.0, 26.0, 23.0]], claim_of(90.0, 0.2, 5)).outcome == "does not hold"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((150.0,), "`claim=150` is no accuracy"),
        ((-1.0,), "`claim=-1` is no accuracy"),
        ((float("nan"),), "`claim=nan` is no accuracy"),
        ((66.8, -0.2), "`std=-0.2` is no standard deviation"),
        ((66.8, float("inf")), "`std=inf` is no standard deviation"),
        ((66.8, 0.2, 0), "`claimed_networks=0`: give how many"),
        ((66.8, 0.2, 1), "`std=0.2` of one network"),
    ],
)
def test_what_is_no_claim_is_refused(values, said):
    with pytest.raises(UsageError, match=said):
        claim_of(*values)


def test_the_spread_of_two_networks_is_pooled_with_the_claims():
    ours = [64.0, 64.4]
    found = check_claim([ours], claim_of(65.3, 0.7, 5))
    expected = stats.ttest_ind_from_stats(64.2, statistics.stdev(ours), 2, 65.3, 0.7, 5)
    assert found.standard_errors == pytest.approx(expected.statistic)
    assert (found.outcome, expected.pvalue > 0.05) == ("holds", True)


@pytest.mark.parametrize("theirs", [5, 20, 100])
@pytest.mark.parametrize("sets", [1, 2])
def test_at_most_five_of_a_hundred_true_claims_fail_by_two_values(sets, theirs):
    """Two networks of one set, or two sets of three: Welch's freedom is too large where the two lie close by chance."""
    draws, failed = Random(2), 0
    for _ in range(3000):
        claimed = [draws.gauss(70, 0.5) for _ in range(theirs)]
        centres = [70.0] if sets == 1 else [draws.gauss(70, 0.3) for _ in range(sets)]
        ours = [[draws.gauss(centre, 0.5) for _ in range(2 if sets == 1 else 3)] for centre in centres]
        found = check_claim(ours, claim_of(statistics.fmean(claimed), statistics.stdev(claimed), theirs))
        failed += found.outcome == "does not hold"
    assert failed / 3000 < 0.06


@pytest.mark.parametrize(("std_is_known", "networks"), [(True, 5), (False, 5), (True, None)])
def test_at_most_five_of_a_hundred_true_claims_fail(std_is_known, networks):
    draws, failed = Random(2), 0
    for _ in range(3000):
        theirs, ours = ([draws.gauss(70, 0.5) for _ in range(count)] for count in (5, 4))
        std = statistics.stdev(theirs) if std_is_known else None
        failed += check_claim([ours], claim_of(statistics.fmean(theirs), std, networks)).outcome == "does not hold"
    assert (0.035 if networks else 0.0) <= failed / 3000 < 0.06
