"""Which images of a score are kept: the highest, the lowest, those in the middle, or some of every stratum.

Equal scores are in a random order of the caller's generator, never in that of the file.
"""

from fractions import Fraction
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

Keep = Literal["high", "low", "middle", "strata"]
STRATA = 50


def ranked(scores: Float[Tensor, " n"], generator: Generator) -> Int64[Tensor, " n"]:
    """Indices from the lowest score to the highest; equal ones in random order.

    Args:
        scores: numbers, infinite ones too.
        generator: draws the order of equal scores.

    Returns:
        A permutation of 0 … n − 1.
    """
    shuffled = torch.randperm(len(scores), generator=generator)
    return shuffled[scores[shuffled].argsort(stable=True)]


def kept(scores: Float[Tensor, " n"], count: int, keep: Keep, generator: Generator) -> Int64[Tensor, " k"]:
    """Indices of ``count`` images by their score.

    Args:
        scores: finite, where strata are kept.
        count: how many, at most n.
        keep: ``high``: the highest, from the highest on; ``low``: the lowest, from the lowest on; ``middle``: as many
            below the median as above (Moderate Coreset), from low to high; ``strata``: see ``stratified``.
        generator: draws the order of equal scores, and within strata.

    Returns:
        Different indices.
    """
    if keep == "strata":
        return stratified(scores, count, generator)
    order = ranked(scores, generator)
    if keep == "high":
        return order.flip(0)[:count]
    first = (len(order) - count) // 2 if keep == "middle" else 0
    return order[first : first + count]


def dropped_count(share: float, count: int) -> int:
    """⌊share · count⌋ of the share as it is written: in binary, 0.7 · 90 is a little below 63.

    >>> dropped_count(0.7, 90), dropped_count(0.29, 100)
    (63, 29)
    """
    return int(Fraction(str(share)) * count)


def without_hardest(
    scores: Float[Tensor, " n"], share: float, hardest: Literal["high", "low"], generator: Generator
) -> Int64[Tensor, " m"]:
    """Indices of all images but the share ⌊share · n⌋ that are hardest, in ascending order.

    Source: CCS (see ``stratified``), whose β this is: the hardest images are often wrongly labelled.

    Args:
        scores: numbers, infinite ones too.
        share: from 0 to below 1.
        hardest: at which end of the score the hardest are.
        generator: draws the order of equal scores.

    Returns:
        Different indices.
    """
    order, dropped = ranked(scores, generator), dropped_count(share, len(scores))
    left = order[: len(order) - dropped] if hardest == "high" else order[dropped:]
    return left.sort().values


def stratified(
    scores: Float[Tensor, " n"], count: int, generator: Generator, strata: int = STRATA
) -> Int64[Tensor, " k"]:
    """Indices of ``count`` images, drawn at random from strata of equal width, as equally as their sizes allow.

    Source: Zheng et al., "Coverage-centric Coreset Selection" (CCS, ICLR 2023), algorithm 1, and
    haizhongzheng/Coverage-centric-coreset-selection b37f166. There the last stratum ends at 1.0001 times the maximum,
    so that a maximum below 0 lies in none; here it ends at the maximum.

    Args:
        scores: finite.
        count: how many, at most n.
        generator: draws within strata.
        strata: into how many parts the range of scores is cut.

    Returns:
        Different indices, stratum by stratum.
    """
    low, high = scores.min(), scores.max()
    width = (high / 2 - low / 2).clamp(min=torch.finfo(scores.dtype).tiny)  # halves: the whole may be beyond the type
    place = ((scores / 2 - low / 2) / width * strata).long().clamp(max=strata - 1)
    budgets = stratum_budgets(place.bincount(minlength=strata).tolist(), count)
    shuffled = torch.randperm(len(scores), generator=generator)
    of_stratum = [shuffled[place[shuffled] == number][:budget] for number, budget in enumerate(budgets)]
    return torch.cat(of_stratum)


def stratum_budgets(sizes: list[int], count: int) -> list[int]:
    """How many images every stratum gives: the smallest all they have, the others equally many (CCS, algorithm 1).

    Args:
        sizes: of the strata.
        count: how many in all, at most their sum.

    Returns:
        Numbers in the order of ``sizes``, none above its stratum's, which sum to ``count``.

    >>> stratum_budgets([5, 0, 100, 2], 20)
    [5, 0, 13, 2]
    """
    budgets, rest = [0] * len(sizes), count
    by_size = sorted(range(len(sizes)), key=lambda number: sizes[number])
    for done, number in enumerate(by_size):
        budgets[number] = min(sizes[number], rest // (len(sizes) - done))
        rest -= budgets[number]
    return budgets
