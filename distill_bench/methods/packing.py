"""What a method returns, checked and turned into a set."""

from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from distill_bench.distilled.card import Card
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.pixel_diagnostics import FARTHEST
from distill_bench.errors import DataError, RunFailed, UsageError
from distill_bench.methods.run import Run, SynthesisResult
from distill_bench.runtime.text import listed

_OF_RESULT = (
    "label_kind", "temperature", "alpha", "distance_weight", "teacher", "projector", "requires", "formation",
    "prefixes", "replay",
)  # fmt: skip
"""What a card says of labels, images, and parts that are sets, once they are made."""


def as_set(result: Any, run: Run[Any], card: Card) -> DistilledSet:
    """The set with a card that a method's images make.

    Raises:
        RunFailed: they are none: of another shape or order, not finite, or far from all real images.
        UsageError: of a selection that is not balanced, a class came out empty.
    """
    images = result.images if isinstance(result, SynthesisResult) else result
    expected = (run.total, *run.training.shape)
    if not isinstance(images, Tensor) or tuple(images.shape) != expected:
        what = f"images of shape {tuple(images.shape)}" if isinstance(images, Tensor) else f"a {type(result).__name__}"
        raise RunFailed(
            f"{run.method} returned {what}; a set must be a SynthesisResult, or images of shape {expected}."
        )
    if not isinstance(result, SynthesisResult):
        result = SynthesisResult(images, run.labels)
    labels = result.labels
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != (run.total,):
        what = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise RunFailed(f"{run.method} returned labels that are {what}; they must be int64 of shape ({run.total},).")
    labels = labels.cpu()
    in_order = torch.equal(labels, run.labels) if run.config.balanced else bool((labels.diff() >= 0).all())
    if not in_order:
        raise RunFailed(f"{run.method} returned labels that are not in class order: {labels.tolist()[:20]} …")
    counts = labels.bincount(minlength=run.classes)
    _check_none_empty(counts, run)
    _check_pixels(result.images, run)
    most = run.budget.ipc or int(counts.max())
    try:
        return DistilledSet(
            result.images.detach().cpu().contiguous(),
            labels,
            card.model_copy(update={name: getattr(result, name) for name in _OF_RESULT} | {"ipc": most}),
            soft_labels=None if result.soft_labels is None else result.soft_labels.detach().cpu().contiguous(),
            learning_rate=result.learning_rate,
            stored=result.stored,
        )
    except DataError as error:  # it is no file that is wrong, but the run
        raise _no_set(run, str(error)) from error


def _check_none_empty(counts: Int64[Tensor, " k"], run: Run[Any]) -> None:
    """Raises UsageError where a selection among all classes left one out."""
    if empty := (counts == 0).nonzero().flatten().tolist():
        names = listed([repr(run.training.class_names[label]) for label in empty])
        raise UsageError(
            f"{run.method} at {run.budget}, seed {run.seed}, chose {run.total} of {len(run.training)} training images, "
            f"and none of {len(empty)} of {run.classes} classes ({names}); the most of one class is "
            f"{int(counts.max())}. Give a larger `fraction`, or choose class by class."
        )


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
        f"{run.method} at {run.budget}, seed {run.seed}, returned what is no distilled set: {what} If it "
        f"diverged, lower {lower}."
    )
