"""Encoders: networks trained without labels on the training split, by Barlow Twins, whose features are targets.

Two views of an image are to have the same features, and no two features are to say the same. Source: Zbontar et al.,
"Barlow Twins: Self-Supervised Learning via Redundancy Reduction" (ICML 2021), arXiv 2103.03230, and
facebookresearch/barlowtwins 8e8d284; for small images wgcban/mix-bt e2c6af0.
"""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy, Share
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import RunFailed, UsageError
from distill_bench.networks import Network, build_network, check_own, initialise, resolve_network
from distill_bench.pretrained.store import Artifact, Pretrained, diverged, get_or_create, path_of
from distill_bench.pretrained.training import MOST_EPOCHS, checked_images, ground_of
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.device import send
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.seeds import generator
from distill_bench.training.memory import training_bytes
from distill_bench.training.timing import Training
from distill_bench.training.train import TEST_BATCH, BatchFn, Plan, TrainState, train

KIND = "encoders"
VERSION = 1  # raised with every change that makes other encoders of the same recipe
_EPS = 1e-5  # of the batch norm that the original code standardises with
_COLLAPSED = 1e-4  # of features' spread over their size


class EncoderRecipe(BaseModel):
    """How an encoder is trained: Barlow Twins with Adam, a cosine over all epochs, and two views of every image.

    Attributes:
        network: a name without depth means the one usual at the resolution. Its features are those that a classifier
            would stand on.
        epochs: passes over the training split.
        minimum_steps: with few images, so many more epochs that there are at least this many optimiser steps.
        batch_size: images a step, of two views each.
        learning_rate: of Adam, at the beginning.
        weight_decay: of AdamW, which leaves biases and norms without.
        projector: widths of the layers on the features, whose last has the outputs that are compared.
        redundancy: λ, the weight of correlations between different outputs.
        unbiased: whether outputs are standardised by the standard deviation with B − 1, as mix-bt has it, or with B.
        crop: the least and greatest share of the image's area that a view shows.
        contrast: an image's distances from its mean are multiplied by a factor from 1 − contrast to 1 + contrast.
        noise: the standard deviation of what is added to every value, in the pixel space.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str = "ConvNetBN"
    epochs: Annotated[PositiveInt, Field(le=MOST_EPOCHS)] = 60
    minimum_steps: NonNegativeInt = 0
    batch_size: PositiveInt = Field(256, ge=2)
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-6
    projector: tuple[PositiveInt, ...] = Field((512, 1024), min_length=1)
    redundancy: NonNegativeFloat = 1 / 128
    unbiased: bool = True
    crop: tuple[Share, Share] = (0.08, 1.0)
    contrast: NonNegativeFloat = Field(0.4, le=1)
    noise: NonNegativeFloat = 0.0

    def plan(self, images: int) -> Plan:
        """The training plan for so many images."""
        steps = math.ceil(images / self.batch_size)
        return Plan(
            epochs=max(self.epochs, math.ceil(self.minimum_steps / steps)),
            optimizer="adamw",
            annealing=1.0,
            anneal_every="step",
            **self.model_dump(include={"batch_size", "learning_rate", "weight_decay"}),
        )


@dataclass(frozen=True)
class Encoder:
    """A trained network, in evaluation mode, without gradients; only its features mean anything."""

    network: Network
    pretrained: Pretrained

    def features(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d"]:
        """The features of images of its pixel space, on the encoder's device; some of them at a time."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            parts = [self.network.embed(send(batch, device)) for batch in images.split(TEST_BATCH)]
        return torch.cat(parts).clone()


