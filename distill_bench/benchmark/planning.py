"""What of a suite is to be run: its cells with what is there already, and how to run the rest."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from distill_bench.benchmark.cells import ReferenceCell
from distill_bench.benchmark.executor import LOCAL, run_cells
from distill_bench.benchmark.grid import expand, parse_only
from distill_bench.benchmark.results import fold
from distill_bench.benchmark.suite import Suite
from distill_bench.benchmark.tasks import BenchConfig, CellTasks, tasks_of
from distill_bench.benchmark.variants import with_settings
from distill_bench.datasets import Dataset, load_dataset, paths_of
from distill_bench.errors import DistillBenchError, UsageError
from distill_bench.runtime.files import check_no_input, check_place
from distill_bench.runtime.progress import StreamMonitor


@dataclass(frozen=True)
class Plan:
    """A suite's cells in one setting.

    Attributes:
        suite: the suite.
        results: the folder of all results.
        works: the tasks of every cell.
    """

    suite: Suite
    results: Path
    works: list[CellTasks[Any]] = field(default_factory=list)

    @cached_property
    def states(self) -> dict[CellTasks[Any], str]:
        """How far each cell is, see ``CellTasks.state``, when it was first asked."""
        return {work: work.state() for work in self.works}

    @property
    def pending(self) -> list[CellTasks[Any]]:
        """The cells that are not done."""
        return [work for work, state in self.states.items() if state != "done"]

    def run(
        self,
        monitor: StreamMonitor,
        executor: str = LOCAL,
        jobs: int | None = None,
        threads: int | None = None,
        quiet: bool = False,
    ) -> int:
        """Run what is pending, and file the results.

        Args:
            monitor: hears of progress, and may ask to stop.
            executor, jobs, threads, quiet: as for ``run_cells``.

        Returns:
            How many cells failed.

        Raises:
            DataError: results cannot be filed.
            Interrupted: the monitor was asked to stop.
        """
        check_place(self.results / self.suite.name / "file")
        fold(self.results, self.suite.name)  # of a run that ended early: what this one finds goes by the same names
        failed = run_cells(self.pending, executor, jobs, monitor, quiet, threads)
        fold(self.results, self.suite.name)
        return failed

    def check_failed(self, failed: int) -> None:
        """Raise DistillBenchError if cells failed, saying why some cannot be run."""
        if failed:
            raise DistillBenchError(
                f"{failed} of {len(self.pending)} cells failed; the board shows which, their files say why.",
                *dict.fromkeys(work.cannot for work in self.works if work.cannot),
            )


def plan(suite: Suite, results: Path, only: str = "", settings: Mapping[str, Any] | None = None, **how: Any) -> Plan:
    """What of a suite is to be run.

    Args:
        suite: loaded, and adapted.
        results: the folder of all results.
        only: as for ``parse_only``.
        settings: as for ``with_settings``.
        how: further fields of ``BenchConfig``.

    Returns:
        The cells and their tasks; nothing is run yet.

    Raises:
        UsageError: as ``expand``, ``with_settings`` and ``tasks_of``, results would lie in a folder of images, a
            dataset has no test split, or no set that was asked for can be made: the reference alone is not what was
            meant.
        DataError: a dataset or a set is not there.
    """
    cells = with_settings(expand(suite, parse_only(only)), settings or {})
    config = BenchConfig(suite.name, Path(os.path.realpath(results)), iterates=suite.iterates, **how)
    sources = {name: _tested(name, suite, results) for name in dict.fromkeys(cell.dataset for cell in cells)}
    works = [tasks_of(cell, config, sources[cell.dataset]) for cell in cells]
    sets = [work for work in works if not isinstance(work.cell, ReferenceCell)]
    if sets and all(work.cannot for work in sets):
        raise UsageError(str(sets[0].cannot))
    return Plan(suite, results, works)


def _tested(name: str, suite: Suite, results: Path) -> Dataset:
    """A dataset of a suite, whose results do not come to lie among its images."""
    check_no_input(results / suite.name / "file", paths_of(name), "results", results)
    dataset = load_dataset(name, **suite.data)
    if dataset.load_test is None:
        _ = dataset.test  # says what to do, before a set is made that nothing can score
    return dataset
