"""bench and leaderboard: commands on many sets."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from distill_bench import leaderboard as boards
from distill_bench import suites
from distill_bench.commands.options import (
    COMPILE,
    CheckpointOption,
    ClassesOption,
    CompileOption,
    DeviceOption,
    FlipOption,
    HoldoutOption,
    JsonOption,
    NetworksOption,
    QuietOption,
    ResultsOption,
    SizeOption,
    SplitOption,
    choice,
    holdout_fraction,
    listening_monitor,
    own_data,
)
from distill_bench.device import resolve_device
from distill_bench.errors import DistillBenchError, UsageError
from distill_bench.progress import StreamMonitor, clock, stopped
from distill_bench.provenance import code_state
from distill_bench.sources import load_source
from distill_bench.storage import check_ending, check_place, home


def bench_command(
    suite: Annotated[str, typer.Argument(help="A suite of `distill-bench list suites`, or a .toml file.")],
    only: Annotated[str, typer.Option("--only", help="Such as method=dm,ipc=1,ipc=10.")] = "",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Instead of the suite's datasets.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Besides the suite's: module:function.")] = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    flip_invariant: FlipOption = None,
    classes: ClassesOption = None,
    networks: NetworksOption = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", min=1, help="Cells at a time: 1, or all that a Ray cluster has room for."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, help="Threads of a cell: the cores divided by --jobs, or 1 with ray."),
    ] = None,
    executor: Annotated[str, typer.Option("--executor", help=", ".join(suites.EXECUTORS))] = "local",
    results: ResultsOption = None,
    device: DeviceOption = "auto",
    compile: CompileOption = "auto",
    checkpoint_seconds: CheckpointOption = 30.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the cells, how far each is, how long it may take.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run what is not done of a suite, and print its leaderboard."""
    suites.check_executor(executor)
    choice("--compile", compile, COMPILE)
    if executor == "in-process" and jobs not in (None, 1):
        raise UsageError(f"--jobs {jobs}: in-process, one cell runs at a time. Leave it out, or take another executor.")
    code_state()
    if executor != suites.RAY:  # whose nodes may have what this machine has not
        resolve_device(device)
    found = suites.load_suite(suite)
    chosen = found.adapted(
        dataset or [],
        method or [],
        size,
        holdout_fraction(holdout, split, found.holdout),
        **own_data(flip_invariant, classes),
    )
    cells = suites.expand(chosen, suites.parse_only(only))
    folder = results or home() / "results"
    setting = suites.Setting(chosen.name, folder.resolve(), device, networks, checkpoint_seconds, compile)
    sources = {name: load_source(name, **chosen.data) for name in chosen.datasets}
    works = [suites.CellWork(cell, setting, sources[cell.dataset]) for cell in cells]
    states = {work: work.state() for work in works}
    monitor = listening_monitor(quiet)
    if dry_run:
        count = threads or suites.usual_threads(executor, jobs)
        _print_states(states, _predictions(states, count, monitor), jobs or 1, as_json)
        return
    check_place(folder / chosen.name / "file")
    pending = [work for work, state in states.items() if state != "done"]
    monitor.say(f"suite {chosen.name}: {len(works)} cells, {len(works) - len(pending)} of them done")
    failed = suites.run_cells(pending, executor, jobs, monitor, quiet, threads)
    suite_folder = folder / chosen.name
    rows = boards.board(suite_folder)
    pages = boards.render(suite_folder, suite_folder)
    typer.echo(json.dumps(rows, indent=1) if as_json else boards.markdown(rows, boards.published()))
    monitor.say("leaderboard: " + ", ".join(map(str, pages)))
    if failed:
        raise DistillBenchError(f"{failed} of {len(pending)} cells failed; the board shows which, their files say why.")


def leaderboard_command(
    results: ResultsOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write all boards as one page to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Render the board of every suite in a folder of results, and print them."""
    if html and as_json:
        raise UsageError("--html writes a page and --json prints the rows: give one of them.")
    folder = results or home() / "results"
    if not folder.is_dir() or not any(folder.rglob("*.json")):
        raise UsageError(f"{folder} has no results. Run distill-bench bench digits first, or give --results DIR.")
    if html:
        check_ending(html, ".html", ".htm")
        check_place(html)
        boards.render_page(folder, html)
        typer.echo(str(html))
    elif as_json:
        typer.echo(json.dumps(boards.board(folder), indent=1))
    else:
        for suite_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
            if rows := boards.board(suite_folder):
                boards.render(suite_folder, suite_folder)
                typer.echo(boards.markdown(rows, boards.published()))


def _predictions(
    states: dict[suites.CellWork, str], threads: int, monitor: StreamMonitor
) -> dict[suites.CellWork, suites.Timed]:
    """Seconds that every cell will take at this number of threads."""
    predicted, before = dict[suites.CellWork, suites.Timed](), torch.get_num_threads()
    torch.set_num_threads(threads)
    monitor.say("timing the first steps of what is not done (remembered on this machine)")
    try:
        with monitor.stage("timing", len(states)) as stage:
            for work, needed in suites.predict(states, suites.Calibration()):
                predicted[work] = needed
                stage.advance()
                if monitor.stop_requested:
                    raise stopped("only timing")
        return predicted
    finally:
        torch.set_num_threads(before)


def _print_states(
    states: dict[suites.CellWork, str], predicted: dict[suites.CellWork, suites.Timed], jobs: int, as_json: bool
) -> None:
    if as_json:
        listed = [
            {"dataset": w.cell.dataset, "method": w.cell.method, "ipc": w.cell.ipc, "seed": w.cell.seed,
             "preset": w.preset, "protocols": w.cell.protocols, "state": state,
             "predicted_seconds": round(predicted[w].seconds, 1), "first": predicted[w].first or None}
            for w, state in states.items()
        ]  # fmt: skip
        typer.echo(json.dumps(listed, indent=1))
        return
    for work, state in states.items():
        after = f" after {predicted[work].first}" if predicted[work].first else ""
        left = "" if state == "done" else f", about {clock(predicted[work].seconds)}{after}"
        typer.echo(f"{state:<8} {work.cell}  preset {work.preset}, {', '.join(work.cell.protocols)}{left}")
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    typer.echo(f"{len(states)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))
    if total := sum(needed.seconds for needed in predicted.values()):
        firsts = sorted({needed.first for needed in predicted.values()} - {""})
        more = f", besides {', '.join(firsts)} and what needs it" if firsts else ""
        typer.echo(f"about {clock(total / jobs)} for the suite, {jobs} at a time{more}")
