"""Run the cells of a suite that are not done, one after another or in several processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from distill_bench.errors import Interrupted
from distill_bench.progress import StreamMonitor, clock
from distill_bench.suites.cell import CellWork
from distill_bench.suites.worker import order, run_recording

POLL_SECONDS = 0.1
STANDARD_ERROR = 2
WORKER = "import sys; from distill_bench.suites.worker import main; sys.exit(main())"
EXECUTORS = ("local", "in-process")


def run_cells(works: list[CellWork], executor: str, jobs: int, monitor: StreamMonitor, quiet: bool = False) -> int:
    """Run cells and return how many failed; failures are filed as results, and the others go on.

    Args:
        executor: ``local``: every cell in a fresh process, so that its peak memory is its own; ``in-process``: here.
        jobs: processes at a time; they share the cores.

    Raises:
        Interrupted: the monitor was asked to stop; every cell has its checkpoint.
    """
    report = _Report(len(works), monitor)
    if executor == "in-process":
        for work in works:
            if not monitor.stop_requested:
                report(work, run_recording(work, monitor))
    else:
        _run_in_processes(works, jobs, monitor, quiet, report)
    if monitor.stop_requested:
        raise Interrupted("stopped on request. Run the same command again to go on from there.")
    return report.failed


class _Report:
    """Says how each cell went, and how long the rest may take."""

    def __init__(self, total: int, monitor: StreamMonitor) -> None:
        self.failed = self.done = 0
        self._total, self._monitor = total, monitor
        self._began = time.monotonic()

    def __call__(self, work: CellWork, code: int) -> None:
        if code == Interrupted.exit_code:
            return
        self.done += 1
        self.failed += code != 0
        spent = time.monotonic() - self._began
        left = clock(spent * (self._total - self.done) / self.done)
        outcome = "done" if code == 0 else f"failed, see {work.result_path('failed')}"
        self._monitor.say(f"[{self.done}/{self._total}] {work.cell}: {outcome}; about {left} left for the suite")


def _run_in_processes(
    works: list[CellWork], jobs: int, monitor: StreamMonitor, quiet: bool, report: Callable[[CellWork, int], None]
) -> None:
    threads = max(1, torch.get_num_threads() // jobs)
    waiting, running = list(works), list[tuple[CellWork, subprocess.Popen[str]]]()
    told_to_stop = False
    while waiting or running:
        while waiting and len(running) < jobs and not monitor.stop_requested:
            running.append((waiting[0], _start(waiting.pop(0), threads, quiet)))
        if monitor.stop_requested:
            waiting.clear()
            for _, process in running if not told_to_stop else []:
                process.terminate()
            told_to_stop = True
        time.sleep(POLL_SECONDS)
        for entry in [entry for entry in running if entry[1].poll() is not None]:
            running.remove(entry)
            work, process = entry
            process.communicate()  # closes the pipe that told the worker its parent lives
            if process.returncode < 0 and monitor.stop_requested:
                continue  # it was stopped before it could listen
            if process.returncode < 0:
                work.record_failure(
                    f"the process was killed by signal {-process.returncode}; 9 may mean out of memory."
                )
            report(work, process.returncode)


def _start(work: CellWork, threads: int, quiet: bool) -> "subprocess.Popen[str]":
    path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).exists())
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=STANDARD_ERROR,  # what a method prints is no result
        text=True,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which asks its workers to stop once
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdin is not None
    process.stdin.write(order(work.cell, work.setting, threads, quiet))
    process.stdin.flush()
    return process
