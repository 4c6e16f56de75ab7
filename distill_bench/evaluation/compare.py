"""Whether one set, or method, is better than another: their difference and how well it is known."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from pydantic import BaseModel, ConfigDict

from distill_bench.evaluation.result import Result
from distill_bench.evaluation.statistics import NO_SPREAD, Estimate, independent_values, student, welch

Basis = Literal["paired", "one seed", "sets", "networks", "none"]


class Difference(BaseModel):
    """How far the mean accuracy of A is above that of B, in points.

    Attributes:
        difference: A minus B.
        ci_low, ci_high: its 95 % interval; None where it cannot be had.
        p: Student's two-sided probability of a difference this large where there is none; None without an interval.
        basis: ``paired``: over the differences of the ``seeds`` that both have, two or more. ``one seed``: where a side
            has one set, and the other one of the same seed, Welch's interval over these two sets' networks. ``sets``:
            Welch's over the sets of A and those of B. ``networks``: Welch's, where a side has one set, of a seed that
            the other has not, over whose networks it goes. Where it is over networks an interval covers the randomness
            of evaluation only, not that of synthesis. ``none``: no interval, since a side has one network, or the
            values have no spread at all, or are the same on both sides.
        seeds: those that are compared one by one, with or without a spread; none where the sides are not paired.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    difference: float
    ci_low: float | None
    ci_high: float | None
    p: float | None
    basis: Basis
    seeds: tuple[str, ...] = ()

    @property
    def half_width(self) -> float | None:
        """Half of the interval, which ± shows."""
        return None if self.ci_low is None or self.ci_high is None else (self.ci_high - self.ci_low) / 2

    def verdict(self, a: str = "A", b: str = "B") -> str:
        """Which of the two is better and by how much, in words.

        Args:
            a, b: what they are called.

        Returns:
            One line.
        """
        if self.resolved:
            better, worse = (a, b) if self.difference > 0 else (b, a)
            return f"{better} is better than {worse} by {with_half_width(abs(self.difference), self.half_width)}"
        return f"not resolved: {a} − {b} is {with_half_width(self.difference, self.half_width, '+')}"

    @property
    def about(self) -> str:
        """What the interval is over, in words."""
        return {
            "paired": f"paired over the synthesis seeds {', '.join(self.seeds)}",
            "one seed": f"Welch's interval over the networks of synthesis seed {', '.join(self.seeds)}: of their "
            "evaluation's randomness only",
            "sets": "Welch's interval over the sets of either side",
            "networks": "Welch's interval over networks where a side has one set: of its evaluation's randomness only",
            "none": "no interval can be had: a side has one network, or nothing varies",
        }[self.basis]

    @property
    def resolved(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.ci_low is not None and self.ci_high is not None and not self.ci_low <= 0 <= self.ci_high


def accuracies_by_seed(results: Sequence[Result]) -> dict[str, list[float]]:
    """What ``compare`` takes: the networks' accuracies of results under one condition by synthesis seed.

    Sets without a seed, or of a seed that several have, go by the sum of their content as well.
    """
    seeds = [result.seed for result in results]
    by_seed = {}
    for result in results:
        alone = result.seed is not None and seeds.count(result.seed) == 1
        parts = [] if result.seed is None else [str(result.seed)]
        by_seed[" ".join(parts if alone else [*parts, f"set {(result.set_sha256 or '')[:8]}"])] = [*result.accuracies]
    return by_seed


def compare(a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]]) -> Difference:
    """The difference of two mean accuracies.

    Sets of one seed share images to begin with and networks to test with, so that where two or more seeds are common
    to both their differences are the sample, and only they. Where a side has one set alone, and the other one of its
    seed, these two sets are compared. Else the two sides are taken as independent, as networks always are: those of one
    number begin alike for every set, but their accuracies correlate by 0.17 only (2,675 pairs of committed results),
    and with few networks pairing them would cost more degrees of freedom than it gains.

    Args:
        a, b: of either side the networks' accuracies in percent by synthesis seed.

    Returns:
        A minus B, in points.

    Raises:
        UsageError: a side has no seeds, or a seed no accuracies.
    """
    samples = [independent_values(list(side.values())) for side in (a, b)]
    common = tuple(seed for seed in a if seed in b)
    if len(common) > 1:
        return _difference(student([fmean(a[seed]) - fmean(b[seed]) for seed in common]), "paired", common)
    if common and 1 in (len(a), len(b)):
        first, second = a[common[0]], b[common[0]]
        pairs = list(zip(first, second, strict=False))
        same = len(pairs) > 1 and all(one == other for one, other in pairs)  # one set, of which a side may know more
        return _difference(Estimate(0.0) if same else welch(student(first), student(second)), "one seed", common)
    basis: Basis = "sets" if len(a) > 1 and len(b) > 1 else "networks"
    return _difference(welch(*map(student, samples)), basis)


def _difference(estimate: Estimate, basis: Basis, seeds: tuple[str, ...] = ()) -> Difference:
    if estimate.error is None or estimate.error < NO_SPREAD:
        return Difference(difference=estimate.value, ci_low=None, ci_high=None, p=None, basis="none", seeds=seeds)
    low, high = estimate.interval()
    return Difference(
        difference=estimate.value, ci_low=low, ci_high=high, p=estimate.p_value(), basis=basis, seeds=seeds
    )


def with_half_width(value: float, half_width: float | None, sign: str = "") -> str:
    """A mean or a difference with half of its 95 % interval, which is the one thing that ± stands for.

    Args:
        value: in percent or points.
        half_width: in points; None where there is no interval.
        sign: ``"+"`` to show one before what is not below 0.

    Returns:
        The text.

    >>> with_half_width(88.06, 0.41), with_half_width(-1.5, 0.04, "+"), with_half_width(-0.02, 0.6)
    ('88.1 ± 0.4', '−1.50 ± 0.04', '0.0 ± 0.6')
    """
    # never "± 0.0" for an interval that has a width, nor "1.1 ± 1.1", which does not say whether 0 is in it
    too_few = half_width is not None and (half_width < 0.1 or f"{abs(value):.1f}" == f"{half_width:.1f}")
    digits = 2 if too_few else 1
    shown = format(value, f"{sign}z.{digits}f").replace("-", "−")  # z: no zero below zero
    return shown if half_width is None else f"{shown} ± {half_width:.{digits}f}"
