"""synthesize, evaluate, measure, render, info: commands on one distilled set."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from distill_bench.commands.claimed import claimed, stored_accuracies
from distill_bench.commands.options import (
    COMPILE,
    LABEL_USES,
    AllowLeakOption,
    CheckpointOption,
    ClassesOption,
    CompileOption,
    DataOption,
    DatasetOption,
    DeviceOption,
    FlipOption,
    HoldoutOption,
    JsonOption,
    LabelsOption,
    NetworksOption,
    OptionalDataset,
    PresetOption,
    ProtocolOption,
    QuietOption,
    RegistryOption,
    SetArgument,
    SetOption,
    SizeOption,
    SplitOption,
    check_out,
    check_registry,
    choice,
    holdout_fraction,
    listening_monitor,
    own_data,
    paths_of,
    set_file,
    source_of_set,
)
from distill_bench.commands.output import show, show_json
from distill_bench.datasets import Source, load_source
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.render import render_grid
from distill_bench.errors import UsageError, unknown
from distill_bench.evaluation import (
    KeptNetworks,
    Score,
    evaluate,
    evaluate_full,
    load_protocol,
    pixel_notes,
    protocol_for,
    runs_compiled,
    score_key,
)
from distill_bench.evaluation.measures import Transfer, shown, transfer
from distill_bench.hub.registry.published import Obtained, is_id, obtain
from distill_bench.methods import Checkpoint, load_method, make_set, memory_of_step, synthesis_key
from distill_bench.methods.going_on import is_finished_set
from distill_bench.methods.recipe import PAPER, parse_values
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.files import check_no_input, write_atomically
from distill_bench.runtime.paths import home
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import code_state, peak_memory_mb, run_block

MEASURES = ("transfer",)


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
    flip_invariant: FlipOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "auto",
    checkpoint_seconds: CheckpointOption = 30.0,
    quiet: QuietOption = False,
) -> None:
    """Make a distilled set from a dataset's training split."""
    if (name := method or own) is None or (method is not None and own is not None):
        raise UsageError("name one method: distill-bench synthesize METHOD …, or --method module:function.")
    check_out(out, paths_of(dataset))
    code_state()
    overrides, place = parse_values(values or []), resolve_device(device)
    source = load_source(
        dataset, size=size, holdout=holdout_fraction(holdout, split), **own_data(flip_invariant, classes)
    )
    chosen = load_method(name)
    fields = chosen.fields_on(source, ipc, preset, **overrides)
    if is_finished_set(init := getattr(fields, "init", "")):
        check_no_input(out, [Path(init)])
    key = synthesis_key(source, chosen, fields, ipc, preset, seed)
    checkpoint = Checkpoint(home() / "checkpoints" / f"{key}.safetensors", checkpoint_seconds)
    monitor, history = listening_monitor(quiet), list[float]()
    if much := memory_of_step(chosen.name, source, fields, ipc):
        monitor.say(much)
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
    run = run_block(checkpoint.seconds, place) | {"compiled": checkpoint.compiled}
    facts = {"peak_memory_mb": peak_memory_mb(), **run, "history": history}
    write_atomically(out.with_suffix(".run.json"), json.dumps(facts) + "\n")
    checkpoint.clear()
    show(f"{out}: {len(made.images)} images, {made.nbytes:,} bytes, {checkpoint.seconds:.0f} s")
    show(*_doubts(pixel_notes(made, source)))


