"""What cells will take: the seconds that results already hold, scaled by the number of networks, and their memory."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

from distill_bench.benchmark.cells import ReferenceCell
from distill_bench.benchmark.results import read_results
from distill_bench.benchmark.tasks import HARD, CellTasks, SetTasks
from distill_bench.evaluation import Result
from distill_bench.evaluation.memory import evaluation_bytes
from distill_bench.methods import peak_memory
from distill_bench.runtime.memory import resident_bytes


def predict(
    works: Iterable[CellTasks[Any]], folder: Path, also: Path | None = None
) -> dict[CellTasks[Any], float | None]:
    """Seconds of what is missing of every cell; None if no result of its condition says.

    The condition is dataset, method, budget, preset and protocol; seeds may differ. Where none says how long a network
    is trained, it is as long as with the sets of other methods at that budget.

    Args:
        works: the cells.
        folder: of all results; there may be none.
        also: another such folder, which counts where the first says nothing.

    Returns:
        The seconds of each.
    """
    own, others = (_seconds_of_results(each) for each in (folder, also))

    def seconds_of(*keys: tuple) -> list[float] | None:
        return next((told[key] for key in keys for told in (own, others) if key in told), None)

    def of(work: CellTasks[Any]) -> float | None:
        if work.cannot or work.state() == "done":
            return 0.0
        data, budget = work.cell.data, _budget(work)
        condition = (data, work.cell.method, budget, work.preset)
        known = [(seconds_of(condition), 1)] if work.lacks_set else []
        known += [
            (seconds_of((*condition, name), (data, budget, name)), count) for name, count in _networks(work).items()
        ]
        if not all(seconds for seconds, _ in known):
            return None
        return sum((fmean(seconds) * count for seconds, count in known if seconds), 0.0)

    return {work: of(work) for work in works}


def _networks(work: CellTasks[Any]) -> dict[str, int]:
    """How many networks are to be tested under each protocol: of a set that is not made yet, as it is stored."""
    if work.lacks_set:
        return {name: work.networks(name) for name in work.cell.protocols}
    return Counter(task.of.removesuffix(HARD) for task in work.open_tasks() if task.kind == "network")


def _seconds_of_results(folder: Path | None) -> dict[tuple, list[float]]:
    """Seconds of sets by their condition; of a network by condition and protocol, and by data, budget and protocol."""
    found = defaultdict[tuple, list[float]](list)
    for result in read_results(folder) if folder is not None and folder.is_dir() else ():
        if not isinstance(result, Result):
            continue
        condition = (result.data, result.method, result.budget, result.preset)
        if result.synthesis and result.synthesis.seconds is not None:
            found[condition].append(result.synthesis.seconds)
        if (seconds := result.run.get("seconds")) is not None:
            for key in ((*condition, result.protocol), (result.data, result.budget, result.protocol)):
                found[key].append(seconds / result.networks)
    return found


def predict_pretraining(works: Iterable[CellTasks[Any]]) -> dict[CellTasks[Any], float]:
    """Seconds to pretrain what the sets of cells need and the store lacks: steps of their networks are timed now.

    What several cells need counts for the first. Networks that are adopted, as from torchvision, take no time.

    Args:
        works: the cells.

    Returns:
        The seconds of each cell that has some.
    """
    counted, seconds = set[Path](), dict[CellTasks[Any], float]()
    for work in works:
        if work.cannot:
            continue
        own = {path: how for path, how in work.pretraining().items() if path not in counted}
        counted |= own.keys()
        if total := sum(how.seconds for how in own.values() if how is not None):
            seconds[work] = total
    return seconds


def predict_memory(works: Iterable[CellTasks[Any]], folder: Path | None = None) -> dict[CellTasks[Any], float | None]:
    """The peak memory of every cell's process.

    Of a set that is to be made it is the most that results of its condition have, as for ``predict``; where none says,
    what this process holds, with the datasets loaded, and the bytes of a step. Of networks it is what this process
    holds and their training takes.

    Args:
        works: the cells, none of which is done.
        folder: of all results; there may be none.

    Returns:
        MB (10⁶ bytes) of each; None where it cannot be run.
    """
    peaks, estimates = defaultdict[tuple, list[float]](list), dict[tuple, float]()
    for result in read_results(folder) if folder is not None and folder.is_dir() else ():
        if isinstance(result, Result) and result.synthesis and result.synthesis.peak_memory_mb is not None:
            condition = (result.data, result.method, result.budget, result.preset)
            peaks[condition].append(result.synthesis.peak_memory_mb)

    def of(work: CellTasks[Any]) -> float | None:
        if work.cannot:
            return None
        condition = (work.cell.data, work.cell.method, _budget(work), work.preset)
        key = (*condition, work.cell.protocols, makes_set := work.lacks_set)
        if key not in estimates:  # of thousands of seeds one
            known = peaks.get(condition) if makes_set else [0.0]
            estimates[key] = max([_evaluation_mb(work), *(known or [_synthesis_mb(work)])])
        return estimates[key]

    return {work: of(work) for work in works}


def _budget(work: CellTasks[Any]) -> str:
    return "" if isinstance(work.cell, ReferenceCell) else str(work.cell.budget)


def _evaluation_mb(work: CellTasks[Any]) -> float:
    data = work.dataset
    images = work.images or len(data.train)
    most = max(evaluation_bytes(data, protocol, images) for protocol in work.cell.protocols)
    return (resident_bytes() + most) / 1e6


def _synthesis_mb(work: CellTasks[Any]) -> float:
    assert isinstance(work, SetTasks)  # the others lack no set
    return peak_memory(work.dataset, work.config, max(work.cell.budget.counts(work.dataset.class_sizes))) / 1e6
