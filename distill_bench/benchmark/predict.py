"""How long cells will take: the seconds that results already hold, scaled by the number of networks."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from distill_bench.benchmark.results import read_results
from distill_bench.benchmark.tasks import CellTasks
from distill_bench.evaluation import Result


def predict(works: Iterable[CellTasks[Any]], folder: Path) -> dict[CellTasks[Any], float | None]:
    """Seconds of what is missing of every cell; None if no result of its condition says.

    The condition is dataset, method, IPC, preset and protocol; seeds may differ.

    Args:
        works: the cells.
        folder: of all results; there may be none.

    Returns:
        The seconds of each.
    """
    sets, networks = defaultdict[tuple, list[float]](list), defaultdict[tuple, list[float]](list)
    for result in read_results(folder) if folder.is_dir() else ():
        if not isinstance(result, Result):
            continue
        condition = (result.data, result.method, result.ipc, result.preset)
        if result.synthesis and result.synthesis.seconds is not None:
            sets[condition].append(result.synthesis.seconds)
        if (seconds := result.run.get("seconds")) is not None:
            networks[(*condition, result.protocol)].append(seconds / result.networks)

    def of(work: CellTasks[Any]) -> float | None:
        if work.cannot or work.state() == "done":
            return 0.0
        condition = (work.cell.data, work.cell.method, work.cell.ipc, work.preset)
        known = [(sets.get(condition), 1)] if work.lacks_set else []
        known += [(networks.get((*condition, name)), work.networks(name)) for name in work.cell.protocols]
        if not all(seconds for seconds, _ in known):
            return None
        return sum((fmean(seconds) * count for seconds, count in known if seconds), 0.0)

    return {work: of(work) for work in works}