def evaluate_command(
    file: Annotated[
        str | None, typer.Argument(help="A distilled set, or a published one's id. Left out for a full-… protocol.")
    ] = None,
    protocol: ProtocolOption = None,
    labels: LabelsOption = "stored",
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3BN, ResNet18BN or ViT.")] = None,
    networks: NetworksOption = None,
    dataset: OptionalDataset = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    allow_leak: AllowLeakOption = False,
    flip_invariant: FlipOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "auto",
    compile: CompileOption = "auto",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train networks on a set and print their test accuracy."""
    code_state()
    choice("--labels", labels, LABEL_USES)
    choice("--compile", compile, COMPILE)
    place, found, made = resolve_device(device), None, None
    if file is None:
        protocol, source = _whole_split(
            protocol,
            dataset,
            size,
            holdout_fraction(holdout, split),
            labels,
            allow_leak,
            own_data(flip_invariant, classes),
        )
    else:
        check_registry(registry, file)
        found = obtain(file, may_download=False, registry=registry) if is_id(file) else None
        made = load_distilled(found.paths[0] if found else file)
        source = source_of_set(made, dataset, size, holdout, split, flip_invariant, classes)
        protocol = protocol_for(made, protocol).id
    key, monitor = score_key(source, protocol, made, labels, network), listening_monitor(quiet)
    kept = KeptNetworks(key)
    if kept.tested:
        monitor.say(f"networks tested before: {len(kept.tested)}, kept under {home()}")
    images = len(source.train if made is None else made.images)
    how = kept.settle(lambda: runs_compiled(source, protocol, images, network, device=device, compile=compile))
    options: dict[str, Any] = {"network": network, "networks": networks, "device": device, "monitor": monitor}
    options |= {"compile": how, "kept": kept}
    if made is None:
        score = evaluate_full(source, protocol, **options)
    else:
        score = evaluate(made, source, protocol, labels=labels, allow_leak=allow_leak, **options)  # type: ignore[arg-type]
    if as_json:
        run = run_block(kept.seconds, place) | {"compiled": kept.compiled}
        facts = score.model_dump(mode="json") | {"score_key": f"{key}-{score.networks}", "run": run}
        show_json(facts)
    else:
        show(*_sentence(score, made).split("\n"))
    _say_claims(found, made, monitor, as_json)


def _whole_split(
    protocol: str | None,
    dataset: str | None,
    size: int | None,
    holdout: float | None,
    labels: str,
    allow_leak: bool,
    own: dict[str, Any],
) -> tuple[str, Source]:
    """The protocol and the source of an evaluation without a set. Raises UsageError for what goes with a set alone."""
    if protocol is None or load_protocol(protocol).trains_on != "full":
        raise UsageError("name the file of a distilled set: distill-bench evaluate FILE.")
    if dataset is None:
        raise UsageError(f"{protocol} scores a whole training split: say which with --dataset.")
    if labels != "stored" or allow_leak:
        raise UsageError(f"{protocol} scores a whole training split: --labels and --allow-leak are for distilled sets.")
    return protocol, load_source(dataset, size=size, holdout=holdout, **own)


def _say_claims(found: Obtained | None, made: DistilledSet | None, monitor: StreamMonitor, as_json: bool) -> None:
    """What is claimed for a set, beside what was found."""
    if made is not None and found is not None:
        show(claimed(found.entry, made), err=as_json)
        if others := found.paths[1:]:
            monitor.say(
                f"this is the first of {len(others) + 1} independent sets, of all of which the claim is. Others:"
            )
            monitor.say(*map(str, others))
    elif made is not None and made.card.origin and made.card.origin.stored_accuracies:
        monitor.say(stored_accuracies(made))


def measure_command(
    file: SetArgument,
    what: Annotated[str, typer.Argument(help=", ".join(MEASURES))],
    protocol: ProtocolOption = None,
    labels: LabelsOption = "stored",
    network: Annotated[list[str] | None, typer.Option("--network", help="Instead of all networks; repeatable.")] = None,
    networks: NetworksOption = None,
    dataset: OptionalDataset = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    allow_leak: AllowLeakOption = False,
    flip_invariant: FlipOption = None,
    classes: ClassesOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a set otherwise than by one accuracy. transfer: its accuracy on every network."""
    if what not in MEASURES:
        raise UsageError(unknown("measure", what, MEASURES))
    choice("--labels", labels, LABEL_USES)
    place = resolve_device(device)
    made = load_distilled(set_file(file))
    source = source_of_set(made, dataset, size, holdout, split, flip_invariant, classes)
    protocol_for(made, protocol)
    monitor, began = listening_monitor(quiet), time.monotonic()
    options: dict[str, Any] = {"device": device, "monitor": monitor, "allow_leak": allow_leak}
    found = transfer(made, source, protocol, network or (), networks, labels, **options)  # type: ignore[arg-type]
    if as_json:
        facts = found.model_dump(mode="json") | {"run": run_block(time.monotonic() - began, place)}
        show_json(facts)
        return
    show(*_transfer_table(found, made).split("\n"))


def render_command(
    file: SetArgument,
    out: Annotated[Path, typer.Option("--out", help="The .png file to write.")],
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images of a class shown at most.")] = 10,
    dataset: DataOption = None,
) -> None:
    """Draw a set as an image grid, a row a class, with normalisation and whitening undone."""
    path = set_file(file)
    check_out(out, [path], ".png")
    made = load_distilled(path)
    whitened = made.card.pixel_space.kind == "zca"
    if whitened:
        check_out(out, paths_of(dataset or made.card.source.name), ".png")
    render_grid(made, out, source=source_of_set(made, dataset) if whitened else None, columns=columns)
    show(out)


def info_command(file: SetArgument) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    made = load_distilled(set_file(file))
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in made.tensors.items()}
    about = {"card": made.card.model_dump(mode="json"), "tensors": tensors, "bytes": made.nbytes, "sha256": made.sha256}
    show_json(about)


