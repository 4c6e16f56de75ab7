"""A process that does tasks of one cell: told which by JSON on standard input, answering by files and its exit code.

Standard input stays open as long as the parent lives; at its end the worker stops at once, so that no worker outlives a
killed run.
"""

import dataclasses
import json
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from distill_bench.benchmark import cells
from distill_bench.benchmark.tasks import BenchConfig, CellTasks, Task, tasks_of
from distill_bench.errors import (
    MEMORY_ADVICE,
    DataError,
    DistillBenchError,
    Interrupted,
    first_line,
    is_out_of_memory,
)
from distill_bench.runtime.log import log
from distill_bench.runtime.malloc import disable_trim
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import code_state
from distill_bench.runtime.text import for_terminal

WORKER = "import sys; from distill_bench.benchmark.worker import main; sys.exit(main())"


@dataclasses.dataclass(frozen=True)
class Order:
    """What a process is to do: a whole cell, or some of the tasks of one that another process does."""

    work: CellTasks[Any]
    tasks: tuple[Task, ...] = ()

    def line(self, threads: int, quiet: bool) -> str:
        """The line that a worker is told."""
        cell = {"kind": type(self.work.cell).__name__, **dataclasses.asdict(self.work.cell)}
        message = {"cell": cell, "setting": dataclasses.asdict(self.work.setting), "tasks": self.tasks}
        return json.dumps(message | {"threads": threads, "quiet": quiet}, default=str) + "\n"

    def run(self, monitor: StreamMonitor, own_process: bool = False) -> int:
        """Do it here. Returns the exit code that says how it went."""
        return (
            _run_some(self.work, self.tasks, monitor) if self.tasks else run_recording(self.work, monitor, own_process)
        )


def main() -> int:
    disable_trim()
    code_state()
    line = sys.stdin.readline()
    if not line:
        return 1  # the parent was killed before it said what to do
    message = json.loads(line)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(message["threads"])
    lists = {
        name: value and tuple(value) for name, value in message["cell"].items() if name in ("protocols", "classes")
    }
    kind: type[cells.Cell] = getattr(cells, message["cell"].pop("kind"))
    setting = BenchConfig(**message["setting"] | {"results": Path(message["setting"]["results"])})
    monitor = StreamMonitor(quiet=message["quiet"])
    monitor.listen()
    work = tasks_of(kind(**message["cell"] | lists), setting)
    return Order(work, tuple(Task(*task) for task in message["tasks"])).run(monitor, own_process=True)


def _run_some(work: CellTasks[Any], tasks: Sequence[Task], monitor: StreamMonitor) -> int:
    """Do tasks of a cell that another process does. What fails here fails there too, and is filed by it."""
    try:
        work.do(tasks, monitor)
    except DistillBenchError as error:
        return error.exit_code
    except Exception as error:
        log.warning("a task of %s failed: %s", work.cell, error)
        return 1
    return 0


def run_recording(work: CellTasks[Any], monitor: StreamMonitor, own_process: bool = False) -> int:
    """Run a cell; file a failure as its result. Returns the exit code that says how it went."""
    try:
        work.run(monitor, own_process)
    except Interrupted:
        return Interrupted.exit_code
    except DistillBenchError as error:
        record(work, str(error))
        return error.exit_code
    except Exception as error:  # a method from outside may raise anything; the suite goes on without this cell
        sys.stderr.writelines(f"{for_terminal(line)}\n" for line in traceback.format_exc().split("\n"))
        said = (
            MEMORY_ADVICE.format(first_line(error)) if is_out_of_memory(error) else f"{type(error).__name__}: {error}"
        )
        record(work, said)
        return 1
    return 0


def record(work: CellTasks[Any], message: str) -> None:
    """File a failure; where that cannot be written either, say it."""
    try:
        work.record_failure(message)
    except DataError as error:
        log.error("%s failed: %s And this is not on file: %s", work.cell, message, error)


def _die_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)
