"""How well two orders agree, and how well a value tells two groups apart: statistics of ranks, with their intervals."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy

from distill_bench.errors import UsageError
from distill_bench.evaluation.statistics import Interval

_Z = NormalDist().inv_cdf(0.975)
_ENDS = 1e-12
"""As near to ±1 as rounding brings a correlation that is ±1."""


def spearman(first: Sequence[float], second: Sequence[float]) -> tuple[float | None, Interval]:
    """Spearman's rank correlation of pairs and its 95 % interval. Equal values share their mean rank.

    The interval is Fisher's z with the standard error √((1 + r²/2) / (n − 3)) of Bonett & Wright, "Sample size
    requirements for estimating Pearson, Kendall and Spearman correlations" (2000). It takes the pairs for a sample: it
    covers which ones these are, and not how well each of the two values is known.

    Args:
        first, second: n values each, in the same order.

    Returns:
        The correlation in −1 … 1, None where one side is constant or there are fewer than two pairs; and its interval,
        ``(None, None)`` with fewer than four pairs, or where the orders agree or disagree wholly, which says nothing
        of a spread.

    Raises:
        UsageError: the sides are not equally long.
    """
    if len(first) != len(second):
        raise UsageError(f"a correlation is of pairs: got {len(first)} and {len(second)} values.")
    if len(set(first)) < 2 or len(set(second)) < 2:
        return None, (None, None)
    from scipy.stats import rankdata  # which most commands need not wait for

    r = float(numpy.corrcoef(rankdata(first), rankdata(second))[0, 1])
    if len(first) < 4 or 1 - abs(r) < _ENDS:
        return r, (None, None)
    half = _Z * math.sqrt((1 + r**2 / 2) / (len(first) - 3))
    return r, (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def area_under_curve(high: Sequence[float], low: Sequence[float]) -> tuple[float, Interval]:
    """The area under the ROC curve: the probability that a value of ``high`` is above one of ``low``, equals by half.

    The 95 % interval is the normal one with the variance of DeLong, DeLong & Clarke-Pearson, "Comparing the areas under
    two or more correlated receiver operating characteristic curves" (1988), cut at 0 and 1. It covers which values were
    drawn of either group.

    Args:
        high: m values of the group that should have the larger ones.
        low: n values of the other.

    Returns:
        The area in 0 … 1; and its interval, ``(None, None)`` with fewer than two values of a group, or where the groups
        are wholly apart, which says nothing of a spread.

    Raises:
        UsageError: a group is empty.
    """
    if not len(high) or not len(low):
        raise UsageError("an area under the ROC curve needs a value of either group at least.")
    from scipy.stats import rankdata

    ranks = rankdata(numpy.concatenate([high, low]))
    # of each value, the share of the other group that it is above
    above = (ranks[: len(high)] - rankdata(high)) / len(low)
    below = (ranks[len(high) :] - rankdata(low)) / len(high)
    area = float(above.mean())
    if min(len(high), len(low)) < 2:
        return area, (None, None)
    error = math.sqrt(above.var(ddof=1) / len(high) + below.var(ddof=1) / len(low))
    return area, (max(area - _Z * error, 0.0), min(area + _Z * error, 1.0)) if error else (None, None)
