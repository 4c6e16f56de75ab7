"""Graph cut and DQ's bins against explicit features, exhaustive choices and hand-worked numbers."""

import pytest
import torch
from torch.nn import functional as F

from distill_bench.methods.selection.graph_cut import (
    graph_cut,
    graph_cut_bins,
    logit_gradients,
    shares,
    similarities,
)
from distill_bench.runtime.seeds import generator


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=generator("graph cut", seed), dtype=torch.float64)


N, K, D = 10, 4, 6
LOGITS, EMBEDDINGS, LABELS = draw(N, K), draw(N, D, seed=1), torch.arange(N) % K


@pytest.mark.parametrize("softmax", ["once", "twice"])
def test_gradients_by_logits_are_those_of_autograd(softmax):
    logits = LOGITS.clone().requires_grad_()
    output = logits if softmax == "once" else logits.softmax(dim=1)
    F.cross_entropy(output, LABELS, reduction="sum").backward()  # a row's gradient is of its own term alone
    torch.testing.assert_close(logit_gradients(LOGITS, LABELS, softmax), logits.grad)


def test_the_similarity_is_that_of_explicit_features():
    g = logit_gradients(LOGITS, LABELS, "twice")
    explicit = torch.cat([g, torch.einsum("nk,nd->nkd", g, EMBEDDINGS).flatten(1)], dim=1)
    cosine = F.cosine_similarity(explicit[:, None], explicit[None], dim=2)
    torch.testing.assert_close(similarities(g, EMBEDDINGS), 0.5 + 0.5 * cosine)


def test_an_image_without_a_gradient_is_as_near_to_all_as_far():
    g = logit_gradients(LOGITS, LABELS, "once")
    g[3] = 0
    similarity = similarities(g, EMBEDDINGS)
    assert bool(similarity.isfinite().all())
    assert (similarity[3] == 0.5).all()


SIMILARITY = similarities(logit_gradients(LOGITS, LABELS, "once"), EMBEDDINGS)


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_each_choice_is_the_best_of_all_for_the_function(weight):
    def value(chosen):
        return weight * SIMILARITY[:, chosen].sum() - SIMILARITY[chosen][:, chosen].sum()

    slow = []
    for _ in range(6):
        free = [index for index in range(N) if index not in slow]
        slow.append(max(free, key=lambda index: float(value([*slow, index]))))
    assert graph_cut(SIMILARITY, 6, weight).tolist() == slow


def test_the_papers_rule_of_distances_chooses_the_same_images():
    """arg max Σ_S ‖f − x‖² − Σ_{P∖S} ‖f − x‖², f unit vectors: the cosine's own."""
    f = F.normalize(draw(40, 5, seed=2), dim=1)
    squares, slow = torch.cdist(f, f).square(), []
    for _ in range(20):
        inside = torch.tensor([index in slow for index in range(40)])
        gain = squares[:, inside].sum(dim=1) - squares[:, ~inside].sum(dim=1)
        slow.append(int(gain.masked_fill(inside, -torch.inf).argmax()))
    assert graph_cut((1 + f @ f.mT) / 2, 20).tolist() == slow


def test_of_equal_rows_the_first_is_chosen():
    assert graph_cut(torch.ones(5, 5), 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("bins", [1, 2, 3, 7, 10])
def test_bins_are_the_graph_cuts_of_what_is_left_and_have_every_image_once(bins):
    parts = graph_cut_bins(SIMILARITY, bins)
    assert len(parts) == bins
    assert sorted(torch.cat(parts).tolist()) == list(range(N))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    pool = list(range(N))
    for part in parts[:-1]:
        own = SIMILARITY[pool][:, pool]
        assert part.tolist() == sorted(pool[place] for place in graph_cut(own, len(part)).tolist())
        pool = [index for index in pool if index not in part.tolist()]
    assert parts[-1].tolist() == pool


def test_shares_are_exact_where_halves_would_be_rounded_down():
    """An eighth of ten bins of 500: 62 of each, by rounding half to even, are 620 and not 625."""
    parts = shares([500] * 10, 625, generator("shares"))
    assert sum(parts) == 625 and sorted(parts) == [62] * 5 + [63] * 5
    assert {tuple(shares([1] * 4, 1, generator("shares", seed))) for seed in range(50)} == {
        tuple(int(place == number) for place in range(4)) for number in range(4)
    }
    assert shares([3, 3, 1], 5) == [2, 2, 1]
    for count in range(8):
        own = shares([3, 3, 1], count, generator("shares"))
        assert sum(own) == count
        assert all(abs(part - weight * count / 7) < 1 for part, weight in zip(own, (3, 3, 1), strict=True))
