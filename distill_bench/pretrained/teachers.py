"""Teachers: networks trained on the training split, whose features and predictions methods make use of.

A teacher's accuracy is measured on training images, since whoever asks for one may be a method, which knows no
other. It is recorded with the teacher and measured again before use: a teacher of other data, another order of classes
or another pixel space does not get past that, and neither does one that has learned nothing. Weights from elsewhere
must come near the accuracy that is stated of them.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)
from torch import Generator

from distill_bench.augmentations import dsa, views
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import DataError, RunFailed, UsageError, describe
from distill_bench.networks import Network, build_network, check_own, resolve_network
from distill_bench.pretrained.store import Artifact, Pretrained, get_or_create, list_stored, path_of
from distill_bench.pretrained.training import MOST_EPOCHS, checked_images, ground_of, train_kept, training_accuracy
from distill_bench.pretrained.weights import Weights, find_weights
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.sparse import Sparse
from distill_bench.training.memory import pass_bytes, training_bytes
from distill_bench.training.train import TEST_BATCH, Augment, Plan

KIND = "teachers"
VERSION = 1  # raised with every change that makes other teachers of the same recipe
_TOLERATED = 0.005  # share of images decided otherwise
_BETTER_THAN_GUESSING = 2.0  # ratio of odds: 18 % of 10 equal classes, 67 % of 2
_BELOW_STATED = 10.0  # points: 2,000 images say little of one or two, and crops differ; training images lift it


class TeacherRecipe(Sparse):
    """How a teacher is trained. The defaults are those of the field's evaluation, with the 50 epochs of MTT's experts.

    Attributes:
        network: a name without depth means the one usual at the resolution.
        epochs: passes over the training split.
        minimum_steps: with few images, so many more epochs that there are at least this many optimiser steps.
        learning_rate, momentum, weight_decay: of SGD.
        nesterov: whether its momentum is Nesterov's.
        schedule: whether the rate is constant, or follows a cosine to 0.
        batch_size: images a step.
        augment: DSA on every batch, or every image shifted by up to 4 pixels and mirrored (neither mirrors where the
            dataset is not flip-invariant), beside it zero (``shift``) or itself (``reflected``), or none.
        weights: an id of ``weights.NETWORKS``, taken instead of training. ``network`` must be theirs, and all other
            values say nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER = ("schedule", "weights", "nesterov")

    network: str = "ConvNet"
    epochs: Annotated[PositiveInt, Field(le=MOST_EPOCHS)] = 50
    minimum_steps: NonNegativeInt = 0
    learning_rate: PositiveFloat = 0.01
    momentum: NonNegativeFloat = 0.9
    weight_decay: NonNegativeFloat = 5e-4
    batch_size: PositiveInt = 256
    augment: Literal["none", "dsa", "shift", "reflected"] = "dsa"
    schedule: Literal["constant", "cosine"] = "constant"
    weights: str = ""
    nesterov: bool = False

    @model_validator(mode="after")
    def _momentum_of_nesterov(self) -> "TeacherRecipe":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov is a kind of momentum, and momentum is 0: give one above 0, or nesterov = false")
        return self

    def plan(self, images: int) -> Plan:
        """The training plan for so many images."""
        steps = math.ceil(images / self.batch_size)
        return Plan(
            epochs=max(self.epochs, math.ceil(self.minimum_steps / steps)),
            annealing=1.0 if self.schedule == "cosine" else 0.0,
            nesterov=self.nesterov,
            **self.model_dump(include={"batch_size", "learning_rate", "momentum", "weight_decay"}),
        )

    def augmentation(self, flip_invariant: bool) -> Augment | None:
        """What is done to every batch."""
        if self.augment in ("shift", "reflected"):
            crop: Literal["padded", "reflected"] = "padded" if self.augment == "shift" else "reflected"
            return views.augmentation(views.AugmentPolicy(crop=crop), flip_invariant)
        return dsa.augmentation(flip_invariant) if self.augment == "dsa" else None


