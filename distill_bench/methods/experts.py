"""Experts as a method's recipe names them: which, how many, trained here or imported. See ``pretrained.experts``."""

from collections.abc import Sequence, Set
from functools import partial
from typing import Annotated, Any

from pydantic import Field, PositiveInt

from distill_bench.datasets.dataset import Dataset
from distill_bench.methods.run import Config, Piece, Run
from distill_bench.pretrained.experts import (
    MOST_EXPERTS,
    ExpertRecipe,
    Experts,
    adopted_experts,
    expert_path,
    get_or_train_experts,
)
from distill_bench.training.memory import training_bytes
from distill_bench.training.timing import Training


class ExpertConfig(Config):
    """Which experts a method takes. They are shared by all methods and IPCs that say the same here.

    Attributes:
        network: theirs, and of what learns from them.
        experts: how many.
        expert: how they are trained.
        experts_from: the name that ``experts import`` gave to trajectories from elsewhere, all of which are used
            instead: ``experts`` and ``expert`` say nothing then, and are on no card.
    """

    network: str = "ConvNet"
    experts: Annotated[PositiveInt, Field(le=MOST_EXPERTS)] = 100
    expert: ExpertRecipe = ExpertRecipe()
    experts_from: str = ""

    @property
    def idle(self) -> tuple[str, ...]:
        """How many are trained, and how, where imported ones are used."""
        return (*super().idle, *(("experts", "expert") if self.experts_from else ()))

    def misplaced(self, changed: Set[str]) -> str | None:
        """Of a fall of experts' rate that never comes."""
        expert = self.expert
        if "expert" in changed and 0 < expert.epochs <= expert.decay_after:
            return (
                f"experts of {expert.epochs} epochs never come to the fall of their rate after {expert.decay_after}: "
                "give expert.decay_after below that as well, or 0 for a constant rate."
            )
        return super().misplaced(changed)

    def expert_bytes(self, dataset: Dataset) -> int:
        """About how many bytes it takes to train one; 0 for imported ones."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        return 0 if self.experts_from else training_bytes(self.network, shape, classes, self.expert.batch_size)

    def hint(self, names: Sequence[str]) -> str:
        """How to lower fields; imported experts are trained already."""
        return super().hint([name for name in names if not (self.experts_from and name.startswith("expert."))])


def experts_asked_for(run: Run[Any]) -> Experts:
    """The experts that a run's recipe asks for; those that the store lacks are trained now.

    Raises:
        UsageError: imported ones are not there.
        RunFailed: training diverged.
        Interrupted: the monitor was asked to stop; the next call goes on from there.
    """
    config = run.config
    if config.experts_from:
        asked = (run.training, config.network, config.experts_from)
        return run.pretrained(lambda **_: adopted_experts(*asked), lambda experts: experts.pieces)
    return _trained(run, config.experts)


def expert_pieces(run: Run[Any]) -> list[Piece]:
    """The experts, as what a method needs pretrained; imported ones are there already."""
    config, training = run.config, run.training
    recipe, seen = config.expert, config.expert.epochs * len(training) * config.expert.passes
    shown = Training(config.network, training.shape, run.classes, min(recipe.batch_size, len(training)), seen)

    def piece(number: int) -> Piece:
        return Piece(expert_path(training, config.network, recipe, number), lambda: _trained(run, [number]), shown)

    return [] if config.experts_from else [piece(number) for number in range(config.experts)]


def _trained(run: Run[Any], numbers: int | Sequence[int]) -> Experts:
    asked = (run.training, run.config.network, run.config.expert, numbers)
    return run.pretrained(partial(get_or_train_experts, *asked), lambda experts: experts.pieces)
