"""Which cells have work for more processes, when a run has more room than cells."""

import time
from collections import Counter
from collections.abc import Iterable

from distill_bench.suites.cell import CellWork

LOOK_SECONDS = 1.0


class Helpers:
    """Counts the processes that help with cells, so that no stage of a cell has more of them than parts."""

    def __init__(self) -> None:
        self._sent = Counter[tuple[str, str]]()
        self._looked = float("-inf")

    def wanted_by(self, running: Iterable[CellWork]) -> CellWork | None:
        """A cell that has a part for one process more, which is then counted; None where there is none.

        A stage that helpers have left has nothing more to take, so that no other is sent there.
        """
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        for work in running:
            stage, parts = work.open_parts()
            if self._sent[work.key, stage] < parts - 1:
                self._sent[work.key, stage] += 1
                self._looked = float("-inf")
                return work
        return None