def _sentence(score: Score, made: DistilledSet | None) -> str:
    interval = "" if score.ci_low is None else f", 95 % interval {score.ci_low:.2f} to {score.ci_high:.2f}"
    spread = f" ± {score.std:.2f} (std of {score.networks} networks{interval})" if score.networks > 1 else ""
    each = ", ".join(f"{value:.2f}" for value in score.accuracies)
    return "\n".join(
        [
            f"{score.method} on {score.dataset}"
            + (f" at {score.size} px" if score.size else "")
            + (f", {score.holdout:g} of its training split held out" if score.holdout else "")
            + (f", ipc {score.ipc}" if score.ipc else "")
            + f": {score.accuracy:.2f} %{spread}",
            f"{_protocol(score, made)}, network {score.network}, labels {score.labels}, "
            f"learning rate {score.learning_rate:g}, {score.pixel_space} pixels, {score.bytes:,} bytes",
            f"networks: {each}",
            *_doubts(score.notes),
        ]
    )


def _protocol(score: Score, made: DistilledSet | None) -> str:
    return f"protocol {score.protocol}" + (" (the card's)" if made and made.card.protocol == score.protocol else "")


def _doubts(notes: Iterable[str]) -> list[str]:
    return [f"note: {note}" for note in notes]


def _transfer_table(found: Transfer, made: DistilledSet) -> str:
    first = found.scores[0]
    lines = [
        f"{first.method} on {first.dataset}, ipc {first.ipc}, {_protocol(first, made)}, labels {first.labels}",
        "",
    ]
    lines += ["| network | accuracy (%) | networks |", "| :-- | --: | --: |"]
    lines += [f"| {s.network} | {shown(s)} | {s.networks} |" for s in found.scores]
    if found.mean_of_others is not None:
        measured = found.home in [score.network for score in found.scores]
        mean = f"mean without {found.home}" if measured else "mean"
        lines.append(f"| {mean} | {found.mean_of_others:.1f} | |")
    if any(score.networks > 1 for score in found.scores):
        lines += ["", "± is the standard deviation over the networks trained."]
    lines += ["", found.about_home, *_doubts(found.notes)]
    return "\n".join([*lines, *(f"left out {name}: {reason}" for name, reason in found.left_out.items())])
