"""Whether an accuracy that somebody claims holds, given what was measured: the one criterion for it."""

import math
import statistics
from collections.abc import Sequence
from itertools import chain
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field

from distill_bench.errors import UsageError
from distill_bench.evaluation.statistics import NO_SPREAD, Estimate, independent_values, student, welch

Outcome = Literal["holds", "does not hold", "not resolved"]
WIDEST = 5.0
"""Points. Where chance alone explains more than this, too few networks were trained to tell anything."""


class Claimed(BaseModel):
    """An accuracy as a paper or a release gives it.

    Attributes:
        accuracy: mean over networks, in percent.
        std: their standard deviation, in points; None if it is not published.
        networks: over how many; None if that is not published.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    accuracy: float
    std: float | None = None
    networks: int | None = None

    def __str__(self) -> str:
        std = "" if self.std is None else f", std {self.std:.4g}"
        count = "" if self.networks is None else f", {self.networks} network{'s' * (self.networks > 1)}"
        return f"{self.accuracy:.4g} %{std}{count}"


class ClaimVerdict(BaseModel):
    """Whether a claimed accuracy holds, by the criterion of ``check_claim``.

    Attributes:
        outcome: whether it does, or that cannot be told.
        claimed: what is claimed.
        measured: mean accuracy in percent.
        difference: measured minus claimed, in points.
        standard_error: of the difference, in points; None where neither side has a spread.
        standard_errors: the difference in these.
        margin: half of the 95 % interval of the difference; None without a standard error.
        sets, networks: how many were measured: independent sets, and networks on all of them together.
        assumptions: what the claim does not say, and what was taken for it; arguments stand in backticks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    outcome: Outcome
    claimed: Claimed
    measured: float
    difference: float
    standard_error: float | None
    margin: float | None
    sets: int
    networks: int
    assumptions: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def standard_errors(self) -> float | None:
        return None if self.standard_error is None else self.difference / self.standard_error


def claim_of(accuracy: float, std: float | None = None, networks: int | None = None) -> Claimed:
    """A claim, checked.

    Args:
        accuracy, std, networks: as ``Claimed`` has them.

    Returns:
        The claim.

    Raises:
        UsageError: a value cannot be.
    """
    if not 0 <= accuracy <= 100:
        raise UsageError(f"`claim={accuracy:g}` is no accuracy: give percent, from 0 to 100.")
    if std is not None and not 0 <= std <= 100:
        raise UsageError(f"`std={std:g}` is no standard deviation of accuracies: give points, from 0 to 100.")
    if networks is not None and not 1 <= networks < 1 << 53:
        raise UsageError(f"`claimed_networks={networks}`: give how many networks the claim is over, 1 or more.")
    if networks == 1 and std:
        raise UsageError(
            f"`std={std:g}` of one network: one has no spread. Leave it out, or give `claimed_networks` above 1."
        )
    return Claimed(accuracy=accuracy, std=std, networks=networks)


def check_claim(by_set: Sequence[Sequence[float]], claimed: Claimed) -> ClaimVerdict:
    """Hold a claimed accuracy against measured ones.

    The criterion: a claim **holds** where measured and claimed accuracy lie no further apart than half of the 95 %
    interval of their difference, which is Welch's: about two standard errors where many networks were trained, more
    where few. It **does not hold** where they lie further apart. It is **not resolved** where there is no such
    interval, as with one network, or where they lie no further apart, but half of it is more than ``WIDEST``.

    The standard error is that of both sides: of the measured mean, over sets where there are two or more, else over the
    networks of the one set; and of the claimed one, std / √networks. Without a number of networks that is the
    std itself, the most it can be; without a std, that of all networks measured stands in.

    Two values know their own spread too badly for Welch's interval: where they lie close by chance it is narrow, and
    one true claim in eight would not hold (simulated, beside a claim over 100 networks). So the spread of two networks
    of one set is pooled with the claim's, as in ``chance_margin``: networks trained alike spread alike. Means of two
    sets spread otherwise than networks, so that there the interval has their one degree of freedom. A claim of an
    unknown number of networks is compared leniently as it is.

    Args:
        by_set: the networks' accuracies in percent, of each independent set that the claim is of.
        claimed: the claim.

    Returns:
        The verdict.

    Raises:
        UsageError: there are no accuracies, or none of some set.
    """
    ours, networks = student(independent_values(by_set)), list(chain.from_iterable(by_set))
    apart, assumptions = _difference(ours, by_set, claimed)
    low, high = apart.interval()
    margin = None if low is None or high is None else (high - low) / 2
    outcome: Outcome = "not resolved"
    if margin is not None and abs(apart.value) > margin:
        outcome = "does not hold"
    elif margin is not None and margin <= WIDEST:
        outcome = "holds"
    return ClaimVerdict(
        outcome=outcome,
        claimed=claimed,
        measured=ours.value,
        difference=apart.value,
        standard_error=apart.error,
        margin=margin,
        sets=len(by_set),
        networks=len(networks),
        assumptions=assumptions,
    )


def _difference(
    ours: Estimate, by_set: Sequence[Sequence[float]], claimed: Claimed
) -> tuple[Estimate, tuple[str, ...]]:
    """Measured minus claimed, and what was taken for granted; without an error where ours is unknown, or all is 0."""
    difference = Estimate(ours.value - claimed.accuracy)
    if ours.error is None:
        return difference, ()
    count, networks = claimed.networks or 1, list(chain.from_iterable(by_set))
    unknown = () if claimed.networks else ("it does not say how many networks it is over: one is assumed",)
    if claimed.std is None or count == claimed.networks == 1:
        std = statistics.stdev(networks)
        unknown = (
            f"the claim gives no std: the sample std of the networks measured, {std:.2f}, is taken for it",
            *unknown,
        )
        # the same spread on both sides: the sum is known no better than ours
        apart = difference._replace(error=math.hypot(ours.error, std / math.sqrt(count)), freedom=ours.freedom)
    else:
        freedom = count - 1 if claimed.networks else math.inf
        apart = welch(ours, Estimate(claimed.accuracy, claimed.std / math.sqrt(count), freedom))
        if ours.freedom == 1 and claimed.networks and len(by_set) == 1:
            pooled = (statistics.variance(networks) + freedom * claimed.std**2) / count
            apart = apart._replace(error=math.sqrt(pooled * (1 / 2 + 1 / count)), freedom=float(count))
        elif ours.freedom == 1 and claimed.networks:
            apart = apart._replace(freedom=1.0)
    return (apart if apart.error is not None and apart.error >= NO_SPREAD else difference), unknown
