"""What a method does that has a projector label its images: its pieces, and the finished set."""

from dataclasses import replace
from functools import partial
from typing import Any

from distill_bench.methods.run import Piece, Run, SynthesisResult
from distill_bench.pretrained.experts import expert_path
from distill_bench.pretrained.projectors import ProjectorRecipe, get_or_train_projector, weak_teachers
from distill_bench.pretrained.teachers import Teacher
from distill_bench.training.timing import Training


def weak_teachers_piece(run: Run[Any]) -> Piece:
    """The training whose snapshots are a projector's weak teachers, as what a method needs pretrained."""
    recipe: ProjectorRecipe = run.config.projector
    expert, count = recipe.expert, len(run.training)
    seen = expert.epochs * expert.passes * count
    shown = Training(recipe.network, run.training.shape, run.classes, min(expert.batch_size, count), seen)
    path = expert_path(run.training, recipe.network, expert, run.seed)
    return Piece(path, partial(weak_teachers, run.training, recipe, run.seed, run.monitor), shown)


def with_projector(run: Run[Any], teacher: Teacher | None, made: SynthesisResult) -> SynthesisResult:
    """Finished images with the projector of the run's recipe and seed.

    Args:
        run: whose recipe it is.
        teacher: the encoder; None where it is an external one.
        made: the images, and all else that belongs to their set.

    Returns:
        The same set, of the label kind ``projector``.

    Raises:
        DataError, RunFailed, Interrupted: as ``get_or_train_projector``.
    """
    asked = (run.training, run.config.projector)
    run.pretrained(partial(weak_teachers, *asked, run.seed), lambda experts: experts.pieces)
    projector = run.pretrained(
        partial(get_or_train_projector, *asked, teacher, run.seed), lambda projector: [projector.pretrained]
    )
    return replace(
        made,
        label_kind="projector",
        stored=made.stored | projector.tensors,
        projector=projector.card,
        requires=projector.requires,
        temperature=run.config.temperature,
        alpha=run.config.alpha,
    )
