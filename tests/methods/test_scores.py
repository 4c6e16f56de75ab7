"""Scores against slow ones that are obviously right, gradients by autograd, and numbers worked by hand."""

import itertools
import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from distill_bench.methods.selection import scores
from distill_bench.methods.selection.keep import (
    dropped_count,
    kept,
    ranked,
    stratified,
    stratum_budgets,
    without_hardest,
)
from distill_bench.pretrained.dynamics import outcomes
from distill_bench.runtime.seeds import generator


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator("scores", seed), dtype=torch.float64)


N, K, D = 10, 4, 6
FEATURES, WEIGHT, BIAS = draw(N, D), draw(K, D, seed=1), draw(K, seed=2)
LABELS = torch.arange(N) % K
P = F.linear(FEATURES, WEIGHT, BIAS).softmax(dim=1)


# ---- of a network's outputs


def test_el2n_and_grand_are_norms_of_every_images_own_gradient():
    layer, gradients = [WEIGHT.clone().requires_grad_(), BIAS.clone().requires_grad_()], []
    for image, label in zip(FEATURES, LABELS, strict=True):
        loss = F.cross_entropy(F.linear(image[None], *layer), label[None])
        gradients.append(torch.cat([part.flatten() for part in torch.autograd.grad(loss, layer)]))
    own = torch.stack(gradients)
    torch.testing.assert_close(scores.gradient_norm(P, LABELS, FEATURES), own.norm(dim=1))
    by_biases = own[:, -K:]  # which is that by the logits
    torch.testing.assert_close(scores.error_norm(P, LABELS), by_biases.norm(dim=1))


def test_grand_of_a_batch_in_two_parts_is_that_of_the_whole():
    """A norm of a batch's mean loss is larger where the last batch is small: 10 / 3 times for the three of 7 + 3."""
    whole = scores.gradient_norm(P, LABELS, FEATURES)
    parts = [scores.gradient_norm(P[part], LABELS[part], FEATURES[part]) for part in (slice(7), slice(7, None))]
    assert torch.equal(torch.cat(parts), whole)


