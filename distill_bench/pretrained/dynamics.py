"""Training dynamics: what networks made of every training image while they were trained, for the scores of selections.

All scores share them: a piece depends on the recipe, the seed, the data and when it was recorded, not on a score. It
holds the trained network too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Float16, Int64
from torch import Tensor

from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import UsageError
from distill_bench.networks import Network
from distill_bench.pretrained.recorder import Recorder
from distill_bench.pretrained.store import Artifact, Pretrained, get_or_create, path_of
from distill_bench.pretrained.teachers import Teacher, TeacherRecipe, check_classes, checked_teacher, resolved_recipe
from distill_bench.pretrained.training import ground_of, train_kept
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.device import send, take
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.training.train import TEST_BATCH, BatchFn

KIND = "dynamics"
VERSION = 1  # raised with every change that makes other dynamics of the same recipe
_NETWORK = "network."
_ROWS = ("correct", "true", "other", "error")

When = Literal["visit", "epoch"]
"""``visit``: in the training pass, before the step, the image augmented; ``epoch``: after each epoch, in evaluation
mode, without augmentation."""


@dataclass(frozen=True)
class Dynamics:
    """What one network made of the training images, epoch by epoch.

    Attributes:
        teacher: the network after its last epoch.
        correct: whether the largest logit was the class's.
        true: the probability of the class.
        other: the largest probability of another class.
        error: ‖p − ȳ‖₂, ȳ the class as a one-hot row.
    """

    teacher: Teacher
    correct: Bool[Tensor, "epochs n"]
    true: Float16[Tensor, "epochs n"]
    other: Float16[Tensor, "epochs n"]
    error: Float16[Tensor, "epochs n"]


def get_or_record_dynamics(
    training: TrainingData,
    recipe: TeacherRecipe,
    seed: int,
    number: int,
    when: When,
    *,
    monitor: Monitor = SILENT,
    every_seconds: float = EVERY_SECONDS,
) -> Dynamics:
    """The dynamics of a network on a training split, recorded now where the store has none.

    Args:
        training: what the network is trained on, and asked about.
        recipe: how it is trained.
        seed: of everything random.
        number: which of the networks of the seed, from 0 on; what it is depends on no other.
        when: in the training pass, or after every epoch.
        monitor: hears of every epoch, and may ask to stop.
        every_seconds: the least time between two checkpoints.

    Returns:
        The dynamics.

    Raises:
        UsageError: the recipe takes weights from elsewhere, whose training is unknown; or there is one class.
        RunFailed: training diverged, or the network is no better than chance.
        DataError: the kept network's accuracy is not the recorded one.
        Interrupted: the monitor was asked to stop; the next call goes on from there.
    """
    check_classes(training)
    if recipe.weights:
        raise UsageError("scores are of networks trained here: weights from elsewhere come without their training.")

    def make(checkpoint: Checkpoint) -> Artifact:
        return _record(training, recipe, (seed, KIND, number), when, checkpoint, monitor)

    identity = _identity(training, recipe, seed, number, when)
    about: dict[str, Any] = {"dataset": training.source_name, "device": training.device}
    return _dynamics(training, get_or_create(KIND, identity, make, monitor, every_seconds=every_seconds, **about))


def dynamics_path(training: TrainingData, recipe: TeacherRecipe, seed: int, number: int, when: When) -> Path:
    """Where the store has dynamics, if it has. Arguments as for ``get_or_record_dynamics``."""
    return path_of(KIND, _identity(training, recipe, seed, number, when))


def outcomes(logits: Float[Tensor, "b k"], labels: Int64[Tensor, " b"]) -> Float[Tensor, "4 b"]:
    """What one pass says of every image: whether it is right, p of its class, the largest other p, and ‖p − ȳ‖₂.

    Args:
        logits: of two classes or more.
        labels: the classes, on the same device.

    Returns:
        The rows of ``Dynamics`` in their order, whether right as 0 or 1.
    """
    p = logits.softmax(dim=1)
    own = torch.zeros_like(p).scatter_(1, labels[:, None], 1.0)
    true, other = (p * own).sum(dim=1), (p - own).amax(dim=1)
    return torch.stack([(logits.argmax(dim=1) == labels).to(p), true, other, (p - own).norm(dim=1)])


class _DynamicsRecorder(Recorder):
    """Rows of ``Dynamics``."""

    def __init__(self, training: TrainingData, when: When) -> None:
        super().__init__()
        self.compilable = when == "epoch"  # what a hook sees of a compiled step is not promised
        self._training, self._when = training, when
        self._labels = send(training.labels, training.device)
        self._indices: list[Tensor] = []
        self._outcomes: list[Tensor] = []

    def begin(self, network: Network, epochs: int) -> None:
        shape = epochs, len(self._training)
        types = {"correct": torch.bool, "true": torch.float16, "other": torch.float16, "error": torch.float16}
        self.rows = {name: torch.zeros(shape, dtype=types[name]) for name in _ROWS}

    def watched(self, network: Network, batches: BatchFn) -> BatchFn:
        if self._when == "epoch":
            return batches

        def noted(epoch: int, indices: Tensor, draws: torch.Generator) -> tuple[Tensor, Tensor]:
            self._indices.append(indices)
            return batches(epoch, indices, draws)

        def see(module: Any, images: Any, logits: Tensor) -> None:
            if module.training:  # else it is tested
                self._see(logits.detach())

        network.register_forward_hook(see)
        return noted

    def after_epoch(self, network: Network) -> None:
        if self._when == "epoch":
            network.eval()
            with torch.inference_mode():
                for indices in torch.arange(len(self._training)).split(TEST_BATCH):
                    self._indices.append(indices)
                    self._see(network(self._training.images(indices)))
            network.train()
        seen = torch.cat(self._outcomes, dim=1).cpu()
        ordered = torch.empty_like(seen)
        ordered[:, torch.cat(self._indices)] = seen
        self._write(dict(zip(_ROWS, ordered, strict=True)))
        self._indices, self._outcomes = [], []

    def _see(self, logits: Float[Tensor, "b k"]) -> None:
        self._outcomes.append(outcomes(logits, take(self._labels, self._indices[-1])))


def _record(
    training: TrainingData,
    recipe: TeacherRecipe,
    seeds: Sequence[object],
    when: When,
    checkpoint: Checkpoint,
    monitor: Monitor,
) -> Artifact:
    recipe, recorder = resolved_recipe(training, recipe), _DynamicsRecorder(training, when)
    network, facts = train_kept(
        training,
        recipe.network,
        recipe.plan(len(training)),
        recipe.augmentation(training.flip_invariant),
        tuple(seeds),
        checkpoint,
        monitor,
        what="training dynamics",
        title=f"dynamics of {recipe.network} on {training.source_name}, seed {seeds[0]}, network {seeds[-1]}",
        setting="teacher.learning_rate",
        recorder=recorder,
    )
    del facts["losses"]
    return recorder.rows | {_NETWORK + name: value for name, value in network.state_dict().items()}, facts


def _identity(training: TrainingData, recipe: TeacherRecipe, seed: int, number: int, when: When) -> dict[str, Any]:
    recipe = resolved_recipe(training, recipe)
    trained = {"version": VERSION, "recipe": recipe.model_dump(mode="json"), "seed": seed, "index": number}
    return {**trained, "when": when, **ground_of(training)}


def _dynamics(training: TrainingData, stored: Pretrained) -> Dynamics:
    tensors = stored.tensors()
    return Dynamics(checked_teacher(training, stored, _NETWORK), **{name: tensors[name] for name in _ROWS})
