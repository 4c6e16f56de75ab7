"""How long cells will take: the seconds that results already hold, scaled by the number of networks."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from distill_bench.benchmark.results import read_results
from distill_bench.benchmark.tasks import CellTasks
from distill_bench.evaluation import Result

SET = ("data", "method", "ipc", "preset")
NETWORK = (*SET, "protocol")


class Times:
    """The seconds in a folder of results.

    Args:
        folder: of all results; there may be none.
    """

    def __init__(self, folder: Path) -> None:
        self._sets, self._networks = defaultdict[tuple, list[float]](list), defaultdict[tuple, list[float]](list)
        for result in read_results(folder) if folder.is_dir() else ():
            if isinstance(result, Result):
                self._add(result)

    def _add(self, result: Result) -> None:
        condition = {name: getattr(result, name) for name in NETWORK}
        if result.synthesis and result.synthesis.seconds is not None:
            self._sets[_key(condition, SET)].append(result.synthesis.seconds)
        if (seconds := result.run.get("seconds")) is not None:
            self._networks[_key(condition, NETWORK)].append(seconds / result.networks)

    def predict(self, work: CellTasks[Any]) -> float | None:
        """Seconds of what is missing of a cell; None if no result of its condition says.

        The condition is dataset, method, IPC, preset and protocol; seeds may differ.
        """
        if work.cannot or work.state() == "done":
            return 0.0
        condition = {"data": work.cell.data, "method": work.cell.method, "ipc": work.cell.ipc, "preset": work.preset}
        known = [self._sets.get(_key(condition, SET))] if work.lacks_set else []
        total = fmean(known[0]) if known and known[0] else 0.0
        for protocol in work.cell.protocols:
            known.append(self._networks.get(_key(condition | {"protocol": protocol}, NETWORK)))
            total += fmean(known[-1] or [0.0]) * work.networks(protocol)
        return total if all(known) else None


def predict(works: Iterable[CellTasks[Any]], folder: Path) -> dict[CellTasks[Any], float | None]:
    """The predicted seconds of every cell, see ``Times``."""
    times = Times(folder)
    return {work: times.predict(work) for work in works}


def _key(condition: dict[str, Any], names: Iterable[str]) -> tuple:
    return tuple(condition[name] for name in names)
