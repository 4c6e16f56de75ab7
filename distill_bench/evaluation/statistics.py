"""Confidence intervals over few repetitions: Student-t, because a bootstrap of five values is too narrow."""

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit  # scipy.stats would take a second to import

from distill_bench.errors import UsageError

Interval = tuple[float, float] | tuple[None, None]


def student_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student-t interval of the mean of independent ``values``, in their unit, with n - 1 degrees of freedom.

    Returns ``(None, None)`` for a single value, which says nothing about spread (not NaN: JSON has none).
    The ends are not clipped, so an interval of percentages may reach beyond 0 or 100.

    Raises:
        UsageError: there are no values, or ``confidence`` is not strictly between 0 and 1.
    """
    if not values:
        raise UsageError("an interval needs at least one value, got none.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, got {confidence}.")
    if len(values) == 1:
        return None, None
    mean = statistics.fmean(values)
    standard_error = statistics.stdev(values) / math.sqrt(len(values))
    half_width = float(stdtrit(len(values) - 1, (1 + confidence) / 2)) * standard_error
    return mean - half_width, mean + half_width


def hierarchical_interval(by_seed: Sequence[Sequence[float]], confidence: float = 0.95) -> Interval:
    """Student-t interval of the mean accuracy, where ``by_seed[s]`` holds the networks trained on the set of seed s.

    Networks that share a set are not independent, so with S >= 2 synthesis seeds the seeds are the sample: the interval
    is over their S means, with S - 1 degrees of freedom. With one seed it is over its networks and covers the
    evaluation's randomness only, not the synthesis'.

    Raises:
        UsageError: there are no seeds, a seed has no values, or ``confidence`` is not strictly between 0 and 1.
    """
    if any(not values for values in by_seed):
        raise UsageError("every synthesis seed needs at least one accuracy.")
    if len(by_seed) == 1:
        return student_interval(by_seed[0], confidence)
    return student_interval([statistics.fmean(values) for values in by_seed], confidence)


def percent_interval(by_seed: Sequence[Sequence[float]]) -> Interval:
    """The 95 % ``hierarchical_interval`` of accuracies in percent, cut at 0 and 100, beyond which no accuracy lies."""
    low, high = hierarchical_interval(by_seed)
    return (None, None) if low is None or high is None else (max(low, 0.0), min(high, 100.0))


def chance_margin(first: Sequence[float], second: Sequence[float], confidence: float = 0.99) -> float | None:
    """How far apart the means of two samples of one population come to lie by chance, in the values' unit.

    Half the width of Student's two-sample interval with pooled variance, n₁ + n₂ - 2 degrees of freedom: with
    probability ``confidence`` the means of two such samples are at most this far apart. None if both are single
    values, which say nothing about spread.

    Raises:
        UsageError: a sample is empty, or ``confidence`` is not strictly between 0 and 1.
    """
    if not first or not second:
        raise UsageError("a comparison needs at least one value on either side.")
    if not 0 < confidence < 1:
        raise UsageError(f"confidence must lie strictly between 0 and 1, got {confidence}.")
    freedom = len(first) + len(second) - 2
    if freedom == 0:
        return None
    squares = sum((value - statistics.fmean(sample)) ** 2 for sample in (first, second) for value in sample)
    standard_error = math.sqrt(squares / freedom * (1 / len(first) + 1 / len(second)))
    return float(stdtrit(freedom, (1 + confidence) / 2)) * standard_error
