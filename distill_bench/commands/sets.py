"""synthesize, evaluate, measure, render, info: commands on one distilled set."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from distill_bench.analysis import Transfer, shown, transfer
from distill_bench.commands.claimed import claimed, stored_accuracies
from distill_bench.commands.options import (
    CheckpointOption,
    CompileOption,
    DatasetOption,
    DeviceOption,
    HoldoutOption,
    JsonOption,
    NetworksOption,
    OptionalDataset,
    PresetOption,
    QuietOption,
    RegistryOption,
    SetArgument,
    SetOption,
    SizeOption,
    SplitOption,
    check_out,
    holdout_fraction,
    listening_monitor,
    set_file,
    source_of_set,
)
from distill_bench.commands.output import show, show_json
from distill_bench.device import resolve_device
from distill_bench.distilled_set import load_distilled
from distill_bench.errors import UsageError, unknown
from distill_bench.evaluation import (
    PROTOCOLS,
    KeptNetworks,
    Score,
    evaluate,
    evaluate_full,
    load_protocol,
    runs_compiled,
    score_key,
)
from distill_bench.hub.published import is_id, obtain
from distill_bench.provenance import code_state, peak_memory_mb, run_block
from distill_bench.recipes import PAPER, parse_values
from distill_bench.render import render_grid
from distill_bench.sources import load_source
from distill_bench.storage import home, write_atomically
from distill_bench.synthesizers import (
    Checkpoint,
    load_method,
    make_set,
    synthesis_key,
)

MEASURES = ("transfer",)
USUAL = "standard-v1"


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
    check_out(out)
    code_state()
    overrides, place = parse_values(values or []), resolve_device(device)
    source = load_source(dataset, size=size, holdout=holdout_fraction(holdout, split))
    chosen = load_method(method or own or "")
    fields = chosen.fields(source.name, ipc, preset, **overrides)
    key = synthesis_key(source, chosen, fields, ipc, preset, seed)
    checkpoint = Checkpoint(home() / "checkpoints" / f"{key}.safetensors", checkpoint_seconds)
    monitor, history = listening_monitor(quiet), list[float]()
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


def evaluate_command(
    file: Annotated[
        str | None, typer.Argument(help="A distilled set, or a published one's id. Not needed for a full-… protocol.")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", help=", ".join(PROTOCOLS) + f"; {USUAL}, or of a published set its paper's."),
    ] = None,
    labels: Annotated[str, typer.Option("--labels", help="stored, or hard for the strict evaluation.")] = "stored",
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3BN, ResNet18BN or ViT.")] = None,
    networks: NetworksOption = None,
    dataset: OptionalDataset = None,
    size: SizeOption = None,
    holdout: HoldoutOption = None,
    split: SplitOption = None,
    device: DeviceOption = "auto",
    compile: CompileOption = "auto",
    registry: RegistryOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train networks on a set and print their test accuracy."""
    code_state()
    place, made = resolve_device(device), None
    found = obtain(file, may_download=False, registry=registry) if file is not None and is_id(file) else None
    protocol = protocol or (found.entry.protocol if found else USUAL)
    if load_protocol(protocol).trains_on == "full":
        if dataset is None:
            raise UsageError(f"{protocol} scores a whole training split: say which with --dataset.")
        source = load_source(dataset, size=size, holdout=holdout_fraction(holdout, split))
    elif file is None:
        raise UsageError("name the file of a distilled set: distill-bench evaluate FILE.")
    else:
        made = load_distilled(found.paths[0] if found else file)
        source = source_of_set(made, dataset, size, holdout, split)
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
        score = evaluate(made, source, protocol, labels=labels, **options)  # type: ignore[arg-type]
    if as_json:
        run = run_block(kept.seconds, place) | {"compiled": kept.compiled}
        facts = score.model_dump(mode="json") | {"score_key": f"{key}-{score.networks}", "run": run}
        show_json(facts)
    else:
        show(*_sentence(score).split("\n"))
    if made is not None and found is not None:
        show(claimed(found.entry, made), err=as_json)
        if others := found.paths[1:]:
            monitor.say(
                f"this is the first of {len(others) + 1} independent sets, of all of which the claim is. Others:"
            )
            monitor.say(*map(str, others))
    elif made is not None and made.card.origin and made.card.origin.stored_accuracies:
        monitor.say(stored_accuracies(made))
    for note in score.notes:
        monitor.say(f"note: {note}")


def measure_command(
    file: SetArgument,
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
        raise UsageError(unknown("measure", what, MEASURES))
    place = resolve_device(device)
    made = load_distilled(set_file(file))
    source = source_of_set(made, dataset, size, holdout, split)
    monitor, began = listening_monitor(quiet), time.monotonic()
    found = transfer(made, source, protocol, network or (), networks, labels, device=device, monitor=monitor)  # type: ignore[arg-type]
    if as_json:
        facts = found.model_dump(mode="json") | {"run": run_block(time.monotonic() - began, place)}
        show_json(facts)
        return
    show(*_transfer_table(found).split("\n"))
    for name, reason in found.left_out.items():
        monitor.say(f"left out {name}: {reason}")


def render_command(
    file: SetArgument,
    out: Annotated[Path, typer.Option("--out", help="The .png file to write.")],
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images of a class shown at most.")] = 10,
    dataset: OptionalDataset = None,
) -> None:
    """Draw a set as an image grid, a row a class, with normalisation and whitening undone."""
    made = load_distilled(set_file(file))
    whitened = made.card.pixel_space.kind == "zca"
    render_grid(made, out, source=source_of_set(made, dataset) if whitened else None, columns=columns)
    show(out)


def info_command(file: SetArgument) -> None:
    """Print what a set's file holds: its card, tensors and hash."""
    made = load_distilled(set_file(file))
    tensors = {name: [str(t.dtype).removeprefix("torch."), *t.shape] for name, t in made.tensors.items()}
    about = {"card": made.card.model_dump(mode="json"), "tensors": tensors, "bytes": made.nbytes, "sha256": made.sha256}
    show_json(about)


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