def teacher_recipe(values: dict[str, Any]) -> TeacherRecipe:
    """A recipe with these values in place of the defaults.

    Raises:
        UsageError: an unknown field or a wrong value.
    """
    try:
        return TeacherRecipe.model_validate(values)
    except ValidationError as error:
        known = ", ".join(TeacherRecipe.model_fields)
        raise UsageError(
            f"a teacher cannot be trained so: {describe(error, TeacherRecipe.model_fields)}. Its fields: {known}."
        ) from error


@dataclass(frozen=True)
class Teacher:
    """A trained network, in evaluation mode, without gradients.

    Attributes:
        accuracy: percent right of the training images it was checked on.
    """

    network: Network
    accuracy: float
    pretrained: Pretrained


def get_or_train_teacher(
    training: TrainingData,
    recipe: TeacherRecipe,
    seed: int,
    *,
    monitor: Monitor = SILENT,
    every_seconds: float = EVERY_SECONDS,
) -> Teacher:
    """The teacher of a recipe and a seed on a training split, trained (or downloaded) now where the store has none.

    It is the same for every method and IPC that asks for it with the same values.

    Raises:
        UsageError: weights of an unknown id, of another network, or of another number of classes; or there is one
            class.
        RunFailed: training diverged, or the teacher is no better than chance.
        DataError: the kept teacher's accuracy is not the recorded one; weights cannot be had, or are far from the
            accuracy that is stated of them.
        Interrupted: the monitor was asked to stop; the next call goes on from there.
    """
    check_classes(training)
    weights = _fitting_weights(training, recipe) if recipe.weights else None

    def make(checkpoint: Checkpoint) -> Artifact:
        return _adopt(training, weights) if weights else _train(training, recipe, seed, checkpoint, monitor)

    identity = _identity(training, recipe, seed)
    about: dict[str, Any] = {"dataset": training.source_name, "device": training.device}
    return checked_teacher(training, get_or_create(KIND, identity, make, monitor, every_seconds=every_seconds, **about))


def check_classes(training: TrainingData) -> None:
    """Raise UsageError of data with one class, which a network tells from nothing."""
    if len(training.class_names) < 2:
        raise UsageError(
            f"{training.source_name} has one class: a network trained on it learns nothing that images could be "
            "chosen or labelled by. Give two classes or more, or take random."
        )


def teacher_bytes(recipe: TeacherRecipe, shape: tuple[int, int, int], classes: int) -> int:
    """About how many bytes a step of a teacher's training takes, or, where it has weights, a batch that it labels.

    Args:
        recipe: the teacher's.
        shape: (channels, height, width) of the images.
        classes: of the dataset.

    Returns:
        Bytes, of float32.

    Raises:
        UsageError: there is no such network, or it does not take such images.
    """
    if recipe.weights:
        return pass_bytes(recipe.network, shape, classes, TEST_BATCH)
    return training_bytes(recipe.network, shape, classes, recipe.batch_size)


def teacher_path(training: TrainingData, recipe: TeacherRecipe, seed: int) -> Path:
    """Where the store has the teacher of a recipe and a seed, if it has."""
    return path_of(KIND, _identity(training, recipe, seed))


def list_teachers() -> list[Pretrained]:
    """Every teacher that the store has."""
    return list_stored(KIND)


def _identity(training: TrainingData, recipe: TeacherRecipe, seed: int) -> dict[str, Any]:
    counts = {"network", "weights"} if recipe.weights else None
    return {
        "version": VERSION,
        "recipe": resolved_recipe(training, recipe).model_dump(mode="json", include=counts),
        "seed": None if recipe.weights else seed,
        **ground_of(training),
    }


def resolved_recipe(training: TrainingData, recipe: TeacherRecipe) -> TeacherRecipe:
    """The recipe with the network's name in full.

    Raises:
        UsageError: the name is unknown, or the network none of this project's.
    """
    check_own(recipe.network, "teachers")
    return recipe.model_copy(update={"network": resolve_network(recipe.network, training.shape)})


