"""What all measures have in common: whom they are about, values with their intervals, progress as one stage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict

from distill_bench.datasets import Dataset
from distill_bench.distilled.compensators import refuse_compensators
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation.protocol import Protocol
from distill_bench.evaluation.result import LabelUse, Result
from distill_bench.evaluation.statistics import NO_SPREAD, Interval, half_width, student
from distill_bench.runtime.progress import Monitor, SubMonitor


class Estimated(BaseModel):
    """A value with its 95 % interval.

    Attributes:
        value: in the unit that the measure says; None where there is none.
        ci_low, ci_high: the interval's ends; None where it cannot be had.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float | None
    ci_low: float | None = None
    ci_high: float | None = None

    @classmethod
    def of(cls, value: float | None, interval: Interval) -> "Estimated":
        """A value and the interval that a statistic gave."""
        return cls(value=value, ci_low=interval[0], ci_high=interval[1])

    @classmethod
    def mean(cls, values: Sequence[float], least: float, most: float) -> "Estimated":
        """The mean of independent values with Student's interval.

        Args:
            values: one at least.
            least, most: what a mean can be, where the interval is cut.

        Returns:
            The estimate, without an interval where there is one value, or no spread at all.
        """
        estimate = student(values)
        if estimate.error is None or estimate.error < NO_SPREAD:
            return cls(value=estimate.value)
        low, high = estimate.interval()
        assert low is not None and high is not None
        return cls(value=estimate.value, ci_low=max(low, least), ci_high=min(high, most))

    @property
    def half_width(self) -> float | None:
        """Half of the interval, which ± shows; where it is cut, that side which is not."""
        return half_width(self.value, self.ci_low, self.ci_high)


class Measured(BaseModel):
    """Whom a measure is about, as in a result.

    Attributes:
        method, ipc, protocol, labels: as in ``Result``.
        dataset: as boards show it.
        images: how many the set has.
        set_sha256: of the set's content.
        notes: what a reader of the measure must know.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    dataset: str
    ipc: int | None
    images: int
    protocol: str
    labels: LabelUse
    set_sha256: str
    notes: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        """One line: the set, the data and the protocol."""
        return f"{self.method} on {self.dataset}, {self.images} images, protocol {self.protocol}, labels {self.labels}"


def facts_of(distilled: DistilledSet, result: Result) -> dict[str, Any]:
    """The fields of ``Measured`` of a set, and of a result of it or of a part of it."""
    shared = ("method", "ipc", "protocol", "labels", "notes")
    facts = {"dataset": result.data, "images": len(distilled.images), "set_sha256": distilled.sha256}
    return facts | {name: getattr(result, name) for name in shared}


def check_whole(distilled: DistilledSet, measure: str) -> None:
    """Raise UsageError if a measure of a set's images would leave out what is stored beside them."""
    refuse_compensators(distilled, f"measure {measure}", "Evaluate it, or measure its transfer to other networks.")


def epochs_of(rules: Protocol, dataset: Dataset, trained_on: DistilledSet | int) -> int:
    """How many epochs a network is trained under a protocol, on a set or on so many images."""
    plan = rules.for_dataset(dataset.name).plan
    if isinstance(trained_on, int):
        return plan(trained_on).epochs
    return plan(trained_on.budget_count, shown=trained_on.shown_count).epochs


@contextmanager
def one_stage(monitor: Monitor, title: str, epochs: int) -> Iterator[Monitor]:
    """A monitor for several evaluations whose epochs, so many in all, are the steps of one stage."""
    with monitor.stage(title, epochs) as stage:
        yield SubMonitor(monitor, stage)
