"""Which rows of a board are the best: a rank for each, with ties where a difference is not resolved."""

from collections.abc import Sequence
from dataclasses import dataclass

from distill_bench.benchmark.leaderboard.collect import Row
from distill_bench.evaluation.compare import Difference, compare
from distill_bench.evaluation.statistics import holm

ERROR_RATE = 0.05
"""Of all statements together that a row is resolved from the one on top of it."""


@dataclass(frozen=True)
class Place:
    """Where a row stands among others under the same conditions.

    Attributes:
        rank: 1 for the row with the highest accuracy and those after it, down to the first that is resolved from it,
            which is the first of the others; these are ranked alike. So no row is before one of a higher accuracy,
            although its own spread may be too large to resolve it.
        lead: of the row with the highest accuracy over this one, see ``compare``; None for that row itself.
        p: ``lead.p`` adjusted for as many comparisons as there are other rows, by Holm's method; 1 where the interval
            cannot be had. Rows of the very same accuracies by seed are one: a set without labels of its own has those
            of its images, and its comparison is no further chance to err.
    """

    rank: int
    lead: Difference | None
    p: float

    @property
    def best(self) -> bool:
        """Whether the row is on top, or neither it nor one above it is resolved from the one on top."""
        return self.rank == 1


def places(group: Sequence[Row]) -> list[Place | None]:
    """Rank rows that differ in nothing but what is compared: one dataset, budget, protocol, network and pixel space.

    A row is resolved from the one on top if the two-sided paired test of their difference (``compare``) rejects at 5 %
    after Holm's correction for all rows that are compared with the top. The top is chosen by what was measured, so
    where k methods are all alike and as spread, one or more of them are ranked below with a probability that grows
    with k (three seeds: 5 % for 2, 7 % for 5, 12 % for 22).

    Args:
        group: rows of a board, see ``leaderboard_rows``.

    Returns:
        In the same order a place for each row; None for one without an accuracy.
    """
    result: list[Place | None] = [None] * len(group)
    left = sorted(
        (index for index, row in enumerate(group) if row["accuracy"] is not None),
        key=lambda index: -group[index]["accuracy"],
    )
    rank, first = 1, dict[int, tuple[Difference, float]]()
    while left:
        against = _against_top(group, left)
        first = first or against
        tied = next((at for at, index in enumerate(left) if at and against[index][1] <= ERROR_RATE), len(left))
        for index in left[:tied]:
            result[index] = Place(rank, *first.get(index, (None, 1.0)))
        rank, left = rank + tied, left[tied:]
    return result


def _against_top(group: Sequence[Row], ordered: Sequence[int]) -> dict[int, tuple[Difference, float]]:
    """The lead of the first of some rows over each of the others, and its adjusted probability."""
    found = {index: tuple(sorted((seed, *of) for seed, of in group[index]["accuracies"].items())) for index in ordered}
    alike = {found[index]: group[index]["accuracies"] for index in ordered}
    top = alike[found[ordered[0]]]
    leads = {key: compare(top, accuracies) for key, accuracies in alike.items()}
    others = [key for key in alike if key != found[ordered[0]]]
    # a seed that only one side has may have put the top there: then the common ones do not say that it leads
    p_values = [1.0 if (p := leads[key].p) is None or leads[key].difference <= 0 else p for key in others]
    adjusted = dict(zip(others, holm(p_values), strict=True))
    return {index: (leads[found[index]], adjusted.get(found[index], 1.0)) for index in ordered[1:]}
