"""bench: run what is missing of a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import EXECUTORS
from distill_bench.cli.output import show, show_json
from distill_bench.cli.settings import options_typed
from distill_bench.errors import UsageError
from distill_bench.runtime.memory import set_memory_limit
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import clock
from distill_bench.runtime.text import counted

if TYPE_CHECKING:
    from distill_bench import benchmark


def bench_command(
    suite: Annotated[
        str | None, typer.Argument(help="A suite of `distill-bench list suites`, or a .toml file; see --new.")
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Such as method=dm,ipc=1,ipc=10.")] = "",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Instead of the suite's datasets.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Besides the suite's: module:function.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option("--protocol", help="Instead of the suite's; repeatable. card: each set's own.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Instead of the suite's, such as paper.")] = None,
    ipc: Annotated[
        list[int] | None, typer.Option("--ipc", min=1, help="Instead of the suite's images per class; repeatable.")
    ] = None,
    fraction: Annotated[
        list[float] | None, typer.Option("--fraction", help="Instead of the suite's budgets; repeatable.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="Instead of the suite's; repeatable.")] = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a field of every method that has it."),
    ] = None,
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
    executor: Annotated[str, typer.Option("--executor", help=", ".join(EXECUTORS))] = "local",
    results: options.Results = None,
    device: options.Device = "auto",
    compile: options.Compile = "auto",
    checkpoint_seconds: options.CheckpointSeconds = 30.0,
    memory_limit: options.MemoryLimit = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the cells, how far each is, how long it may take.")
    ] = False,
    new: Annotated[
        Path | None, typer.Option("--new", metavar="FILE.toml", help="Write a suite to begin with, and run nothing.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Let --new replace a file.")] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Run what is not done of a suite, and print its leaderboard."""
    from distill_bench import benchmark
    from distill_bench.benchmark import leaderboard as boards
    from distill_bench.benchmark.results import read_results
    from distill_bench.cli.boards import as_tables, show_markdown, show_tables
    from distill_bench.runtime.device import resolve_device
    from distill_bench.runtime.run_info import code_state

    if new is not None:
        _write_new(new, force, suite)
        return
    typed = options_typed(sys.argv[1:])
    if "force" in typed:
        raise UsageError("--force lets --new replace a file: give --new FILE.toml, or leave it out.")
    if suite is None:
        raise UsageError("name a suite: distill-bench bench digits; --new my.toml writes one of your own.")
    benchmark.check_executor(executor)
    options.choice("--compile", compile, options.COMPILE)
    set_memory_limit(memory_limit)
    if executor == "in-process" and jobs not in (None, 1):
        raise UsageError(f"--jobs {jobs}: in-process, one cell runs at a time. Leave it out, or take another executor.")
    code_state()
    if executor != benchmark.RAY:  # whose nodes may have what this machine has not
        resolve_device(device)
    loaded = benchmark.load_suite(suite)
    grid: dict[str, Any] = {"ipc": ipc, "fraction": fraction, "seeds": tuple(seed or ()), "preset": preset}
    if not loaded.methods and not method:  # no set is made: what a settings file has for others does not apply
        grid = {name: value for name, value in grid.items() if name.removesuffix("s") in typed}
        values = values if "set" in typed else None
    chosen = loaded.adapted(
        dataset or [],
        method or [],
        size,
        options.holdout_fraction(holdout, split, loaded.holdout),
        **options.own_data(flip_invariant, classes),
        **grid | {"protocols": tuple(protocol or ())},
    )
    how = {"device": device, "networks": networks, "checkpoint_seconds": checkpoint_seconds, "compile": compile}
    folder = results or cache_dir() / "results"
    plan = benchmark.plan(chosen, folder, only, options.overrides(values), **how)
    monitor = options.listening_monitor(quiet)
    if dry_run:
        _print_states(plan, jobs or 1, as_json)
        return
    monitor.say(f"suite {chosen.name}: {len(plan.works)} cells, {len(plan.works) - len(plan.pending)} of them done")
    if peaks := [peak for peak in benchmark.predict_memory(plan.pending).values() if peak is not None]:
        monitor.say(f"memory of a cell's process: up to {max(peaks) / 1e3:.1f} GB")
    failed = plan.run(monitor, executor, jobs, threads, quiet)
    rows = boards.boards(boards.board(folder)).get(chosen.name, [])
    pages = boards.render(rows, folder / chosen.name)
    if as_json:
        show_json(rows)
    elif as_tables(None):
        show_tables([boards.Source("", read_results(folder, chosen.name))])
    else:
        show_markdown(rows)
    monitor.say("leaderboard: " + ", ".join(map(str, pages)))
    plan.check_failed(failed)


