"""Run the cells of a suite that are not done: in this process, in several, or on a Ray cluster.

One loop hands out what is ready, whatever runs it. A process is given a whole cell where one waits whose pretrained
networks no other is making. Where none does, it is given tasks of a cell that another process is at: from the end of
those that are open, while the other goes on from their beginning.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from distill_bench.benchmark.on_ray import RayWorkers, require_ray
from distill_bench.benchmark.results import FAILED
from distill_bench.benchmark.tasks import CellTasks, Task
from distill_bench.benchmark.worker import WORKER, Order, record
from distill_bench.errors import Interrupted, UsageError, unknown
from distill_bench.runtime.device import cpu_threads
from distill_bench.runtime.locks import is_locked
from distill_bench.runtime.progress import StreamMonitor, clock

POLL_SECONDS = 0.1
_STANDARD_ERROR = 2
LOCAL, IN_PROCESS, RAY = EXECUTORS = ("local", "in-process", "ray")


def check_executor(name: str) -> None:
    """Raise UsageError if there is no executor of this name, or what it needs is not installed."""
    if name not in EXECUTORS:
        raise UsageError(unknown("executor", name, EXECUTORS))
    if name == RAY:
        require_ray()


def usual_threads(executor: str, jobs: int | None) -> int:
    """Threads of a cell where no number is asked for: the cores divided by the cells at a time; 1 on a Ray cluster."""
    return 1 if executor == RAY else max(1, torch.get_num_threads() // (jobs or 1))


@runtime_checkable
class Workers(Protocol):
    """What runs orders.

    Attributes:
        room: how many at a time.
        room_for_cells: how many may be with them when a cell is begun: a cluster keeps those that wait.
    """

    room: int
    room_for_cells: int

    def __len__(self) -> int:
        """How many orders are with them."""

    def start(self, order: Order) -> None:
        """Begin an order."""

    def ended(self) -> Iterable[tuple[Order, int, str]]:
        """Those that have ended since: exit code, and where it has no meaning, why. Waits a moment for one."""

    def stop(self, orders: Iterable[Order]) -> None:
        """Ask orders to stop at their next checkpoint, each once."""


def run_cells(
    works: list[CellTasks[Any]],
    executor: str,
    jobs: int | None,
    monitor: StreamMonitor,
    quiet: bool = False,
    threads: int | None = None,
) -> int:
    """Run cells and return how many failed; failures are filed as results, and the others go on.

    Several runners may be at the same cells: each takes those that no other is at.

    Args:
        works: the cells.
        executor: ``local``: every cell in a fresh process, so that its peak memory is its own; ``in-process``: here;
            ``ray``: one Ray task each, see ``RayWorkers``.
        jobs: processes at a time: 1 unless given, on a Ray cluster as many as there is room for. In-process it is
            always 1.
        monitor: hears of every cell, and may ask to stop.
        quiet: whether workers report no progress.
        threads: of every process, on which the last bits of sums depend; ``usual_threads`` unless given.

    Returns:
        How many cells failed.

    Raises:
        Interrupted: the monitor was asked to stop; every cell has its checkpoint.
        UsageError: there is no Ray, or no node that can run a cell.
    """
    impossible = [work for work in works if work.cannot]
    for work in impossible:
        record(work, str(work.cannot))
        monitor.say(f"{work.cell} cannot be run: {work.cannot}")
    works = [work for work in works if not work.cannot]
    count, failed = threads or usual_threads(executor, jobs), len(impossible)
    with contextlib.ExitStack() as stack:
        if executor == IN_PROCESS:
            stack.enter_context(cpu_threads(count))
            failed += _Runner(works, InProcess(monitor), monitor).run()
        elif executor == LOCAL:
            failed += _Runner(works, Processes(jobs or 1, count, quiet), monitor).run()
        elif works:
            failed += _Runner(works, stack.enter_context(RayWorkers(works, jobs, count, quiet)), monitor).run()
    if monitor.stop_requested:
        raise Interrupted("stopped on request. Run the same command again to go on from there.")
    return failed


class _Runner:
    """Hands out cells, and tasks of cells, until all are done."""

    def __init__(self, works: list[CellTasks[Any]], workers: Workers, monitor: StreamMonitor) -> None:
        self._waiting, self._workers, self._monitor = list(works), workers, monitor
        self._total, self._done, self._failed, self._began = len(works), 0, 0, time.monotonic()
        self._failed_before = {work for work in works if work.state() == "failed"}  # these are tried again
        self._running = list[Order]()
        self._handed_out = set[tuple[str, Task]]()

    def run(self) -> int:
        """Returns how many cells failed."""
        workers, monitor = self._workers, self._monitor
        while self._waiting or len(workers):
            while not monitor.stop_requested and (order := self._next()):
                self._running.append(order)
                workers.start(order)
            if monitor.stop_requested:
                self._waiting.clear()
                workers.stop(self._running)
            for order, code, reason in workers.ended():
                self._running.remove(order)
                if not order.tasks:
                    self._end(order.work, code, reason)
        return self._failed

    def _next(self) -> Order | None:
        """What to begin now: a cell that is ready, or else tasks of one that a process is at."""
        if len(self._workers) < self._workers.room_for_cells and (order := self._next_cell()):
            return order
        if len(self._workers) >= self._workers.room:
            return None
        taken = [work for work in self._waiting if is_locked(work.lock)]
        for work in [*self._cells(), *taken]:
            if tasks := self._some_of(work):
                return Order(work, tasks)
        for work in taken:
            self._waiting.remove(work)
            return Order(work)  # which waits for the other runner
        return None

    def _next_cell(self) -> Order | None:
        """A cell that no other runner is at, and whose pretrained networks no process makes now."""
        being_made = {path for work in self._cells() for path in work.needs()} if self._waiting else set()
        for work in list(self._waiting):
            if not is_locked(work.lock) and not (being_made and being_made & work.needs()):
                self._waiting.remove(work)
                if (code := self._done_elsewhere(work)) is None:
                    return Order(work)
                self._report(work, code)
        return None

    def _report(self, work: CellTasks[Any], code: int) -> None:
        """Say how a cell went, and how long the rest may take."""
        if code == Interrupted.exit_code:
            return
        self._done += 1
        self._failed += code != 0
        file = work.result_path(FAILED)
        outcome = "done" if code == 0 else f"failed, see {file}" if file.exists() else "failed"
        if others := self._total - self._done:
            left = clock((time.monotonic() - self._began) / self._done * others)
            outcome += f"; about {left} left for the suite, if the others take as long"
        self._monitor.say(f"[{self._done}/{self._total}] {work.cell}: {outcome}")

    def _cells(self) -> list[CellTasks[Any]]:
        return [order.work for order in self._running if not order.tasks]

    def _some_of(self, work: CellTasks[Any]) -> tuple[Task, ...]:
        """Open tasks of a cell for one process more. The first is left to the process that is at the cell."""
        left = [task for task in work.open_tasks()[1:] if (work.key, task) not in self._handed_out]
        chosen = left[-max(1, len(left) // (self._workers.room + 1)) :] if left else []
        self._handed_out |= {(work.key, task) for task in chosen}
        return tuple(reversed(chosen))

    def _done_elsewhere(self, work: CellTasks[Any]) -> int | None:
        """The exit code of a cell that another runner has done meanwhile; None for one that is to be done."""
        state = work.state()
        if state == "failed" and work not in self._failed_before:
            return 1
        return 0 if state == "done" else None

    def _end(self, work: CellTasks[Any], code: int, reason: str) -> None:
        """Say how a cell went, and file why it failed where its process did not."""
        stopping = self._monitor.stop_requested
        self._workers.stop([order for order in self._running if order.work is work])
        if reason and stopping:
            return  # it was stopped before it could listen
        if code == Interrupted.exit_code and not stopping:
            self._waiting.append(work)  # another than us told it to stop
        if reason and work.state() == "done":
            code, reason = 0, ""  # killed when nothing was left to do
        if reason:
            record(work, reason)
        elif code not in (0, Interrupted.exit_code) and not work.result_path(FAILED).exists():
            record(work, f"its process ended with exit code {code} before it began.")
        self._report(work, code)


class InProcess:
    """Runs orders here, one after another."""

    room = room_for_cells = 1

    def __init__(self, monitor: StreamMonitor) -> None:
        self._monitor, self._ended = monitor, list[tuple[Order, int, str]]()

    def __len__(self) -> int:
        return len(self._ended)

    def start(self, order: Order) -> None:
        self._ended.append((order, order.run(self._monitor), ""))

    def ended(self) -> list[tuple[Order, int, str]]:
        ended, self._ended = self._ended, []
        return ended

    def stop(self, orders: Iterable[Order]) -> None: ...


class Processes:
    """Runs every order in a fresh process of this machine."""

    def __init__(self, room: int, threads: int, quiet: bool) -> None:
        self.room = self.room_for_cells = room
        self._threads, self._quiet = threads, quiet
        self._running = list[tuple[Order, subprocess.Popen[str]]]()
        self._told = set[int]()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, order: Order) -> None:
        self._running.append((order, _process(order.line(self._threads, self._quiet))))

    def ended(self) -> list[tuple[Order, int, str]]:
        if self._running:
            time.sleep(POLL_SECONDS)
        ended = []
        for entry in [entry for entry in self._running if entry[1].poll() is not None]:
            self._running.remove(entry)
            order, process = entry
            process.communicate()  # closes the pipe that told the worker its parent lives
            ended.append((order, process.returncode, _killed(process.returncode)))
        return ended

    def stop(self, orders: Iterable[Order]) -> None:
        wanted = list(orders)
        for order, process in self._running:
            if order in wanted and process.pid not in self._told:
                process.terminate()
                self._told.add(process.pid)


def _killed(code: int) -> str:
    if code >= 0:
        return ""
    return (
        f"the process was killed by signal {-code}; 9 may mean out of memory: run fewer cells at a time (`jobs`), or "
        "lower the method's batch sizes (chunk, real_batch, …). Run the suite again to go on from its last checkpoint."
    )


def _process(line: str) -> "subprocess.Popen[str]":
    """A worker that is told a line."""
    path = os.pathsep.join(entry for entry in sys.path if entry and Path(entry).exists())
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE,
        stdout=_STANDARD_ERROR,  # what a method prints is no result
        text=True,
        start_new_session=True,  # Ctrl-C reaches the parent alone, which asks its workers to stop once
        env=os.environ | {"PYTHONPATH": path},
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it has ended already: its exit code says how
        process.stdin.write(line)
        process.stdin.flush()
    return process
