"""The command. Thin: every subcommand is one public function. Results on standard output, progress on the error."""

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import torch
import typer

from distill_bench import hub, suites
from distill_bench import leaderboard as boards
from distill_bench.allocator import keep_freed_memory
from distill_bench.analysis import Transfer, shown, transfer
from distill_bench.device import resolve_device
from distill_bench.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DistillBenchError, Interrupted, UsageError
from distill_bench.evaluation import (
    PROTOCOLS,
    KeptNetworks,
    Score,
    evaluate,
    evaluate_full,
    load_protocol,
    recorded_score,
    runs_compiled,
    score_key,
    score_teacher,
)
from distill_bench.hub.replay_buffer import import_experts
from distill_bench.networks import NAMED, resolve_network
from distill_bench.pixel_evidence import table
from distill_bench.pixel_space import SPACES, PixelSpace, pixel_space_of
from distill_bench.pretrained import (
    Pretrained,
    list_experts,
    list_teachers,
    obtain_experts,
    obtain_teacher,
    teacher_recipe,
)
from distill_bench.progress import StoppedEarly, StreamMonitor, clock, stop_at_once, stopped
from distill_bench.provenance import code_state, peak_memory_mb, run_block
from distill_bench.recipes import PAPER, load_recipe, parse_values
from distill_bench.render import render_grid
from distill_bench.sources import Source, list_sources, load_source
from distill_bench.storage import home, log, write_atomically
from distill_bench.synthesizers import (
    Checkpoint,
    list_methods,
    load_method,
    make_set,
    synthesis_key,
)
from distill_bench.synthesizers.trajectory_matching import ExpertFields
from distill_bench.training_data import TrainingData

app = typer.Typer(
    help="A benchmark suite for dataset distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
recipe_app = typer.Typer(help="Show and check recipes.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
teachers_app = typer.Typer(help="Train and list teachers.", no_args_is_help=True)
app.add_typer(teachers_app, name="teachers")
experts_app = typer.Typer(help="Train, import and list the experts of trajectory matching.", no_args_is_help=True)
app.add_typer(experts_app, name="experts")

HOLDOUT = 0.2
USUAL_SHAPE = (3, 32, 32)
MEASURES = ("transfer",)

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
    str | None,
    typer.Option("--split", help=f"test, or holdout for --holdout {HOLDOUT}: for choosing hyper-parameters."),
]
PresetOption = Annotated[str, typer.Option("--preset", help="paper, or a recipe's preset such as cpu.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe.")
]
CompileOption = Annotated[
    str, typer.Option("--compile", help="auto (where it pays), on or off: training through torch.compile.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
NetworksOption = Annotated[
    int | None, typer.Option("--networks", min=1, help="How many networks, if not the usual number.")
]
CheckpointOption = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, help="Least time between two checkpoints.")
]
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
    split: SplitOption = None,
    device: DeviceOption = "auto",
    checkpoint_seconds: CheckpointOption = 30.0,
    quiet: QuietOption = False,
) -> None:
    """Make a distilled set from a dataset's training split."""
    if (method is None) == (own is None):
        raise UsageError("name one method: distill-bench synthesize METHOD …, or --method module:function.")
    _check_out(out)
    code_state()
    overrides, place = parse_values(values or []), resolve_device(device)
    source = load_source(dataset, size=size, holdout=_holdout(holdout, split))
    chosen = load_method(method or own or "")
    fields = chosen.fields(source.name, ipc, preset, **overrides)
    key = synthesis_key(source, chosen, fields, ipc, preset, seed)
    checkpoint = Checkpoint(home() / "checkpoints" / f"{key}.safetensors", checkpoint_seconds)
    monitor, history = _monitor(quiet), list[float]()
    made = make_set(
        source,
        chosen,
        fields,
        ipc,
        preset,
        seed,
        device=device,
        monitor=monitor,
        checkpoint=checkpoint,
        history=history,
    )
    made.save(out)
    facts = {"peak_memory_mb": peak_memory_mb(), **run_block(checkpoint.seconds, place), "history": history}
    write_atomically(out.with_suffix(".run.json"), json.dumps(facts) + "\n")
    checkpoint.clear()
    typer.echo(f"{out}: {len(made.images)} images, {made.nbytes:,} bytes, {checkpoint.seconds:.0f} s")


