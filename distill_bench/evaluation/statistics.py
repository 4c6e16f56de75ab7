"""Confidence intervals over few repetitions: Student-t, because a bootstrap of five values is too narrow."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from distill_bench.errors import UsageError

Interval = tuple[float, float] | tuple[None, None]
NO_SPREAD = 1e-9
"""Points, below which a standard error is the rounding of sums."""


class Estimate(NamedTuple):
    """A mean, or a difference of means, and how well it is known.

    Attributes:
        value: the mean.
        error: its standard error, in the same unit; None where a single value says nothing about spread.
        freedom: the degrees of freedom of ``error``, above 0; None with it.
    """

    value: float
    error: float | None = None
    freedom: float | None = None

    def interval(self, confidence: float = 0.95) -> Interval:
        """Student-t interval of the mean; ``(None, None)`` without a standard error (not NaN: JSON has none)."""
        if self.error is None or self.freedom is None:
            return None, None
        half = _quantile(self.freedom, confidence) * self.error
        return self.value - half, self.value + half

    def p_value(self) -> float | None:
        """Student's two-sided probability of a value this far from 0, were that the truth; None without an error."""
        if not self.error or self.freedom is None:
            return None
        from scipy.special import stdtr

        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error))


def student(values: Sequence[float]) -> Estimate:
    """The mean of independent values in their unit, with n - 1 degrees of freedom.

    Raises:
        UsageError: there are no values.
    """
    if not values:
        raise UsageError("an interval needs at least one value, got none.")
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(mean)
    return Estimate(mean, statistics.stdev(values) / math.sqrt(len(values)), len(values) - 1)


def welch(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two independent means, first minus second, whose variances may differ.

    Source: Welch (1947); the degrees of freedom are Satterthwaite's. Without a standard error of both there is none of
    the difference.
    """
    difference = first.value - second.value
    if first.error is None or second.error is None or first.freedom is None or second.freedom is None:
        return Estimate(difference)
    error = math.hypot(first.error, second.error)
    if error == 0:
        return Estimate(difference, 0.0, first.freedom + second.freedom)
    doubt = (first.error / error) ** 4 / first.freedom + (second.error / error) ** 4 / second.freedom
    return Estimate(difference, error, 1 / doubt if doubt else math.inf)


def holm(p_values: Sequence[float]) -> list[float]:
    """Probabilities of several tests, adjusted so that the ones up to 5 % are wrong with at most 5 % in all.

    Source: Holm (1979), "A simple sequentially rejective multiple test procedure".

    Args:
        p_values: of the tests, each in [0, 1].

    Returns:
        The adjusted ones in the same order, at most 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for done, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def hierarchical_interval(by_seed: Sequence[Sequence[float]]) -> Interval:
    """Student's 95 % interval of the mean accuracy, where ``by_seed[s]`` holds the networks of the set of seed s.

    Networks that share a set are not independent, so with S >= 2 synthesis seeds the seeds are the sample: the interval
    is over their S means, with S - 1 degrees of freedom. With one seed it is over its networks and covers the
    evaluation's randomness only, not the synthesis'. Its ends are not cut at 0 or 100.

    Raises:
        UsageError: there are no seeds, or a seed has no values.
    """
    return student(independent_values(by_seed)).interval()


def independent_values(by_seed: Sequence[Sequence[float]]) -> Sequence[float]:
    """The sample of ``hierarchical_interval``: the seeds' means, or the networks of the only seed.

    Raises:
        UsageError: a seed has no values.
    """
    if any(not values for values in by_seed):
        raise UsageError("every synthesis seed needs at least one accuracy.")
    return by_seed[0] if len(by_seed) == 1 else [statistics.fmean(values) for values in by_seed]


def percent_interval(by_seed: Sequence[Sequence[float]]) -> Interval:
    """The 95 % ``hierarchical_interval`` of accuracies in percent, cut at 0 and 100, beyond which no accuracy lies."""
    low, high = hierarchical_interval(by_seed)
    return (None, None) if low is None or high is None else (max(low, 0.0), min(high, 100.0))


def shown_interval(by_seed: Sequence[Sequence[float]]) -> Interval:
    """The ``percent_interval`` that boards show: none where no value differs, which says nothing about spread."""
    low, high = percent_interval(by_seed)
    return (None, None) if low is None or high is None or high - low < NO_SPREAD else (low, high)


def half_width(value: float | None, low: float | None, high: float | None) -> float | None:
    """Half of an interval around a value, which ± shows; where it is cut, that side which is not.

    None without an interval, and where it has no width: values that do not differ say nothing about spread.
    """
    if value is None or low is None or high is None or high - low < NO_SPREAD:
        return None
    return max(value - low, high - value)


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
    return _quantile(freedom, confidence) * standard_error


def _quantile(freedom: float, confidence: float) -> float:
    """How many standard errors of Student's distribution hold so much of it, half to either side of 0."""
    from scipy.special import stdtrit  # a quarter of a second, which most commands need not wait

    return float(stdtrit(freedom, (1 + confidence) / 2))
