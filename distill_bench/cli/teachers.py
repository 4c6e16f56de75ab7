"""teachers: train and list them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import SPACES
from distill_bench.cli.output import show, show_json
from distill_bench.errors import UsageError, did_you_mean
from distill_bench.runtime.memory import peak_line

if TYPE_CHECKING:
    from distill_bench.pretrained.store import Pretrained

teachers_app = typer.Typer(help="Train and list teachers.", no_args_is_help=True)


@teachers_app.command("train")
def teachers_train(
    dataset: options.DatasetName,
    network: Annotated[str | None, typer.Option("--network", help="Such as ConvNetD3 or ConvNetD3BN.")] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the training split.")] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, such as learning_rate.")
    ] = None,
    pixel_space: Annotated[str, typer.Option("--pixel-space", help=", ".join(SPACES))] = "normalized",
    seed: Annotated[int, typer.Option("--seed", help="Of everything random in training.")] = 0,
    size: options.Size = None,
    holdout: options.Holdout = None,
    split: options.Split = None,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
) -> None:
    """Train a network on a dataset's training split, keep it for the methods that need it, and test it."""
    from distill_bench.datasets.pixel_space import pixel_space_of
    from distill_bench.datasets.training_view import TrainingData
    from distill_bench.evaluation import score_teacher
    from distill_bench.pretrained.teachers import get_or_train_teacher, teacher_bytes, teacher_recipe
    from distill_bench.runtime.device import resolve_device
    from distill_bench.runtime.run_info import code_state

    code_state()
    if pixel_space not in SPACES:
        hint = did_you_mean(pixel_space, SPACES)
        raise UsageError(f"--pixel-space {pixel_space!r}: give {', '.join(SPACES)}.{hint}")
    recipe = teacher_recipe(options.overrides(values, network=network, epochs=epochs))
    data = options.data_named(dataset, size, holdout, split, flip_invariant, classes)
    space = pixel_space_of(data, pixel_space)  # type: ignore[arg-type]
    training = TrainingData(data, space, resolve_device(device))
    monitor = options.listening_monitor(quiet)
    monitor.say(peak_line(teacher_bytes(recipe, training.shape, len(training.class_names))))
    teacher = get_or_train_teacher(training, recipe, seed, monitor=monitor)
    if data.load_test is not None:
        score_teacher(teacher, data, device)
    show(_teacher_line(teacher.pretrained))


@teachers_app.command("list")
def teachers_list(as_json: options.Json = False) -> None:
    """List the teachers that were trained here, with their accuracies on training images and on the test split."""
    from distill_bench.evaluation import recorded_score
    from distill_bench.pretrained.teachers import list_teachers

    teachers = sorted(list_teachers(), key=lambda stored: (stored.history.get("dataset", ""), stored.key))
    if as_json:
        show_json([stored_row(stored, test_accuracy=recorded_score(stored)) for stored in teachers])
    else:
        show(*map(_teacher_line, teachers))


def stored_row(stored: Pretrained, **more: object) -> dict[str, Any]:
    """What the JSON of a listing says of a stored network."""
    about = {"key": stored.key, "dataset": stored.history.get("dataset"), **stored.identity, **stored.facts}
    return about | more | {"path": str(stored.path)}


def _teacher_line(stored: Pretrained) -> str:
    from distill_bench.evaluation import recorded_score

    recipe, tested = stored.identity["recipe"], recorded_score(stored)
    test = "not tested" if tested is None else f"test {tested:.1f} %"
    how = recipe.get("weights") or f"{stored.facts['epochs']} epochs, seed {stored.identity['seed']}"
    return (
        f"{stored.history.get('dataset', '?')}: {recipe['network']}, {how}, "
        f"{stored.identity['pixel_space']['kind']} pixels: training images "
        f"{stored.facts['accuracy']:.1f} %, {test}  {stored.key}"
    )
