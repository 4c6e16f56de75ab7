"""experts: train, import and list the experts of trajectory matching."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import PAPER
from distill_bench.cli.output import show, show_json
from distill_bench.cli.teachers import stored_row
from distill_bench.errors import UsageError
from distill_bench.runtime.memory import peak_line

if TYPE_CHECKING:
    from distill_bench.pretrained.store import Pretrained

experts_app = typer.Typer(help="Train, import and list the experts of trajectory matching.", no_args_is_help=True)


@experts_app.command("train")
def experts_train(
    dataset: options.DatasetName,
    method: Annotated[str, typer.Argument(help="The method whose experts they are: mtt, tesla, ftd, datm, …")] = "mtt",
    count: Annotated[int | None, typer.Option("--count", min=1, help="How many, if not the recipe's number.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Of each, if not the recipe's number.")] = None,
    ipc: Annotated[int, typer.Option("--ipc", help="Whose recipe: the pixel space and more may depend on it.")] = 1,
    preset: options.Preset = PAPER,
    values: options.Values = None,
    size: options.Size = None,
    holdout: options.Holdout = None,
    split: options.Split = None,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train the experts that a method's recipe asks for and keep them; those that are there already are not trained."""
    from distill_bench.datasets.training_view import TrainingData
    from distill_bench.distilled.budget import Budget
    from distill_bench.methods import load_method
    from distill_bench.methods.experts import ExpertConfig
    from distill_bench.pretrained.experts import get_or_train_experts
    from distill_bench.runtime.device import resolve_device
    from distill_bench.training.memory import training_bytes

    replaced = options.overrides(values, **{"experts": count, "expert.epochs": epochs})
    data = options.data_named(dataset, size, holdout, split, flip_invariant, classes)
    config = load_method(method).config_on(data, Budget(ipc), preset, **replaced)
    if not isinstance(config, ExpertConfig):
        raise UsageError(f"{method} takes no experts. Methods that do: mtt, tesla, ftd, datm, ast, ncfm.")
    if config.experts_from:
        raise UsageError(
            f"experts_from={config.experts_from}: imported experts need no training. To train the recipe's own, leave "
            "the setting out, or empty it: --set experts_from=."
        )
    training = TrainingData(data, config.pixel_space_on(data), resolve_device(device))
    monitor, size_of_batch = options.listening_monitor(quiet), config.expert.batch_size
    monitor.say(peak_line(training_bytes(config.network, training.shape, len(training.class_names), size_of_batch)))
    trained = get_or_train_experts(training, config.network, config.expert, config.experts, monitor=monitor)
    show(*_expert_lines(trained.pieces))


@experts_app.command("import")
def experts_import(
    files: Annotated[list[Path], typer.Argument(help="replay_buffer_*.pt, in order.")],
    dataset: options.DatasetName,
    space: Annotated[str, typer.Option("--space", help="normalized, zca or unit: what they were trained on.")],
    network: Annotated[str, typer.Option("--network", help="Such as ConvNetD3.")] = "ConvNet",
    zca_eps: Annotated[float | None, typer.Option("--zca-eps", help="Of the whitening: 0.1 unless given.")] = None,
    size: options.Size = None,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
) -> None:
    """Keep experts that somebody else trained. Nothing in the files is run."""
    from distill_bench.datasets.pixel_space import SPACES, pixel_space_of
    from distill_bench.datasets.training_view import TrainingData
    from distill_bench.hub.formats.replay_buffer import import_experts
    from distill_bench.runtime.device import resolve_device

    data = options.data_named(dataset, size, flip=flip_invariant, classes=classes)
    kind = options.choice("--space", space, SPACES)
    options.check_whitening(kind)
    space_of_data = pixel_space_of(data, kind) if zca_eps is None else pixel_space_of(data, kind, zca_eps)
    training = TrainingData(data, space_of_data, resolve_device(device))
    imported = import_experts(files, training, network)
    show(*_expert_lines(imported.pieces))
    show(f"use them with --set experts_from={imported.pieces[0].identity['origin']}")


@experts_app.command("list")
def experts_list(as_json: options.Json = False) -> None:
    """List the experts that are kept here, those of one recipe on one line."""
    from distill_bench.pretrained.experts import list_experts, outdated

    if as_json:
        show_json([stored_row(expert, outdated=outdated(expert)) for expert in list_experts()])
    else:
        show(*_expert_lines(list_experts()))


@experts_app.command("show")
def experts_show(key: Annotated[str, typer.Argument(help="The key of an expert, or how it begins.")]) -> None:
    """Print what an expert was trained on and how its loss fell."""
    from distill_bench.pretrained.experts import list_experts

    matching = [expert for expert in list_experts() if expert.key.startswith(key)]
    if len(matching) != 1:
        raise UsageError(
            f"{len(matching)} experts have a key that begins with {key!r}. See distill-bench experts list."
        )
    (expert,) = matching
    about = {"key": expert.key, "identity": expert.identity, "facts": expert.facts, "history": expert.history}
    show_json(about | {"path": str(expert.path), "bytes": expert.path.stat().st_size})


def _expert_lines(experts: list[Pretrained]) -> list[str]:
    """A line for all experts that differ in nothing but their number."""

    groups: dict[str, list[Pretrained]] = {}
    for expert in experts:
        shared = {name: value for name, value in expert.identity.items() if name != "index"}
        groups.setdefault(json.dumps(shared, sort_keys=True), []).append(expert)
    return sorted(_expert_line(sorted(group, key=lambda expert: expert.identity["index"])) for group in groups.values())


def _expert_line(group: list[Pretrained]) -> str:
    from distill_bench.pretrained.experts import outdated

    identity, size = group[0].identity, sum(expert.path.stat().st_size for expert in group)
    how = f"imported {identity['origin']}" if "origin" in identity else "flat" if identity["recipe"]["rho"] else "plain"
    accuracies = [expert.facts["accuracy"] for expert in group if "accuracy" in expert.facts]
    right = f", training images {min(accuracies):.1f} to {max(accuracies):.1f} %" if accuracies else ""
    stale = ", of an earlier version: no method uses them any more" if outdated(group[0]) else ""
    dataset, epochs, space = group[0].history.get("dataset", "?"), group[0].facts["epochs"], identity["pixel_space"]
    return (
        f"{dataset}: {len(group)} × {identity['network']}, {how}, epochs {epochs}, {space['kind']} pixels{right}, "
        f"{size / 1e6:,.1f} MB{stale}  {group[0].key} …"
    )
