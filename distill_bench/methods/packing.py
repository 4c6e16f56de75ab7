"""What a method returns, checked and turned into a set."""

from typing import Any

import torch
from torch import Tensor

from distill_bench.distilled.distilled_set import Card, DistilledSet
from distill_bench.distilled.pixel_diagnostics import FARTHEST
from distill_bench.errors import DataError, RunFailed
from distill_bench.methods.run import Run, SynthesisResult


def as_set(result: Any, run: Run[Any], card: Card) -> DistilledSet:
    """The set with a card that a method's images make.

    Raises:
        RunFailed: they are none: of another shape or order, not finite, or far from all real images.
    """
    images = result.images if isinstance(result, SynthesisResult) else result
    expected = (run.classes * run.ipc, *run.training.shape)
    if not isinstance(images, Tensor) or tuple(images.shape) != expected:
        what = f"images of shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(result).__name__}"
        raise RunFailed(
            f"{run.method} returned {what}; a set must be a SynthesisResult, or images of shape {expected}."
        )
    if not isinstance(result, SynthesisResult):
        result = SynthesisResult(images, run.labels)
    if not torch.equal(result.labels.cpu(), run.labels):
        raise RunFailed(f"{run.method} returned labels that are not in class order: {result.labels.tolist()[:20]} …")
    _check_pixels(result.images, run)
    try:
        return DistilledSet(
            result.images.detach().cpu().contiguous(),
            result.labels.cpu(),
            card.model_copy(update={name: getattr(result, name) for name in ("label_kind", "temperature", "teacher")}),
            soft_labels=None if result.soft_labels is None else result.soft_labels.detach().cpu().contiguous(),
            learning_rate=result.learning_rate,
            stored=result.stored,
        )
    except DataError as error:  # it is no file that is wrong, but the run
        raise _no_set(run, str(error)) from error


def _check_pixels(images: Tensor, run: Run[Any]) -> None:
    """Raises RunFailed where images are so far from real ones that they show nothing."""
    if not images.is_floating_point() or not images.isfinite().all():
        return
    pixels = run.training.pixels(images.detach())
    low, high = float(pixels.min()), float(pixels.max())
    if max(-low, high) > FARTHEST:
        space = f"Images must be in the job's pixel space ({run.training.pixel_space.kind})."
        raise _no_set(run, f"its pixels go from {low:.3g} to {high:.3g}, those of real images from 0 to 1. {space}")


def _no_set(run: Run[Any], what: str) -> RunFailed:
    lower = run.config.hint(run.config.lr_fields) or "its learning rates"
    return RunFailed(
        f"{run.method} at ipc {run.ipc}, seed {run.seed}, returned what is no distilled set: {what} If it "
        f"diverged, lower {lower}."
    )
