"""bench: run what is missing of a suite."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from distill_bench import benchmark
from distill_bench.benchmark import leaderboard as boards
from distill_bench.benchmark.results import fold, read_results
from distill_bench.cli import options
from distill_bench.cli.boards import as_tables, show_markdown, show_tables
from distill_bench.cli.output import show, show_json
from distill_bench.datasets import load_dataset
from distill_bench.errors import DistillBenchError, UsageError
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.files import check_place
from distill_bench.runtime.memory import set_memory_limit
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import clock
from distill_bench.runtime.run_info import code_state


def bench_command(
    suite: Annotated[str, typer.Argument(help="A suite of `distill-bench list suites`, or a .toml file.")],
    only: Annotated[str, typer.Option("--only", help="Such as method=dm,ipc=1,ipc=10.")] = "",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Instead of the suite's datasets.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Besides the suite's: module:function.")] = None,
    size: options.Size = None,
    holdout: options.Holdout = None,
    split: options.Split = None,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    networks: options.Networks = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Cells at a time: 1, or all that a Ray cluster has room for.")
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads of a cell: the cores divided by --jobs, or 1 with ray."),
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help=", ".join(benchmark.EXECUTORS))] = "local",
    results: options.Results = None,
    device: options.Device = "auto",
    compile: options.Compile = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 30.0,
    memory_limit: options.MemoryLimit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the cells, how far each is, how long it may take.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run what is not done of a suite, and print its leaderboard."""
    benchmark.check_executor(executor)
    options.choice("--compile", compile, options.COMPILE)
    set_memory_limit(memory_limit)
    if executor == "in-process" and jobs not in (None, 1):
        raise UsageError(f"--jobs {jobs}: in-process, one cell runs at a time. Leave it out, or take another executor.")
    code_state()
    if executor != benchmark.RAY:  # whose nodes may have what this machine has not
        resolve_device(device)
    loaded = benchmark.load_suite(suite)
    chosen = loaded.adapted(
        dataset or [],
        method or [],
        size,
        options.holdout_fraction(holdout, split, loaded.holdout),
        **options.own_data(flip_invariant, classes),
    )
    cells = benchmark.expand(chosen, benchmark.parse_only(only))
    folder = results or cache_dir() / "results"
    setting = benchmark.BenchConfig(
        chosen.name, Path(os.path.realpath(folder)), device, networks, checkpoint_seconds, compile
    )
    sources = {name: load_dataset(name, **chosen.data) for name in chosen.datasets}
    works = [benchmark.tasks_of(cell, setting, sources[cell.dataset]) for cell in cells]
    _check_some_possible(works)
    states = {work: work.state() for work in works}
    monitor = options.listening_monitor(quiet)
    if dry_run:
        undone = [work for work, state in states.items() if state != "done"]
        seconds, memory = benchmark.predict(works, folder), benchmark.predict_memory(undone, folder)
        _print_states(states, seconds, memory, jobs or 1, as_json)
        return
    check_place(folder / chosen.name / "file")
    pending = [work for work, state in states.items() if state != "done"]
    monitor.say(f"suite {chosen.name}: {len(works)} cells, {len(works) - len(pending)} of them done")
    if peaks := [peak for peak in benchmark.predict_memory(pending).values() if peak is not None]:
        monitor.say(f"memory of a cell's process: up to {max(peaks) / 1e3:.1f} GB")
    failed = benchmark.run_cells(pending, executor, jobs, monitor, quiet, threads)
    fold(folder, chosen.name)
    rows = boards.boards(boards.board(folder)).get(chosen.name, [])
    pages = boards.render(rows, folder / chosen.name)
    if as_json:
        show_json(rows)
    elif as_tables(None):
        show_tables([boards.Source("", read_results(folder, chosen.name))])
    else:
        show_markdown(rows)
    monitor.say("leaderboard: " + ", ".join(map(str, pages)))
    if failed:
        raise DistillBenchError(
            f"{failed} of {len(pending)} cells failed; the board shows which, their files say why.",
            *dict.fromkeys(work.cannot for work in works if work.cannot),
        )


def _check_some_possible(works: list[benchmark.CellTasks[Any]]) -> None:
    """Raises UsageError if no set that was asked for can be made: the reference alone is not what was meant."""
    sets = [work for work in works if not isinstance(work.cell, benchmark.ReferenceCell)]
    if sets and all(work.cannot for work in sets):
        raise UsageError(str(sets[0].cannot))


def _print_states(
    states: dict[benchmark.CellTasks[Any], str],
    predicted: dict[benchmark.CellTasks[Any], float | None],
    memory: dict[benchmark.CellTasks[Any], float | None],
    jobs: int,
    as_json: bool,
) -> None:
    if as_json:
        listed = [
            {"dataset": w.cell.dataset, "method": w.cell.method, "ipc": w.cell.ipc, "fraction": w.cell.fraction,
             "seed": w.cell.seed, "preset": w.preset, "protocols": w.cell.protocols, "state": state,
             "predicted_seconds": None if (seconds := predicted[w]) is None else round(seconds, 1), "first": None,
             "predicted_memory_mb": None if (most := memory.get(w)) is None else round(most),
             "cannot": w.cannot}
            for w, state in states.items()
        ]  # fmt: skip
        show_json(listed)
        return
    for work, state in states.items():
        show(f"{state:<10} {work.cell}  {_about(work, state, predicted[work])}{_peak(memory.get(work))}")
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    show(f"{len(states)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    known = [seconds for seconds in predicted.values() if seconds is not None]
    if total := sum(known):
        unknown = len(predicted) - len(known)
        rest = f", not counting {unknown} cells of which no time is known yet" if unknown else ""
        show(f"about {clock(total / jobs)} for the suite, {jobs} at a time{rest}")


def _peak(memory: float | None) -> str:
    return "" if memory is None else f", up to {memory / 1e3:.1f} GB"


def _about(work: benchmark.CellTasks[Any], state: str, seconds: float | None) -> str:
    if work.cannot:
        return work.cannot
    if isinstance(work.cell, benchmark.ReferenceCell):
        what = "the suite's reference, trained on the whole training split"
    else:
        what = f"preset {work.preset}" if isinstance(work.cell, benchmark.SetCell) else work.cell.file
    left = "" if state == "done" else ", no time known yet" if seconds is None else f", about {clock(seconds)}"
    return f"{what}, {', '.join(work.cell.protocols)}{left}"