def _write_new(path: Path, force: bool, suite: str | None) -> None:
    from distill_bench.benchmark import new_suite

    if suite is not None:
        raise UsageError(f"--new {path} writes a suite and runs none: leave out {suite}.")
    if others := options_typed(sys.argv[1:]) - {"new", "force", "quiet", "verbose"}:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(others))
        raise UsageError(f"--new {path} writes a suite of digits, to be edited: leave out {given}.")
    new_suite(path, force)
    show(f"{path}: run it with distill-bench bench {path}")


def _print_states(plan: benchmark.Plan, jobs: int, as_json: bool) -> None:
    from distill_bench import benchmark
    from distill_bench.runtime.run_info import checkout_results

    states, predicted = plan.states, benchmark.predict(plan.works, plan.results, checkout_results())
    pretraining = benchmark.predict_pretraining(plan.pending)
    memory = benchmark.predict_memory(plan.pending, plan.results)
    if as_json:
        listed = [
            {"dataset": w.cell.dataset, "method": w.cell.method, "ipc": w.cell.ipc, "fraction": w.cell.fraction,
             "seed": w.cell.seed, "preset": w.preset, "protocols": w.cell.protocols, "state": state,
             "predicted_seconds": None if (seconds := predicted[w]) is None else round(seconds, 1), "first": None,
             "pretraining_seconds": round(pretraining.get(w, 0.0), 1),
             "predicted_memory_mb": None if (most := memory.get(w)) is None else round(most),
             "cannot": w.cannot}
            for w, state in states.items()
        ]  # fmt: skip
        show_json(listed)
        return
    for work, state in states.items():
        told = _about(work, state, predicted[work]) + _before(pretraining.get(work)) + _peak(memory.get(work))
        show(f"{state:<10} {work.cell}  {told}")
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    show(f"{counted(len(states), 'cell')}: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    known = [seconds for seconds in predicted.values() if seconds is not None]
    before = sum(pretraining.values())
    if total := sum(known) + before:
        unknown = len(predicted) - len(known)
        rest = f", not counting {unknown} cells of which no time is known yet" if unknown else ""
        rest += f", with {clock(before / jobs)} to pretrain networks" if before else ""
        show(f"about {clock(total / jobs)} for the suite, {jobs} at a time{rest}")


def _before(seconds: float | None) -> str:
    return "" if seconds is None else f", after about {clock(seconds)} to pretrain networks"


def _peak(memory: float | None) -> str:
    return "" if memory is None else f", up to {memory / 1e3:.1f} GB"


def _about(work: benchmark.CellTasks[Any], state: str, seconds: float | None) -> str:
    from distill_bench import benchmark

    if work.cannot:
        return work.cannot
    if isinstance(work.cell, benchmark.ReferenceCell):
        what = "the suite's reference, trained on the whole training split"
    else:
        what = f"preset {work.preset}" if isinstance(work.cell, benchmark.SetCell) else work.cell.file
    left = "" if state == "done" else ", no time known yet" if seconds is None else f", about {clock(seconds)}"
    return f"{what}, {', '.join(work.cell.protocols)}{left}"
