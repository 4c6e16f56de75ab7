"""A process that does one cell: told which by JSON on standard input, answering by files and its exit code.

Standard input stays open as long as the parent lives; at its end the worker stops at once, so that no worker outlives a
killed run.
"""

import dataclasses
import json
import os
import sys
import threading
import traceback
from pathlib import Path

import torch

from distill_bench.benchmark.suite import Cell
from distill_bench.benchmark.tasks import CellWork, Setting
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


def order(cell: Cell, setting: Setting, threads: int, quiet: bool, helping: bool = False) -> str:
    """The line that tells a worker what to do: a cell, or parts of one that another worker does."""
    told = {"cell": dataclasses.asdict(cell), "setting": dataclasses.asdict(setting)}
    return json.dumps(told | {"threads": threads, "quiet": quiet, "helping": helping}, default=str) + "\n"


def main() -> int:
    disable_trim()
    code_state()
    line = sys.stdin.readline()
    if not line:
        return 1  # the parent was killed before it said what to do
    told = json.loads(line)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(told["threads"])
    lists = {name: value and tuple(value) for name, value in told["cell"].items() if name in ("protocols", "classes")}
    cell = Cell(**told["cell"] | lists)
    setting = Setting(**told["setting"] | {"results": Path(told["setting"]["results"])})
    monitor = StreamMonitor(quiet=told["quiet"])
    monitor.listen()
    work = CellWork(cell, setting)
    return _help(work, monitor) if told["helping"] else run_recording(work, monitor, own_process=True)


def _help(work: CellWork, monitor: StreamMonitor) -> int:
    """Help another worker with its cell. What fails here fails there too, and is filed by it."""
    try:
        work.help(monitor)
    except DistillBenchError as error:
        return error.exit_code
    return 0


def run_recording(work: CellWork, monitor: StreamMonitor, own_process: bool = False) -> int:
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


def record(work: CellWork, message: str) -> None:
    """File a failure; where that cannot be written either, say it."""
    try:
        work.record_failure(message)
    except DataError as error:
        log.error("%s failed: %s And this is not on file: %s", work.cell, message, error)


def _die_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)
