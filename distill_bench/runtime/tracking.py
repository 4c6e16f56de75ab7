"""Losses while work runs, to TensorBoard or Weights & Biases: one function is told (step, values by name)."""

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from distill_bench.errors import UsageError, unknown
from distill_bench.runtime.paths import offline

Log = Callable[[int, Mapping[str, float]], None]
"""What synthesis tells every step: its number from 0, and values by name, such as ``{"dm/loss": 0.5}``."""
LOSSES = ".losses.csv"
"""How the file beside a set ends that has its losses."""


def silent(step: int, values: Mapping[str, float]) -> None:
    """Keeps nothing."""


def losses_csv(history: Sequence[float]) -> str:
    """The losses of all steps as CSV: columns ``step``, from 0, and ``loss``, to the last digit."""
    return "".join(["step,loss\n", *(f"{step},{loss!r}\n" for step, loss in enumerate(history))])


@contextmanager
def tracked(names: Sequence[str], place: Path, about: Mapping[str, Any]) -> Iterator[Log]:
    """A function that tells trackers, which are closed at the end.

    Args:
        names: of ``TRACKERS``.
        place: the file that is made. TensorBoard's folder lies beside it, with the ending ``.tensorboard``; Weights &
            Biases has its files beside it and calls the run as the file.
        about: what the run is of, for Weights & Biases.

    Raises:
        UsageError: there is no such tracker, or the package it needs is not installed.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"`log={name}`: {unknown('tracker', name, TRACKERS)}")
    with ExitStack() as stack:
        logs = [stack.enter_context(TRACKERS[name](place, about)) for name in dict.fromkeys(names)]

        def log(step: int, values: Mapping[str, float]) -> None:
            for each in logs:
                each(step, values)

        yield log if logs else silent


@contextmanager
def _tensorboard(place: Path, about: Mapping[str, Any]) -> Iterator[Log]:
    _require("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(place.with_suffix(".tensorboard"))) as writer:

        def log(step: int, values: Mapping[str, float]) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)

        yield log


@contextmanager
def _wandb(place: Path, about: Mapping[str, Any]) -> Iterator[Log]:
    wandb = _require("wandb")
    mode = "offline" if offline() else None  # else what its own settings say
    folder = str(place.absolute().parent)
    run = wandb.init(project="distill_bench", name=place.stem, config=dict(about), dir=folder, mode=mode)
    try:
        yield lambda step, values: run.log(dict(values), step=step)
    finally:
        run.finish()


def _require(name: str) -> Any:
    """The package of an extra of the same name. Raises UsageError where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"`log={name}` needs the package {name}, which is not installed ({error}): "
            f"pip install 'distill_bench[{name}]', or leave it out: losses are written as CSV in any case."
        ) from error


TRACKERS = {"tensorboard": _tensorboard, "wandb": _wandb}