class Projected(nn.Module):
    """A network's features and a projector on them: linear layers with batch norm and ReLU between.

    Args:
        network: whose features they are.
        widths: of the layers; the last has neither.
    """

    def __init__(self, network: Network, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        before, layers = network.classifier.in_features, list[nn.Module]()
        for width in widths:
            layers += [nn.Linear(before, width), nn.BatchNorm1d(width), nn.ReLU()]
            before = width
        self.projector = nn.Sequential(*layers[:-2])

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.projector(self.network.embed(images))


def barlow_twins_loss(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], redundancy: float, unbiased: bool = False
) -> Float[Tensor, ""]:
    """Σ_i (1 − C_ii)² + λ Σ_{i≠j} C_ij², with C = z¹ᵀz²/B of standardised outputs (the paper's equations 1 and 2).

    Args:
        first, second: outputs for two views of the same images.
        redundancy: λ.
        unbiased: whether the standard deviation is that with B − 1. Then no C_ii is above (B − 1)/B.

    Returns:
        The loss, a scalar.
    """
    correlation = _standardised(first, unbiased).mT @ _standardised(second, unbiased) / len(first)
    diagonal = correlation.diagonal()
    others = correlation.square().sum() - diagonal.square().sum()
    return (1 - diagonal).square().sum() + redundancy * others


def _standardised(outputs: Float[Tensor, "b d"], unbiased: bool) -> Float[Tensor, "b d"]:
    variance, mean = torch.var_mean(outputs, 0, correction=int(unbiased))
    return (outputs - mean) * (variance + _EPS).rsqrt()


def two_views(
    recipe: EncoderRecipe, images: Float[Tensor, "b c h w"], mirror: bool, draws: Generator
) -> Float[Tensor, "b2 c h w"]:
    """Two views of every image, drawn apart: all first ones, then all second ones, [2 b, c, h, w].

    Args:
        recipe: how they are drawn.
        images: the images.
        mirror: whether they may be mirrored.
        draws: where randomness comes from.

    Returns:
        The views.
    """
    crop = views.augmentation(AugmentPolicy(crop="resized", scale=recipe.crop), mirror)

    def view() -> Tensor:
        shown = crop(images, draws)
        factor = 1 + recipe.contrast * (2 * torch.rand(len(images), 1, 1, 1, generator=draws) - 1)
        mean = shown.mean(dim=(1, 2, 3), keepdim=True)
        noise = recipe.noise * torch.randn(images.shape, generator=draws)
        return mean + (shown - mean) * send(factor, images.device) + send(noise, images.device)

    return torch.cat([view(), view()])


def get_or_train_encoder(
    training: TrainingData,
    recipe: EncoderRecipe,
    seed: int,
    *,
    monitor: Monitor = SILENT,
    every_seconds: float = EVERY_SECONDS,
) -> Encoder:
    """The encoder of a recipe and a seed on a training split, trained now where the store has none. Reads no label.

    Args:
        training: the training split.
        recipe: how it is trained.
        seed: of its initial values, its views and its order of images.
        monitor: hears of every epoch, and may ask to stop.
        every_seconds: the least time between two checkpoints.

    Returns:
        The encoder, on the training split's device.

    Raises:
        UsageError: the network is unknown, or a batch would have a single image.
        RunFailed: training diverged, or all images have the same features.
        Interrupted: the monitor was asked to stop; the next call goes on from there.
    """
    check_batches(recipe, len(training))

    def make(checkpoint: Checkpoint) -> Artifact:
        return _train(training, recipe, seed, checkpoint, monitor)

    identity = _identity(training, recipe, seed)
    about: dict[str, Any] = {"dataset": training.source_name, "device": training.device}
    stored = get_or_create(KIND, identity, make, monitor, every_seconds=every_seconds, **about)
    network = build_network(identity["recipe"]["network"], training.shape, 1, Generator())
    network.features.load_state_dict(stored.tensors())
    return Encoder(send(network, training.device).eval().requires_grad_(False), stored)


def encoder_path(training: TrainingData, recipe: EncoderRecipe, seed: int) -> Path:
    """Where the store has the encoder of a recipe and a seed, if it has."""
    return path_of(KIND, _identity(training, recipe, seed))


def encoder_training(training: TrainingData, recipe: EncoderRecipe) -> Training:
    """What training an encoder is, so that its time can be told: every image is shown twice."""
    plan, batch = recipe.plan(len(training)), min(recipe.batch_size, len(training))
    return Training(recipe.network, training.shape, 1, 2 * batch, 2 * plan.epochs * len(training))


def encoder_bytes(recipe: EncoderRecipe, shape: tuple[int, int, int]) -> int:
    """About how many bytes a step of an encoder's training takes, of float32.

    Raises:
        UsageError: there is no such network, or it does not take such images.
    """
    return training_bytes(recipe.network, shape, recipe.projector[0], 2 * recipe.batch_size)


