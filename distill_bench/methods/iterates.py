"""A set as it is while its run is under way: for curves of accuracy against steps. None is ever chosen."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distill_bench.distilled.card import Card
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import RunFailed, UsageError
from distill_bench.methods.packing import as_set
from distill_bench.methods.run import Keep, Run, SynthesisResult
from distill_bench.runtime.log import log

OnIterate = Callable[[int, DistilledSet], None]
"""Is handed an iterate: after how many steps, and the set."""


@dataclass(frozen=True)
class Iterates:
    """Which iterates of a run are kept, and by whom.

    Attributes:
        parts: into how many equal parts the steps are divided; the set is kept after each but the last.
        told: is handed them. Of a run that goes on, one that was kept before may come again, with the same bytes.

    Raises:
        UsageError: there is no part.
    """

    parts: int
    told: OnIterate

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise UsageError(f"`iterates={self.parts}`: give how many equal parts of its steps, 1 or more.")

    def are_due(self, done: int, steps: int) -> bool:
        """Whether a part of ``steps`` ends after ``done`` of them.

        >>> [done for done in range(1, 11) if Iterates(4, print).are_due(done, 10)]
        [3, 5, 8]
        """
        return done < steps and done * self.parts // steps > (done - 1) * self.parts // steps

    def of(self, run: Run[Any], card: Card) -> Keep:
        """What the run is to tell; ``card`` is the finished set's."""

        def keep(done: int, steps: int, result: Callable[[], SynthesisResult | None]) -> None:
            if not self.are_due(done, steps) or (found := result()) is None:
                return
            try:
                made = as_set(found, run, card.model_copy(update={"iterate": done}))
            except RunFailed as error:  # what comes of it is for the run's end to say
                log.warning("after step %s of %s there is no set to keep: %s", done, steps, error)
                return
            self.told(done, copy.deepcopy(made))  # the run goes on with the same tensors

        return keep
