"""Run the cells of a suite that are not done: one after another, in several processes, or on a Ray cluster."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from distill_bench.benchmark.helpers import Helpers, Wanted
from distill_bench.benchmark.on_ray import require_ray, run_on_ray
from distill_bench.benchmark.tasks import FAILED, CellWork
from distill_bench.benchmark.worker import WORKER, order, record, run_recording
from distill_bench.errors import Interrupted, UsageError, unknown
from distill_bench.runtime.locks import take_free
from distill_bench.runtime.progress import StreamMonitor, clock

POLL_SECONDS = 0.1
STANDARD_ERROR = 2
LOCAL, IN_PROCESS, RAY = EXECUTORS = ("local", "in-process", "ray")


def check_executor(name: str) -> None:
    """Raise UsageError where there is no executor of this name, or what it needs is not installed."""
    if name not in EXECUTORS:
        raise UsageError(unknown("executor", name, EXECUTORS))
    if name == RAY:
        require_ray()


def usual_threads(executor: str, jobs: int | None) -> int:
    """Threads of a cell where no number is asked for: the cores divided by the cells at a time; 1 on a Ray cluster."""
    return 1 if executor == RAY else max(1, torch.get_num_threads() // (jobs or 1))


def run_cells(
    works: list[CellWork],
    executor: str,
    jobs: int | None,
    monitor: StreamMonitor,
    quiet: bool = False,
    threads: int | None = None,
) -> int:
    """Run cells and return how many failed; failures are filed as results, and the others go on.

    Several runners may be at the same cells: each takes those that no other is at.

    Args:
        executor: ``local``: every cell in a fresh process, so that its peak memory is its own; ``in-process``: here;
            ``ray``: one task a cell, see ``run_on_ray``.
        jobs: processes at a time: 1 unless given, on a Ray cluster as many as there is room for. In-process it is
            always 1. Where they are more than the cells left, they share these: experts, recovered batches, networks.
        threads: of every cell, on which the last bits of its sums depend; ``usual_threads`` unless given.

    Raises:
        Interrupted: the monitor was asked to stop; every cell has its checkpoint.
        UsageError: there is no Ray, or no node that can run a cell.
    """
    impossible = [work for work in works if work.cannot]
    for work in impossible:
        record(work, str(work.cannot))
        monitor.say(f"{work.cell} cannot be run: {work.cannot}")
    works = [work for work in works if not work.cannot]
    report = _Report(len(works), monitor)
    count = threads or usual_threads(executor, jobs)
    if executor == IN_PROCESS:
        _run_here(works, count, monitor, report)
    elif executor == RAY and works:
        run_on_ray(works, jobs, count, monitor, quiet, report)
    elif executor == LOCAL:
        _run_in_processes(works, jobs or 1, count, monitor, quiet, report)
    if monitor.stop_requested:
        raise Interrupted("stopped on request. Run the same command again to go on from there.")
    return len(impossible) + report.failed


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
        file = work.result_path(FAILED)
        outcome = "done" if code == 0 else f"failed, see {file}" if file.exists() else "failed"
        self._monitor.say(f"[{self.done}/{self._total}] {work.cell}: {outcome}{self._left()}")

    def _left(self) -> str:
        others = self._total - self.done
        spent = (time.monotonic() - self._began) / self.done
        return f"; about {clock(spent * others)} left for the suite, if the others take as long" if others else ""


def _failed(works: list[CellWork]) -> set[CellWork]:
    return {work for work in works if work.state() == "failed"}


def _done_elsewhere(work: CellWork, failed: set[CellWork]) -> int | None:
    """The exit code of a cell that another runner has done meanwhile; None for one that is to be done.

    Args:
        failed: cells that had failed when this run began: they are tried again.
    """
    state = work.state()
    if state == "failed" and work not in failed:
        return 1
    return 0 if state == "done" else None


def _run_here(
    works: list[CellWork], threads: int, monitor: StreamMonitor, report: Callable[[CellWork, int], None]
) -> None:
    waiting, before, failed = list(works), torch.get_num_threads(), _failed(works)
    torch.set_num_threads(threads)
    try:
        while waiting and not monitor.stop_requested:
            work = take_free(waiting, lambda work: work.lock)
            code = _done_elsewhere(work, failed)
            report(work, run_recording(work, monitor) if code is None else code)
    finally:
        torch.set_num_threads(before)


def _run_in_processes(
    works: list[CellWork],
    jobs: int,
    threads: int,
    monitor: StreamMonitor,
    quiet: bool,
    report: Callable[[CellWork, int], None],
) -> None:
    waiting, running = list(works), list[tuple[CellWork, subprocess.Popen[str]]]()
    told_to_stop, failed = False, _failed(works)
    helpers = _HelpingProcesses(threads, quiet)
    while waiting or running or helpers.count():
        while waiting and len(running) + helpers.count() < jobs and not monitor.stop_requested:
            work = take_free(waiting, lambda work: work.lock)
            code = _done_elsewhere(work, failed)
            if code is None:
                running.append((work, _start(work, threads, quiet)))
            else:
                report(work, code)
        if monitor.stop_requested:
            waiting.clear()
            for _, process in running if not told_to_stop else []:
                process.terminate()
            told_to_stop = True
        elif len(running) + helpers.count() < jobs:
            helpers.start([work for work, _ in running])
        helpers.leave_but([] if told_to_stop else [work for work, _ in running])
        time.sleep(POLL_SECONDS)
        for entry in [entry for entry in running if entry[1].poll() is not None]:
            running.remove(entry)
            work, process = entry
            process.communicate()  # closes the pipe that told the worker its parent lives
            if process.returncode < 0 and monitor.stop_requested:
                continue  # it was stopped before it could listen
            if process.returncode == Interrupted.exit_code and not monitor.stop_requested:
                waiting.append(work)  # another than us told it to stop
            code = process.returncode
            if code < 0 and work.state() == "done":
                code = 0  # killed when nothing was left to do
            if code < 0:
                record(
                    work,
                    f"the process was killed by signal {-code}; 9 may mean out of memory: run fewer "
                    "cells at a time (--jobs), or lower the method's batch sizes (chunk, real_batch, …). Run the suite "
                    "again to go on from its last checkpoint.",
                )
            elif code not in (0, Interrupted.exit_code) and not work.result_path(FAILED).exists():
                record(work, f"its process ended with exit code {code} before it began.")
            report(work, code)


class _HelpingProcesses:
    """Processes that help with cells which others do."""

    def __init__(self, threads: int, quiet: bool) -> None:
        self._threads, self._quiet = threads, quiet
        self._helpers = Helpers()
        self._running = list[tuple[Wanted, subprocess.Popen[str]]]()
        self._told = set[int]()

    def count(self) -> int:
        """How many there are."""
        for entry in [entry for entry in self._running if entry[1].poll() is not None]:
            wanted, process = entry
            process.communicate()
            self._helpers.ended(wanted)
            self._running.remove(entry)
        return len(self._running)

    def start(self, running: list[CellWork]) -> None:
        """Start one more, where a cell has a part for it."""
        if (wanted := self._helpers.wanted(running)) is not None:
            process = _start(wanted.work, self._threads, self._quiet, helping=True)
            self._running.append((wanted, process))

    def leave_but(self, running: list[CellWork]) -> None:
        """Tell those to stop that help with other cells than these."""
        for wanted, process in self._running:
            if wanted.work not in running and process.pid not in self._told:
                process.terminate()
                self._told.add(process.pid)


def _start(work: CellWork, threads: int, quiet: bool, helping: bool = False) -> "subprocess.Popen[str]":
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
    with contextlib.suppress(BrokenPipeError):  # it has ended already: its exit code says how
        process.stdin.write(order(work.cell, work.setting, threads, quiet, helping))
        process.stdin.flush()
    return process