def check_batches(recipe: EncoderRecipe, images: int) -> None:
    """Raises UsageError if a batch of an epoch would have a single image, of which nothing correlates."""
    if images % recipe.batch_size == 1:
        raise UsageError(
            f"encoder.batch_size={recipe.batch_size} leaves a batch of one image of {images}, and correlations are of "
            "several: give another, such as one more."
        )


def _identity(training: TrainingData, recipe: EncoderRecipe, seed: int) -> dict[str, Any]:
    check_own(recipe.network, "encoders")
    named = recipe.model_copy(update={"network": resolve_network(recipe.network, training.shape)})
    ground = ground_of(training)
    del ground["classes"]  # it reads no label
    return {"version": VERSION, "recipe": named.model_dump(mode="json"), "seed": seed, **ground}


def _train(
    training: TrainingData, recipe: EncoderRecipe, seed: int, checkpoint: Checkpoint, monitor: Monitor
) -> Artifact:
    network, plan = _fresh(training, recipe, seed), recipe.plan(len(training))
    title = f"encoder {resolve_network(recipe.network, training.shape)} on {training.source_name}, seed {seed}"
    state = TrainState()
    if (saved := checkpoint.load()) is not None:
        network.load_state_dict(saved["network"])
        state = TrainState(**saved["training"])
    with monitor.stage(title, plan.epochs, state.epoch) as stage:

        def after_epoch() -> None:
            stage.note(f"loss {state.loss:.3g}")
            stage.advance()
            done = f"{state.epoch} of {plan.epochs} epochs of an encoder trained"
            checkpoint.save_if_due(monitor, lambda: {"network": network.state_dict(), "training": vars(state)}, done)

        draws = generator(seed, "encoder", "training")
        objective = partial(_loss, redundancy=recipe.redundancy, unbiased=recipe.unbiased)
        inputs = (_batches(training, recipe), len(training), plan, draws, after_epoch, state)
        try:
            train(network, *inputs, objective=objective)
        except RunFailed as error:
            raise diverged(title, error, checkpoint, "encoder.learning_rate") from error
    spread = _spread(network.network, training, title)
    return dict(network.network.features.state_dict()), {"epochs": state.epoch, "loss": state.loss, "spread": spread}


def _fresh(training: TrainingData, recipe: EncoderRecipe, seed: int) -> Projected:
    """The network with its projector, each with initial values from a generator of its own."""
    name = resolve_network(recipe.network, training.shape)
    network = build_network(name, training.shape, 1, generator(seed, "encoder", "weights"))
    with torch.device("meta"):
        projected = Projected(network, recipe.projector)
    projected.projector.to_empty(device="cpu")
    initialise(projected.projector, generator(seed, "encoder", "projector"))
    return send(projected, training.device)


def _batches(training: TrainingData, recipe: EncoderRecipe) -> BatchFn:
    """Two views of every image of a batch; there are no targets."""

    def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        return two_views(recipe, training.images(indices), training.flip_invariant, draws), torch.empty(0)

    return batches


def _loss(network: nn.Module, images: Tensor, targets: Tensor, *, redundancy: float, unbiased: bool) -> Tensor:
    """Barlow Twins of a batch of two views. Each half passes alone: batch norm sees views of one draw."""
    first, second = (network(half) for half in images.chunk(2))
    return barlow_twins_loss(first, second, redundancy, unbiased)


def _spread(network: Network, training: TrainingData, title: str) -> float:
    """The standard deviation of features over images, relative to their size; raises RunFailed where there is none."""
    network.eval()
    with torch.inference_mode():
        features = network.embed(training.images(checked_images(training))).double()
    spread = float(features.std(dim=0).norm() / features.norm(dim=1).mean().clamp_min(1e-30))
    if not spread > _COLLAPSED:
        raise RunFailed(
            f"{title}: all images have the same features (they differ by {spread:.1g} of their size). Give it more "
            "epochs (`encoder.epochs`), or lower its learning rate (`encoder.learning_rate`)."
        )
    return spread