@app.command("evaluate")
def evaluate_command(
    file: Annotated[Path | None, typer.Argument(help="A distilled set. Not needed for a full-… protocol.")] = None,
    protocol: Annotated[str, typer.Option("--protocol", help=", ".join(PROTOCOLS))] = "standard-v1",
    labels: Annotated[str, typer.Option("--labels", help="stored, or hard for the strict evaluation.")] = "stored",
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3BN, ResNet18BN or ViT.")] = None,
    networks: NetworksOption = None,
    dataset: OptionalDataset = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    device: DeviceOption = "auto",
    compile: CompileOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train networks on a set and print their test accuracy."""
    resolve_device(device)
    made = None
    if load_protocol(protocol).trains_on == "full":
        if dataset is None:
            raise UsageError(f"{protocol} scores a whole training split: say which with --dataset.")
        source = load_source(dataset, size=size, holdout=_holdout(holdout, split))
    elif file is None:
        raise UsageError("name the file of a distilled set: distill-bench evaluate FILE.")
    else:
        made = load_distilled(file)
        source = _tested_on(made, dataset, size, holdout, split)
    kept, monitor = KeptNetworks(score_key(source, protocol, made, labels, network)), _monitor(quiet)
    if kept.accuracies:
        monitor.say(f"networks tested before: {len(kept.accuracies)}, kept in {kept.path}")
    images = len(source.train if made is None else made.images)
    how = kept.settle(lambda: runs_compiled(source, protocol, images, network, device=device, compile=compile))
    options: dict[str, Any] = {"network": network, "networks": networks, "device": device, "monitor": monitor}
    options |= {"compile": how, "completed": kept.accuracies, "after_network": kept.keep}
    if made is None:
        score = evaluate_full(source, protocol, **options)
    else:
        score = evaluate(made, source, protocol, labels=labels, **options)  # type: ignore[arg-type]
    typer.echo(score.model_dump_json(indent=1) if as_json else _sentence(score))
    if made is not None and made.card.origin and made.card.origin.stored_accuracies:
        monitor.say(_stored(made))
    for note in score.notes:
        monitor.say(f"note: {note}")


@app.command("measure")
def measure_command(
    file: Annotated[Path, typer.Argument(help="A distilled set.")],
    what: Annotated[str, typer.Argument(help=", ".join(MEASURES))],
    protocol: Annotated[str, typer.Option("--protocol", help=", ".join(PROTOCOLS))] = "standard-v1",
    labels: Annotated[str, typer.Option("--labels", help="stored, or hard for the strict evaluation.")] = "stored",
    network: Annotated[list[str] | None, typer.Option("--network", help="Instead of all networks; repeatable.")] = None,
    networks: NetworksOption = None,
    dataset: OptionalDataset = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a set otherwise than by one accuracy. transfer: its accuracy on every network."""
    if what not in MEASURES:
        raise UsageError(f"unknown measure {what!r}. Known: {', '.join(MEASURES)}.")
    place = resolve_device(device)
    made, monitor, began = load_distilled(file), _monitor(quiet), time.monotonic()
    source = _tested_on(made, dataset, size, holdout, split)
    found = transfer(made, source, protocol, network or (), networks, labels, device=device, monitor=monitor)  # type: ignore[arg-type]
    if as_json:
        facts = found.model_dump(mode="json") | {"run": run_block(time.monotonic() - began, place)}
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(_transfer_table(found))
    for name, reason in found.left_out.items():
        monitor.say(f"left out {name}: {reason}")


@app.command("bench")
def bench_command(
    suite: Annotated[str, typer.Argument(help="A suite of `distill-bench list suites`, or a .toml file.")],
    only: Annotated[str, typer.Option("--only", help="Such as method=dm,ipc=1,ipc=10.")] = "",
    dataset: Annotated[list[str] | None, typer.Option("--dataset", help="Instead of the suite's datasets.")] = None,
    method: Annotated[list[str] | None, typer.Option("--method", help="Besides the suite's: module:function.")] = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    networks: NetworksOption = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Cells at a time; they share the cores.")] = 1,
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
    if executor not in suites.EXECUTORS:
        raise UsageError(f"unknown executor {executor!r}. Known: {', '.join(suites.EXECUTORS)}.")
    code_state()
    resolve_device(device)
    found = suites.load_suite(suite)
    chosen = found.adapted(dataset or [], method or [], size, _holdout(holdout, split, found.holdout))
    cells = suites.expand(chosen, suites.parse_only(only))
    folder = results or home() / "results"
    setting = suites.Setting(chosen.name, folder.resolve(), device, networks, checkpoint_seconds, compile)
    sources = {name: load_source(name, size=chosen.size, holdout=chosen.holdout) for name in chosen.datasets}
    works = [suites.CellWork(cell, setting, sources[cell.dataset]) for cell in cells]
    states = {work: work.state() for work in works}
    monitor = _monitor(quiet)
    if dry_run:
        _print_states(states, _predictions(states, jobs, monitor), jobs, as_json)
        return
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
    if not folder.is_dir() or not any(folder.rglob("*.json")):
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
    whitened = made.card.pixel_space.kind == "zca"
    render_grid(made, out, source=_tested_on(made, dataset) if whitened else None, columns=columns)
    typer.echo(str(out))


@app.command("info")
def info_command(file: Annotated[Path, typer.Argument(help="A distilled set.")]) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    made = load_distilled(file)
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in made.tensors.items()}
    about = {"card": made.card.model_dump(mode="json"), "tensors": tensors, "bytes": made.nbytes, "sha256": made.sha256}
    typer.echo(json.dumps(about, indent=1, ensure_ascii=False))


@app.command("import")
def import_command(
    files: Annotated[list[Path], typer.Argument(help="The files of one release: .pt, .npz, or a folder of pictures.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option("--out", help="The .safetensors file to write; several sets are numbered.")],
    space: Annotated[
        str | None, typer.Option("--space", help="normalized, zca or unit: what pixel values are.")
    ] = None,
    zca_eps: Annotated[float, typer.Option("--zca-eps", help="Of the whitening.")] = 0.1,
    zca_input: Annotated[
        str, typer.Option("--zca-input", help="What was whitened: unit or normalized pixels.")
    ] = "unit",
    mean: Annotated[
        str | None, typer.Option("--mean", help="Such as 0.49,0.48,0.45, if not the dataset's usual.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", help="Goes with --mean.")] = None,
    labels: Annotated[
        str | None, typer.Option("--labels", help="logits, probabilities or argmax of a matrix; order: none, in order.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="That the set is to be used with.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="nchw, or nhwc where channels come last.")] = "nchw",
    images_key: Annotated[str | None, typer.Option("--images-key", help="The array of images in the file.")] = None,
    labels_key: Annotated[str | None, typer.Option("--labels-key", help="The array of labels in the file.")] = None,
    form: Annotated[str | None, typer.Option("--form", help=", ".join(hub.IMPORTERS))] = None,
    method: Annotated[str | None, typer.Option("--method", help="The method's name, if not the form's.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="The paper's, if not the form's.")] = None,
    number: Annotated[int | None, typer.Option("--set", help="Only this one of several sets, from 0.")] = None,
    size: SizeOption = None,
) -> None:
    """Turn a distilled set that somebody released into a .safetensors file. Nothing in it is run."""
    _check_out(out)
    if protocol:
        load_protocol(protocol)
    source, monitor = load_source(dataset, size=size), StreamMonitor()
    found = hub.import_release(
        files,
        source,
        _space(source, space, zca_eps, zca_input, mean, std),
        hub.Options(
            labels=_choice("--labels", labels, hub.LABELS),
            layout=_choice("--layout", layout, hub.LAYOUTS) or "nchw",
            learning_rate=learning_rate,
            images_key=images_key,
            labels_key=labels_key,
        ),
        form=form,
        method=method,
        protocol=protocol,
    )
    if found.evidence:
        monitor.say(table(found.evidence))
    chosen = found.sets if number is None else found.sets[number : number + 1]
    if not chosen:
        raise UsageError(f"--set {number}: the file holds {len(found.sets)}, numbered from 0.")
    for made in chosen:
        assert made.card.origin is not None
        path = out if len(chosen) == 1 else out.with_stem(f"{out.stem}-{made.card.origin.set_index}")
        made.save(path)
        typer.echo(f"{path}: {_summary(made)}")
    for line in found.remarks:
        monitor.say(line)


@app.command("export")
def export_command(
    files: Annotated[list[Path], typer.Argument(help="Distilled sets; more than one for --to res alone.")],
    to: Annotated[str, typer.Option("--to", help=", ".join(hub.EXPORTERS))],
    out: Annotated[Path, typer.Option("--out", help="The file (res) or folder (the others) to write.")],
) -> None:
    """Write sets in the form that another repository reads."""
    for path in hub.export([load_distilled(file) for file in files], to, out)[:10]:
        typer.echo(str(path))


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="methods, sources, networks, protocols, suites, or all.")] = "all",
    as_json: JsonOption = False,
) -> None:
    """List methods, sources, networks, protocols and suites."""
    known = {
        "methods": _titles(),
        "sources": dict.fromkeys([*list_sources(), "folder:PATH", "parquet:PATH", "npz:PATH"], ""),
        "networks": {"ConvNet": "and its variants, such as ConvNetD3W64BN"}
        | {name: f"{named.smallest[0]} px or more" for name, named in NAMED.items()},
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
    """Check every table of a recipe against its method's fields, and the names of networks and protocol."""
    recipe, chosen = load_recipe(file), load_method(file)
    load_protocol(recipe.protocol)
    for preset in [PAPER, *recipe.preset]:
        for dataset, ipc in recipe.tabulated(preset):
            fields = chosen.fields(dataset, ipc, preset).model_dump()
            resolve_network(fields.get("network", "ConvNet"), USUAL_SHAPE)
    typer.echo(f"{file}: valid")


@teachers_app.command("train")
def teachers_train(
    dataset: DatasetOption,
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3 or ConvNetD3BN.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training split.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, such as learning_rate.")
    ] = None,
    pixel_space: Annotated[str, typer.Option("--pixel-space", help=", ".join(SPACES))] = "normalized",
    seed: Annotated[int, typer.Option("--seed", help="Of everything random in training.")] = 0,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Train a network on a dataset's training split, keep it for the methods that need it, and test it."""
    code_state()
    if pixel_space not in SPACES:
        raise UsageError(f"--pixel-space {pixel_space!r}: give {', '.join(SPACES)}.")
    given = {name: value for name, value in {"network": network, "epochs": epochs}.items() if value is not None}
    recipe = teacher_recipe(parse_values(values or []) | given)
    source = load_source(dataset, size=size, holdout=_holdout(holdout, split))
    space = pixel_space_of(source, pixel_space)  # type: ignore[arg-type]
    training = TrainingData(source, space, resolve_device(device))
    teacher = obtain_teacher(training, recipe, seed, monitor=_monitor(quiet))
    if source.load_test is not None:
        score_teacher(teacher, source, device)
    typer.echo(_teacher_line(teacher.kept))


@teachers_app.command("list")
def teachers_list(as_json: JsonOption = False) -> None:
    """List the teachers that were trained here, with their accuracies on training images and on the test split."""
    teachers = sorted(list_teachers(), key=lambda kept: (kept.history.get("dataset", ""), kept.key))
    if as_json:
        listed = [
            {"key": kept.key, "dataset": kept.history.get("dataset"), **kept.identity, **kept.facts,
             "test_accuracy": recorded_score(kept), "path": str(kept.path)}
            for kept in teachers
        ]  # fmt: skip
        typer.echo(json.dumps(listed, indent=1))
        return
    for kept in teachers:
        typer.echo(_teacher_line(kept))


def _teacher_line(kept: Pretrained) -> str:
    recipe, tested = kept.identity["recipe"], recorded_score(kept)
    test = "not tested" if tested is None else f"test {tested:.1f} %"
    return (
        f"{kept.history.get('dataset', '?')}: {recipe['network']}, {kept.facts['epochs']} epochs, seed "
        f"{kept.identity['seed']}, {kept.identity['pixel_space']['kind']} pixels: training images "
        f"{kept.facts['accuracy']:.1f} %, {test}  {kept.key}"
    )


@experts_app.command("train")
def experts_train(
    dataset: DatasetOption,
    method: Annotated[str, typer.Argument(help="The method whose experts they are: mtt, tesla, ftd, datm, …")] = "mtt",
    count: Annotated[int | None, typer.Option("--count", min=1, help="How many, if not the recipe's number.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Of each, if not the recipe's number.")] = None,
    ipc: Annotated[int, typer.Option("--ipc", help="Whose recipe: the pixel space and more may depend on it.")] = 1,
    preset: PresetOption = PAPER,
    values: SetOption = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = "test",
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Train the experts that a method's recipe asks for and keep them; those that are there already are not trained."""
    given = [
        f"{name}={value}" for name, value in {"experts": count, "expert.epochs": epochs}.items() if value is not None
    ]
    source = load_source(dataset, size=size, holdout=_holdout(holdout, split))
    fields = load_method(method).fields(source.name, ipc, preset, **parse_values([*(values or []), *given]))
    if not isinstance(fields, ExpertFields):
        raise UsageError(f"{method} matches no experts. Methods that do: mtt, tesla, ftd, datm.")
    training = TrainingData(source, fields.pixel_space_on(source), resolve_device(device))
    found = obtain_experts(training, fields.network, fields.expert, fields.experts, monitor=_monitor(quiet))
    for line in _expert_lines(found.pieces):
        typer.echo(line)


@experts_app.command("import")
def experts_import(
    files: Annotated[list[Path], typer.Argument(help="replay_buffer_*.pt, in order.")],
    dataset: DatasetOption,
    space: Annotated[str, typer.Option("--space", help="normalized, zca or unit: what they were trained on.")],
    network: Annotated[str, typer.Option("--network", help="Such as ConvNetD3.")] = "ConvNet",
    zca_eps: Annotated[float, typer.Option("--zca-eps", help="Of the whitening.")] = 0.1,
    size: SizeOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Keep experts that somebody else trained. Nothing in the files is run."""
    source = load_source(dataset, size=size)
    kind = _choice("--space", space, SPACES)
    training = TrainingData(source, pixel_space_of(source, kind, zca_eps), resolve_device(device))
    found = import_experts(files, training, network)
    for line in _expert_lines(found.pieces):
        typer.echo(line)
    typer.echo(f"use them with --set experts_from={found.pieces[0].identity['origin']}")


@experts_app.command("list")
def experts_list(as_json: JsonOption = False) -> None:
    """List the experts that are kept here, those of one recipe on one line."""
    if as_json:
        listed = [
            {"key": kept.key, "dataset": kept.history.get("dataset"), **kept.identity, **kept.facts,
             "path": str(kept.path)}
            for kept in list_experts()
        ]  # fmt: skip
        typer.echo(json.dumps(listed, indent=1))
        return
    for line in _expert_lines(list_experts()):
        typer.echo(line)


@experts_app.command("show")
def experts_show(key: Annotated[str, typer.Argument(help="The key of an expert, or how it begins.")]) -> None:
    """Print what an expert was trained on and how its loss fell."""
    found = [kept for kept in list_experts() if kept.key.startswith(key)]
    if len(found) != 1:
        raise UsageError(f"{len(found)} experts have a key that begins with {key!r}. See distill-bench experts list.")
    (expert,) = found
    about = {"key": expert.key, "identity": expert.identity, "facts": expert.facts, "history": expert.history}
    typer.echo(json.dumps(about | {"path": str(expert.path), "bytes": expert.path.stat().st_size}, indent=1))


def _expert_lines(experts: list[Pretrained]) -> list[str]:
    """A line for all experts that differ in nothing but their number."""
    groups: dict[str, list[Pretrained]] = {}
    for kept in experts:
        shared = {name: value for name, value in kept.identity.items() if name != "index"}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(kept)
    return sorted(_expert_line(sorted(group, key=lambda kept: kept.identity["index"])) for group in groups.values())


def _expert_line(group: list[Pretrained]) -> str:
    identity, size = group[0].identity, sum(kept.path.stat().st_size for kept in group)
    how = f"imported {identity['origin']}" if "origin" in identity else "flat" if identity["recipe"]["rho"] else "plain"
    accuracies = [kept.facts["accuracy"] for kept in group if "accuracy" in kept.facts]
    right = f", training images {min(accuracies):.1f} to {max(accuracies):.1f} %" if accuracies else ""
    dataset, epochs, space = group[0].history.get("dataset", "?"), group[0].facts["epochs"], identity["pixel_space"]
    return (
        f"{dataset}: {len(group)} × {identity['network']}, {how}, epochs {epochs}, {space['kind']} pixels{right}, "
        f"{size / 1e6:,.1f} MB  {group[0].key} …"
    )


def _tested_on(
    made: DistilledSet,
    dataset: str | None,
    size: int | None = None,
    holdout: float | None = None,
    split: str | None = None,
) -> Source:
    """The source on a set's card, but for what was asked for instead."""
    card = made.card.source
    name, side = dataset or card.name, card.size if size is None else size
    fraction = _holdout(holdout, split, card.holdout)
    if fraction is None and card.holdout is not None:
        return load_source(name, size=side).with_holdout(card.holdout, own_test=True)
    return load_source(name, size=side, holdout=fraction)


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: the file's name must end in .safetensors.")


def _choice(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value!r}: give {' or '.join(allowed)}.")
    return value


def _space(
    source: Source, kind: str | None, eps: float, zca_input: str, mean: str | None, std: str | None
) -> PixelSpace | None:
    """The pixel space that the options describe; None where none is named."""
    if kind is None:
        if mean or std:
            raise UsageError("--mean and --std describe a pixel space: name it with --space normalized or zca.")
        return None
    usual = pixel_space_of(
        source,
        _choice("--space", kind, ("normalized", "zca", "unit")),
        eps,
        _choice("--zca-input", zca_input, ("unit", "normalized")),
    )
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together.")
    if mean is None or std is None:
        return usual
    try:
        values = {"mean": [float(v) for v in mean.split(",")], "std": [float(v) for v in std.split(",")]}
        return PixelSpace.model_validate(usual.model_dump() | values)
    except ValueError as error:
        raise UsageError(
            f"--mean {mean} --std {std}: give one positive number a channel, as in 0.49,0.48,0.45."
        ) from error


def _summary(made: DistilledSet) -> str:
    card, origin = made.card, made.card.origin
    parts = [f"{card.method}, {len(made.images)} images, ipc {card.ipc}, {card.pixel_space.kind} pixels"]
    parts.append(f"{card.label_kind} labels, its protocol {card.protocol}")
    if made.learning_rate is not None:
        parts.append(f"learning rate {made.learning_rate:.6g}")
    if origin and origin.stored_accuracies:
        parts.append(_stored(made))
    return ", ".join(parts)


def _stored(made: DistilledSet) -> str:
    """The accuracies that a release brought along, in percent."""
    assert made.card.origin is not None
    return "stored in the release: " + "; ".join(
        f"{network} {100 * statistics.fmean(values):.2f} ± {100 * statistics.pstdev(values):.2f} "
        f"({len(values)} networks, {made.card.origin.sets} sets)"
        for network, values in made.card.origin.stored_accuracies.items()
        if values
    )


def _holdout(fraction: float | None, split: str | None, usual: float | None = None) -> float | None:
    """The fraction to hold out, or None for the test split; ``usual`` where nothing is said."""
    if split not in (None, "test", "holdout"):
        raise UsageError(f"--split {split!r}: give test or holdout.")
    if split == "test":
        if fraction is not None:
            raise UsageError(f"--split test and --holdout {fraction} contradict each other: give one of them.")
        return None
    if fraction is not None:
        return fraction
    return usual or HOLDOUT if split == "holdout" else usual


def _titles() -> dict[str, str]:
    """Every method with its title. One of another package that cannot be loaded is left out, and the log says so."""
    titles = {}
    for name in list_methods():
        try:
            titles[name] = load_method(name).recipe.title
        except UsageError as error:
            log.warning("the method %s is left out: %s", name, error)
    return titles


def _monitor(quiet: bool) -> StreamMonitor:
    monitor = StreamMonitor(quiet=quiet)
    monitor.listen()
    return monitor


def _sentence(score: Score) -> str:
    interval = "" if score.ci_low is None else f", 95 % interval {score.ci_low:.2f} to {score.ci_high:.2f}"
    each = ", ".join(f"{value:.2f}" for value in score.accuracies)
    return (
        f"{score.method} on {score.dataset}"
        + (f" at {score.size} px" if score.size else "")
        + (f", {score.holdout:g} of its training split held out" if score.holdout else "")
        + (f", ipc {score.ipc}" if score.ipc else "")
        + f": "
        f"{score.accuracy:.2f} % ± {score.std:.2f} (std of {score.networks} networks{interval})\n"
        f"protocol {score.protocol}, network {score.network}, labels {score.labels}, "
        f"learning rate {score.learning_rate:g}, {score.pixel_space} pixels, {score.bytes:,} bytes\n"
        f"networks: {each}"
    )


def _transfer_table(found: Transfer) -> str:
    first = found.scores[0]
    lines = [
        f"{first.method} on {first.dataset}, ipc {first.ipc}, protocol {first.protocol}, labels {first.labels}",
        "",
    ]
    lines += ["| network | accuracy (%) | networks |", "| :-- | --: | --: |"]
    lines += [f"| {s.network} | {shown(s)} | {s.networks} |" for s in found.scores]
    if found.mean_of_others is not None:
        lines.append(f"| mean without {first.network} | {found.mean_of_others:.1f} | |")
    return "\n".join([*lines, "", "± is the standard deviation over the networks trained."])


def _predictions(
    states: dict[suites.CellWork, str], jobs: int, monitor: StreamMonitor
) -> dict[suites.CellWork, suites.Timed]:
    """Seconds that every cell will take in a process that has its share of the cores."""
    predicted, threads = dict[suites.CellWork, suites.Timed](), torch.get_num_threads()
    torch.set_num_threads(max(1, threads // jobs))
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
        torch.set_num_threads(threads)


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


def main() -> NoReturn:
    """Run the command; errors of the package become one line on standard error and their exit code."""
    keep_freed_memory()
    stop_at_once()
    try:
        app(prog_name="distill-bench", standalone_mode=True)
    except StoppedEarly:
        sys.stderr.write("error: stopped on request, before any work began.\n")
        sys.exit(Interrupted.exit_code)
    except DistillBenchError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    sys.exit(0)