def _fitting_weights(training: TrainingData, recipe: TeacherRecipe) -> Weights:
    """Raises UsageError if the weights are not of the recipe's network, or not of so many classes."""
    weights, count = find_weights(recipe.weights), len(training.class_names)
    if recipe.network != weights.network:
        raise UsageError(
            f"{weights.id} are weights of {weights.network}, not of {recipe.network}. Give "
            f"`teacher.network={weights.network}`, or `teacher.weights=` to have a teacher trained here."
        )
    if count != weights.classes:
        raise UsageError(
            f"{weights.id} tells {weights.classes} classes apart; {training.source_name} has {count}. Give "
            "`teacher.weights=` to have a teacher trained here."
        )
    return weights


def _adopt(training: TrainingData, weights: Weights) -> Artifact:
    network = build_network(weights.network, training.shape, weights.classes, Generator())
    try:
        network.load_state_dict(weights.load())
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{weights.path} does not hold {weights.id}: {reason} Delete the file.") from error
    measured = training_accuracy(network.to(training.device), training)
    return dict(network.state_dict()), {"accuracy": measured, "stated": weights.accuracy}


def _train(
    training: TrainingData, recipe: TeacherRecipe, seed: int, checkpoint: Checkpoint, monitor: Monitor
) -> Artifact:
    name = resolve_network(recipe.network, training.shape)
    network, facts = train_kept(
        training,
        name,
        recipe.plan(len(training)),
        recipe.augmentation(training.flip_invariant),
        (seed, "teacher"),
        checkpoint,
        monitor,
        what="a teacher",
        title=f"teacher {name} on {training.source_name}, seed {seed}",
        setting="teacher.learning_rate",
    )
    del facts["losses"]
    return dict(network.state_dict()), facts


def checked_teacher(training: TrainingData, stored: Pretrained, prefix: str = "") -> Teacher:
    """The teacher in a stored piece, loaded, on the device of the images it was trained on; the prefix is its tensors'.

    Raises:
        DataError: its accuracy is not the recorded one, or far from the one stated.
        RunFailed: it is hardly better than naming the commonest class.
    """
    name, count = stored.identity["recipe"]["network"], len(training.class_names)
    network = build_network(name, training.shape, count, Generator()).to(training.device)
    tensors = stored.tensors().items()
    network.load_state_dict({key.removeprefix(prefix): value for key, value in tensors if key.startswith(prefix)})
    network.eval().requires_grad_(False)
    recorded, measured = stored.facts["accuracy"], training_accuracy(network, training)
    labels = training.labels[checked_images(training)]
    # another device or number of threads may decide a few images otherwise
    if abs(measured - recorded) / 100 * len(labels) > max(1, _TOLERATED * len(labels)):
        raise DataError(
            f"the teacher {stored.path} has {measured:.1f} % on training images where {recorded:.1f} % were recorded. "
            "Delete the file to have it trained again."
        )
    stated = stored.facts.get("stated", 0.0)
    if measured < stated - _BELOW_STATED:
        raise DataError(
            f"{stored.identity['recipe']['weights']} has {measured:.1f} % on training images of "
            f"{training.source_name}, where {stated:.1f} % are stated of it: the order of classes, the size of images "
            "or their pixel space is not the one it was trained with. ImageNet's classes are in the order of their "
            "WordNet ids, its images of "
            "224 px, normalized. Give `teacher.weights=` to have a teacher trained here."
        )
    right, guess = measured / 100, float(labels.bincount().max()) / len(labels)
    if right * (1 - guess) <= _BETTER_THAN_GUESSING * guess * (1 - right):
        raise RunFailed(
            f"the teacher {name} on {training.source_name} has {measured:.1f} % on training images, hardly better than "
            f"naming the commonest class ({100 * guess:.1f} %). Give it more epochs (epochs, minimum_steps) or another "
            "learning_rate."
        )
    return Teacher(network, measured, stored)
