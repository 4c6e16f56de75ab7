"""The command. Thin: every subcommand is one public function. Results on standard output, progress on the error."""

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from distill_bench import leaderboard as boards
from distill_bench import suites
from distill_bench.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DistillBenchError, UsageError
from distill_bench.evaluation import PROTOCOLS, Score, evaluate, evaluate_full, load_protocol
from distill_bench.progress import StreamMonitor
from distill_bench.provenance import peak_memory_mb, run_block
from distill_bench.recipes import PAPER, load_recipe, parse_values
from distill_bench.render import render_grid
from distill_bench.sources import Source, list_sources, load_source
from distill_bench.storage import home, write_atomically
from distill_bench.synthesizers import (
    Checkpoint,
    list_methods,
    load_method,
    synthesis_key,
    synthesize,
)

app = typer.Typer(
    help="A benchmark suite for dataset distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipe_app = typer.Typer(help="Show and check recipes.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")

HOLDOUT = 0.2

DatasetOption = Annotated[
    str, typer.Option("--dataset", help="digits, mnist, …, folder:PATH, parquet:PATH or npz:PATH.")
]
OptionalDataset = Annotated[
    str | None, typer.Option("--dataset", help="Where to test, if not on the source named in the set.")
]
SizeOption = Annotated[
    int | None, typer.Option("--size", help="Resize and centre-crop images to this side, in pixels.")
]
HoldoutOption = Annotated[
    float | None, typer.Option("--holdout", help="Test on this fraction of the training split, held out; such as 0.2.")
]
SplitOption = Annotated[
    str, typer.Option("--split", help=f"test, or holdout for --holdout {HOLDOUT}: for choosing hyper-parameters.")
]
PresetOption = Annotated[str, typer.Option("--preset", help="paper, or a recipe's preset such as cpu.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
NetworksOption = Annotated[int | None, typer.Option("--networks", help="How many networks, if not the usual number.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
ResultsOption = Annotated[Path | None, typer.Option("--results", help="Folder of results; in the cache by default.")]


@app.command("synthesize")
def synthesize_command(
    dataset: DatasetOption,
    ipc: Annotated[int, typer.Option("--ipc", help="Images per class.")],
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write.")],
    method: Annotated[str | None, typer.Argument(help="A method of `distill-bench list methods`.")] = None,
    own: Annotated[str | None, typer.Option("--method", help="A method of your own: module:function.")] = None,
    preset: PresetOption = PAPER,
    values: SetOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random in synthesis.")] = 0,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    checkpoint_seconds: Annotated[float, typer.Option(help="Least time between two checkpoints.")] = 30.0,
    quiet: QuietOption = False,
) -> None:
    """Make a distilled set from a dataset's training split."""
    if (method is None) == (own is None):
        raise UsageError("name one method: distill-bench synthesize METHOD …, or --method module:function.")
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: the file's name must end in .safetensors.")
    name = method or own or ""
    overrides = parse_values(values or [])
    source = load_source(dataset, size=size, holdout=_holdout(holdout, split))
    chosen = load_method(name)
    key = synthesis_key(source, chosen, chosen.fields(source.name, ipc, preset, **overrides), ipc, seed)
    checkpoint = Checkpoint(home() / "checkpoints" / f"{key}.safetensors", checkpoint_seconds)
    monitor, history = _monitor(quiet), list[float]()
    made = synthesize(
        source,
        name,
        ipc,
        preset,
        seed,
        device=device,
        monitor=monitor,
        checkpoint=checkpoint,
        history=history,
        **overrides,
    )
    made.save(out)
    facts = {"peak_memory_mb": peak_memory_mb(), **run_block(checkpoint.seconds), "history": history}
    write_atomically(out.with_suffix(".run.json"), json.dumps(facts) + "\n")
    checkpoint.clear()
    typer.echo(f"{out}: {len(made.images)} images, {made.nbytes:,} bytes, {checkpoint.seconds:.0f} s")


@app.command("evaluate")
def evaluate_command(
    file: Annotated[Path | None, typer.Argument(help="A distilled set. Not needed for a full-… protocol.")] = None,
    protocol: Annotated[str, typer.Option("--protocol", help=", ".join(PROTOCOLS))] = "standard-v1",
    labels: Annotated[str, typer.Option("--labels", help="stored, or hard for the strict evaluation.")] = "stored",
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3 or ConvNetD3BN.")] = None,
    networks: NetworksOption = None,
    dataset: OptionalDataset = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train networks on a set and print their test accuracy."""
    fraction, monitor = _holdout(holdout, split), _monitor(quiet)
    if load_protocol(protocol).trains_on == "full":
        if dataset is None:
            raise UsageError(f"{protocol} scores a whole training split: say which with --dataset.")
        source = load_source(dataset, size=size, holdout=fraction)
        score = evaluate_full(source, protocol, network, networks, device=device, monitor=monitor)
    elif file is None:
        raise UsageError("name the file of a distilled set: distill-bench evaluate FILE.")
    else:
        made = load_distilled(file)
        score = evaluate(
            made,
            _source_of(made, dataset, size, fraction),
            protocol,
            network,
            networks,
            labels,  # type: ignore[arg-type]
            device=device,
            monitor=monitor,
        )
    typer.echo(score.model_dump_json(indent=1) if as_json else _sentence(score))
    for note in score.notes:
        monitor.say(f"note: {note}")


@app.command("bench")
def bench_command(
    suite: Annotated[str, typer.Argument(help="A suite of `distill-bench list suites`, or a .toml file.")],
    only: Annotated[str, typer.Option("--only", help="Such as method=dm,ipc=1,ipc=10.")] = "",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Instead of the suite's datasets.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Besides the suite's: module:function.")] = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = "test",
    networks: NetworksOption = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Cells at a time; they share the cores.")] = 1,
    executor: Annotated[str, typer.Option("--executor", help=", ".join(suites.EXECUTORS))] = "local",
    results: ResultsOption = None,
    device: DeviceOption = "auto",
    checkpoint_seconds: Annotated[float, typer.Option(help="Least time between two checkpoints.")] = 30.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the cells and how far each is.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run what is not done of a suite, and print its leaderboard."""
    if executor not in suites.EXECUTORS:
        raise UsageError(f"unknown executor {executor!r}. Known: {', '.join(suites.EXECUTORS)}.")
    chosen = suites.load_suite(suite).adapted(dataset or [], method or [], size, _holdout(holdout, split))
    cells = suites.expand(chosen, suites.parse_only(only))
    folder = results or home() / "results"
    setting = suites.Setting(chosen.name, folder.resolve(), device, networks, checkpoint_seconds)
    sources = {name: load_source(name, size=chosen.size, holdout=chosen.holdout) for name in chosen.datasets}
    works = [suites.CellWork(cell, setting, sources[cell.dataset]) for cell in cells]
    states = {work: work.state() for work in works}
    if dry_run:
        _print_states(states, as_json)
        return
    monitor = _monitor(quiet)
    pending = [work for work, state in states.items() if state != "done"]
    monitor.say(f"suite {chosen.name}: {len(works)} cells, {len(works) - len(pending)} of them done")
    failed = suites.run_cells(pending, executor, jobs, monitor, quiet)
    suite_folder = folder / chosen.name
    rows = boards.board(suite_folder)
    pages = boards.render(suite_folder, suite_folder)
    typer.echo(json.dumps(rows, indent=1) if as_json else boards.markdown(rows, boards.published()))
    monitor.say("leaderboard: " + ", ".join(map(str, pages)))
    if failed:
        raise DistillBenchError(f"{failed} of {len(pending)} cells failed; the board shows which, their files say why.")


@app.command("leaderboard")
def leaderboard_command(
    results: ResultsOption = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write all boards as one page to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Render the board of every suite in a folder of results, and print them."""
    folder = results or home() / "results"
    if not folder.is_dir():
        raise UsageError(f"{folder} has no results. Run distill-bench bench digits first, or give --results DIR.")
    if html:
        boards.render_page(folder, html)
        typer.echo(str(html))
    elif as_json:
        typer.echo(json.dumps(boards.board(folder), indent=1))
    else:
        for suite_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
            if rows := boards.board(suite_folder):
                boards.render(suite_folder, suite_folder)
                typer.echo(boards.markdown(rows, boards.published()))


@app.command("render")
def render_command(
    file: Annotated[Path, typer.Argument(help="A distilled set.")],
    out: Annotated[Path, typer.Option("--out", help="The .png file to write.")],
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images of a class shown at most.")] = 10,
    dataset: OptionalDataset = None,
) -> None:
    """Draw a set as an image grid, a row a class, with normalisation and whitening undone."""
    made = load_distilled(file)
    render_grid(made, out, source=_source_of(made, dataset, None, None), columns=columns)
    typer.echo(str(out))


@app.command("info")
def info_command(file: Annotated[Path, typer.Argument(help="A distilled set.")]) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    made = load_distilled(file)
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in made.tensors.items()}
    about = {"card": made.card.model_dump(mode="json"), "tensors": tensors, "bytes": made.nbytes, "sha256": made.sha256}
    typer.echo(json.dumps(about, indent=1, ensure_ascii=False))


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="methods, sources, protocols, suites, or all.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """List methods, sources, protocols and suites."""
    known = {
        "methods": {name: load_method(name).recipe.title for name in list_methods()},
        "sources": dict.fromkeys([*list_sources(), "folder:PATH", "parquet:PATH", "npz:PATH"], ""),
        "protocols": {name: protocol.source for name, protocol in PROTOCOLS.items()},
        "suites": {name: suites.load_suite(name).title for name in suites.list_suites()},
    }
    if what not in [*known, "all"]:
        raise UsageError(f"cannot list {what!r}. Known: {', '.join(known)}, all.")
    shown = known if what == "all" else {what: known[what]}
    if as_json:
        typer.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    for kind, names in shown.items():
        typer.echo(f"{kind}:")
        for name, title in names.items():
            typer.echo(f"  {name:<14} {title}".rstrip())


@recipe_app.command("show")
def recipe_show(
    method: Annotated[str, typer.Argument(help="A method.")],
    dataset: DatasetOption = "digits",
    ipc: Annotated[int, typer.Option("--ipc", help="Images per class.")] = 1,
    preset: PresetOption = PAPER,
    values: SetOption = None,
) -> None:
    """Print the values a method would run with."""
    chosen = load_method(method)
    fields = chosen.fields(dataset, ipc, preset, **parse_values(values or []))
    about = {"title": chosen.recipe.title, "paper": chosen.recipe.paper, "protocol": chosen.recipe.protocol}
    typer.echo(json.dumps({"method": method, **about, "fields": fields.model_dump(mode="json")}, indent=1))


@recipe_app.command("validate")
def recipe_validate(
    file: Annotated[str, typer.Argument(help="A built-in recipe's name, or a .toml file.")],
) -> None:
    """Check every table of a recipe against its method's fields."""
    recipe, chosen = load_recipe(file), load_method(file)
    for preset in [PAPER, *recipe.preset]:
        for dataset, ipc in recipe.tabulated(preset):
            chosen.fields(dataset, ipc, preset)
    typer.echo(f"{file}: valid")


def _source_of(made: DistilledSet, dataset: str | None, size: int | None, holdout: float | None) -> Source:
    card = made.card.source
    return load_source(
        dataset or card.name,
        size=card.size if size is None else size,
        holdout=card.holdout if holdout is None else holdout,
    )


def _holdout(fraction: float | None, split: str) -> float | None:
    if split not in ("test", "holdout"):
        raise UsageError(f"--split {split!r}: give test or holdout.")
    return HOLDOUT if split == "holdout" and fraction is None else fraction


def _monitor(quiet: bool) -> StreamMonitor:
    monitor = StreamMonitor(quiet=quiet)
    monitor.listen()
    return monitor


def _sentence(score: Score) -> str:
    interval = "" if score.ci_low is None else f", 95 % interval {score.ci_low:.2f} to {score.ci_high:.2f}"
    each = ", ".join(f"{value:.2f}" for value in score.accuracies)
    return (
        f"{score.method} on {score.dataset}" + (f", ipc {score.ipc}" if score.ipc else "") + f": "
        f"{score.accuracy:.2f} % ± {score.std:.2f} (std of {score.networks} networks{interval})\n"
        f"protocol {score.protocol}, network {score.network}, labels {score.labels}, "
        f"learning rate {score.learning_rate:g}, {score.pixel_space} pixels, {score.bytes:,} bytes\n"
        f"networks: {each}"
    )


def _print_states(states: dict[suites.CellWork, str], as_json: bool) -> None:
    if as_json:
        listed = [
            {"dataset": w.cell.dataset, "method": w.cell.method, "ipc": w.cell.ipc, "seed": w.cell.seed,
             "preset": w.preset, "protocols": w.cell.protocols, "state": state}
            for w, state in states.items()
        ]  # fmt: skip
        typer.echo(json.dumps(listed, indent=1))
        return
    for work, state in states.items():
        typer.echo(f"{state:<8} {work.cell}  preset {work.preset}, {', '.join(work.cell.protocols)}")
    counts = {state: list(states.values()).count(state) for state in dict.fromkeys(states.values())}
    typer.echo(f"{len(states)} cells: " + ", ".join(f"{count} {state}" for state, count in counts.items()))


def main() -> NoReturn:
    """Run the command; errors of the package become one line on standard error and their exit code."""
    try:
        app(prog_name="distill-bench", standalone_mode=True)
    except DistillBenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    sys.exit(0)