def test_entropy_margin_and_confidence_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [0.4, 0.2, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(
        scores.entropy(p), torch.tensor([1.5 * math.log(2), 0.0, 1.0549]).double(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(scores.margin(p), torch.tensor([0.25, 1.0, 0.0]).double())
    torch.testing.assert_close(scores.confidence(p), torch.tensor([0.5, 1.0, 0.4]).double())


def test_the_distance_to_the_median_is_of_every_feature_by_itself():
    features = torch.tensor([[0.0, 9.0], [1.0, 0.0], [2.0, 1.0], [30.0, 2.0]]).double()
    middle = (1.5, 1.5)
    slow = [math.dist(row, middle) for row in features.tolist()]
    torch.testing.assert_close(scores.distance_to_median(features), torch.tensor(slow).double())


# ---- of training


def test_forgetting_counts_what_was_right_and_is_wrong_at_the_next_visit():
    visits = ["111111", "010101", "001011", "000000", "110000", "000001"]
    correct = torch.tensor([[digit == "1" for digit in row] for row in visits]).T
    assert scores.forgetting_events(correct).tolist() == [0, 2, 1, 6, 1, 0]
    assert scores.forgetting_events(correct, "easiest").tolist() == [0, 2, 1, 0, 1, 0]
    assert scores.forgetting_events(correct[:1]).tolist() == [0, 1, 1, 1, 0, 1]


def test_the_area_under_the_margin_is_a_sum_over_epochs():
    true, other = torch.tensor([[0.9, 0.1], [0.5, 0.2]]).half(), torch.tensor([[0.05, 0.8], [0.5, 0.3]]).half()
    torch.testing.assert_close(
        scores.area_under_margin(true, other), torch.tensor([0.85, -0.8]).double(), atol=1e-3, rtol=0
    )


def test_what_a_pass_says_of_an_image():
    logits = F.linear(FEATURES, WEIGHT, BIAS)
    correct, true, other, error = outcomes(logits, LABELS)
    for row, label in enumerate(LABELS.tolist()):
        p = P[row].tolist()
        rest = [value for number, value in enumerate(p) if number != label]
        assert bool(correct[row]) == (p[label] > max(rest))
        assert (float(true[row]), float(other[row])) == pytest.approx((p[label], max(rest)))
        assert float(error[row]) == pytest.approx(math.hypot(1 - p[label], *rest))
    assert 0 < correct.sum() < N


# ---- what is kept


SCORES = torch.tensor([3.0, 1.0, 7.0, 5.0, 4.0, 2.0, 6.0]).double()


def test_each_end_of_a_score_is_the_one_it_says():
    """A sort that is reversed keeps the most certain where the most undecided are meant."""

    def chosen(keep, count):
        return SCORES[kept(SCORES, count, keep, generator("ties"))].tolist()

    assert chosen("high", 3) == [7, 6, 5]
    assert chosen("low", 3) == [1, 2, 3]
    assert chosen("middle", 3) == [3, 4, 5] and chosen("middle", 1) == [4]  # the median
    for keep in ("high", "low", "middle", "strata"):
        assert sorted(chosen(keep, 7)) == sorted(SCORES.tolist())


def test_equal_scores_come_in_a_random_order_and_never_before_lower_ones():
    ties = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 1.0]).double()
    orders = {tuple(ranked(ties, generator("ties", seed)).tolist()) for seed in range(400)}
    lows, highs = itertools.permutations((1, 3)), itertools.permutations((0, 2, 4, 5))
    assert orders == {(*low, *high) for low, high in itertools.product(lows, highs)}
    assert ranked(ties, generator("ties")).tolist() == ranked(ties, generator("ties")).tolist()
    assert ranked(torch.tensor([math.inf, 0.0, -math.inf]).double(), generator("ties")).tolist() == [2, 1, 0]


@pytest.mark.parametrize(("share", "dropped"), [(0.0, 0), (0.2, 1), (0.3, 2), (0.99, 6)])
def test_the_hardest_are_dropped_from_the_end_where_they_are(share, dropped):
    by_score = SCORES.argsort().tolist()
    for hardest, left in (("high", by_score[: 7 - dropped]), ("low", by_score[dropped:])):
        assert without_hardest(SCORES, share, hardest, generator("ties")).tolist() == sorted(left)


def slow_budgets(sizes, count):
    """One image at a time: to the stratum that has been given fewest and has more; of those to the largest, as the
    strata come by rising size and what does not divide is left to the last."""
    budgets = [0] * len(sizes)
    for _ in range(count):
        open_ones = [number for number, size in enumerate(sizes) if budgets[number] < size]
        budgets[min(open_ones, key=lambda number: (budgets[number], -sizes[number], -number))] += 1
    return budgets


@pytest.mark.parametrize("seed", range(30))
def test_budgets_of_strata_sum_to_the_request_and_exceed_no_stratum(seed):
    sizes = torch.randint(0, 9, (6,), generator=generator("sizes", seed)).tolist()
    for count in range(sum(sizes) + 1):
        budgets = stratum_budgets(sizes, count)
        assert sum(budgets) == count
        assert all(0 <= budget <= size for budget, size in zip(budgets, sizes, strict=True))
        assert budgets == slow_budgets(sizes, count)


@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_strata_are_of_equal_width_also_below_zero(shift):
    """With an end of 1.0001 times the maximum, the largest score would lie beyond the last where all are negative."""
    values = torch.cat([torch.linspace(0, 0.99, 40), torch.linspace(9.01, 10, 3)]).double() + shift
    for seed in range(5):
        chosen = values[stratified(values, 6, generator("strata", seed), strata=10)] - shift
        assert ((chosen < 1).sum(), (chosen > 9).sum()) == (3, 3)
    places = {tuple(sorted(stratified(values, 6, generator("strata", seed), strata=10).tolist())) for seed in range(5)}
    assert len(places) == 5


def test_equal_scores_are_one_stratum():
    chosen = stratified(torch.full((9,), 2.0).double(), 4, generator("strata"))
    assert len(set(chosen.tolist())) == 4


def test_a_share_is_what_is_written_and_not_the_binary_number_below():
    for count, digits in product(range(1, 200), range(100)):
        assert dropped_count(digits / 100, count) == digits * count // 100


def test_strata_of_scores_whose_range_is_beyond_the_type():
    scores = torch.tensor([-1e308, -1e308, 0.0, 1e308], dtype=torch.float64)
    for count in range(1, 5):
        assert len(set(stratified(scores, count, generator("strata")).tolist())) == count
