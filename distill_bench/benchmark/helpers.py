"""Which cells have work for more processes, when a run has more room than cells."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from distill_bench.benchmark.tasks import CellWork

LOOK_SECONDS = 1.0


class Wanted(NamedTuple):
    """A cell that has parts for one process more, and the stage that these belong to."""

    work: CellWork
    stage: str


class Helpers:
    """Counts the processes that help with cells, so that no stage of a cell has more of them than parts."""

    def __init__(self) -> None:
        self._sent = Counter[tuple[str, str]]()
        self._exhausted = set[tuple[str, str]]()
        self._looked = float("-inf")

    def wanted(self, running: Iterable[CellWork]) -> Wanted | None:
        """Where one process more is wanted, which is then counted; None where it is nowhere."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        for work in running:
            stage, parts = work.open_parts()
            if (work.key, stage) not in self._exhausted and self._sent[work.key, stage] < parts - 1:
                self._sent[work.key, stage] += 1
                self._looked = float("-inf")
                return Wanted(work, stage)
        return None

    def ended(self, wanted: Wanted) -> None:
        """A helper has ended: it left nothing to take in its stage, so that no other is sent there."""
        self._exhausted.add((wanted.work.key, wanted.stage))
