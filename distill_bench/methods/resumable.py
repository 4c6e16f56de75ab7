"""Work of many pieces that do not depend on each other, kept as far as it is done."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from distill_bench.methods.run import Run
from distill_bench.runtime.checkpoint import Checkpoint


def fill_rows(run: Run[Any], name: str, title: str, tensors: Mapping[str, Tensor], make: Callable[[int], None]) -> None:
    """Have ``make(i)`` write row i of every tensor, row after row, going on from the run's checkpoint.

    A file of the checkpoint holds the rows made since the one before, so that each is written once, however large all
    of them together are.

    Args:
        run: whose checkpoint it is.
        name: of the checkpoint's parts.
        title: what the rows are, for progress and errors, such as ``"classes cut out"``.
        tensors: [rows, …] by name, on the CPU.
        make: writes a row.

    Raises:
        Interrupted: the monitor was asked to stop; a checkpoint was written.
    """

    def file(first: int) -> Checkpoint:
        return run.checkpoint.part(f"{name}-{first}")

    count, done = len(next(iter(tensors.values()))), 0
    while (saved := file(done).load()) is not None:
        for key, values in saved["rows"].items():
            tensors[key][done : saved["end"]] = values
        done = saved["end"]
    first, unsaved = done, file(done)
    with run.monitor.stage(f"{run.method}, {run.budget}, seed {run.seed}: {title}", count, done) as stage:
        for row in range(done, count):
            make(row)
            stage.advance()

            def state(end: int = row + 1, first: int = first) -> dict[str, Any]:
                return {"end": end, "rows": {key: each[first:end] for key, each in tensors.items()}}

            if unsaved.save_if_due(run.monitor, state, f"{row + 1} of {count} {title}"):
                first, unsaved = row + 1, file(row + 1)
