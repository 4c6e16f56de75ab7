"""Projectors: a frozen encoder with a head of class names or prototypes, to which increments of low rank are trained.

Source: HeLlO, "Heavy Labels Out! Dataset Distillation with Label Space Lightening" (ICCV 2025), arXiv 2408.08201. A
projector is trained towards the labels and the logits of weak teachers: snapshots of one training.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from jaxtyping import Float, Int64
from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from distill_bench.augmentations import dsa
from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled import projector as stored
from distill_bench.distilled.projector import HeadKind, Projector, ProjectorCard, Required
from distill_bench.errors import DataError, RunFailed
from distill_bench.networks import Network, build_network, check_own, resolve_network
from distill_bench.networks.encoders import ExternalEncoder, find_encoder
from distill_bench.networks.low_rank import dense_convolutions, matrix_shape, with_increments
from distill_bench.pretrained.experts import ExpertRecipe, Experts, get_or_train_experts
from distill_bench.pretrained.store import Artifact, Pretrained, diverged, get_or_create
from distill_bench.pretrained.teachers import Teacher
from distill_bench.pretrained.training import checked_images, ground_of
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.device import send, take
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.seeds import generator
from distill_bench.runtime.sparse import Sparse
from distill_bench.training.student import Student

KIND = "projectors"
VERSION = 1  # raised with every change that makes other projectors of the same recipe
TEACHER = "teacher"
_BATCH = 250


class ProjectorRecipe(Sparse):
    """How a projector is made.

    Attributes:
        encoder: ``teacher``: the run's teacher without its head; or an external encoder of ``networks.encoders``.
        side: to which an external encoder's images are resized, in pixels.
        head: ``names``: rows of the encoder's classifier that are of the classes; ``prototypes``: the mean normalised
            features of training images, which are stored.
        prototype_images: so many of a class, at random, or all where there are fewer.
        rank, head_rank: of the increments to convolutions and head; 0: none.
        convolutions: only so many of the encoder's have an increment, from the end; 0: all.
        scale: of the products at the start; it is trained.
        steps, batch_size, learning_rate, weight_decay: of AdamW, on increments and scale alone.
        class_weight: of the cross-entropy with the classes beside the squared error to the weak teachers' logits (λ).
        centred: that error is of logits less their mean over the classes, which no softmax sees: cosines of an encoder
            that ends in a ReLU are all positive, and a weak teacher's logits are not.
        augment: DSA on every batch, which both see, or none.
        network, expert: of the weak teachers, how they are trained.
        snapshots: so many of one training, evenly over its epochs, of which the mean of the logits counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER = ("centred",)

    encoder: str = TEACHER
    side: Annotated[int, Field(ge=32, le=1024)] = 64
    head: HeadKind = "prototypes"
    prototype_images: PositiveInt = 200
    rank: NonNegativeInt = 4
    head_rank: NonNegativeInt = 4
    convolutions: NonNegativeInt = 5
    scale: PositiveFloat = 20.0
    steps: NonNegativeInt = 300
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    class_weight: NonNegativeFloat = 1.0
    centred: bool = False
    augment: Annotated[str, Field(pattern="^(dsa|none)$")] = "dsa"
    network: str = "ConvNet"
    expert: ExpertRecipe = ExpertRecipe(epochs=4, learning_rate=0.01, momentum=0.9)
    snapshots: PositiveInt = 4

    @property
    def external(self) -> ExternalEncoder | None:
        """The external encoder; None where the teacher is it. Raises UsageError if there is none of that name."""
        return None if self.encoder == TEACHER else find_encoder(self.encoder)


@dataclass(frozen=True)
class MadeProjector:
    """A projector as a set stores it.

    Attributes:
        tensors: ``projector.*``.
        card: what describes them.
        requires: the external weights.
        pretrained: as the store has it, with its ``facts``: ``accuracy``, percent right of training images, and
            ``before``, that without increments; ``agreement``, percent decided as the weak teachers do.
    """

    tensors: dict[str, Tensor]
    card: ProjectorCard
    requires: tuple[Required, ...]
    pretrained: Pretrained


def get_or_train_projector(
    training: TrainingData,
    recipe: ProjectorRecipe,
    teacher: Teacher | None,
    seed: int,
    *,
    monitor: Monitor = SILENT,
    every_seconds: float = EVERY_SECONDS,
) -> MadeProjector:
    """The projector of a recipe and a seed on a training split, trained now where the store has none.

    Args:
        training: the training split.
        recipe: how it is made.
        teacher: the encoder; None where it is an external one.
        seed: of increments and batches, and the number of the training whose snapshots are the weak teachers.
        monitor: hears of progress, and may ask to stop.
        every_seconds: the least time between two checkpoints.

    Returns:
        The projector; its factors and prototypes in half precision.

    Raises:
        UsageError: the encoder does not go with the pixel space, or the head not with the classes.
        DataError: external weights are not here, or other ones.
        RunFailed: training diverged.
        Interrupted: the monitor was asked to stop; the next call goes on from there.
    """
    about = required(recipe)
    if (external := recipe.external) is not None:
        origin: Any = [each.sha256 for each in about]
        load, name, side, kept = external.load, recipe.encoder, recipe.side, dict[str, Tensor]()
    else:
        assert teacher is not None
        origin = teacher.pretrained.identity
        load, name, side = lambda: teacher.network, origin["recipe"]["network"], None
        kept = {stored.ENCODER + key: tensor.cpu() for key, tensor in teacher.network.state_dict().items()}

    def make(checkpoint: Checkpoint) -> Artifact:
        weak = weak_teachers(training, recipe, seed, monitor, every_seconds)
        return _Training(training, recipe, load().to(training.device), weak, seed).run(checkpoint, monitor)

    own = {"version": VERSION, "recipe": recipe.model_dump(mode="json"), "seed": seed, "encoder": origin}
    options: dict[str, Any] = {"dataset": training.source_name, "device": training.device}
    made = get_or_create(KIND, own | ground_of(training), make, monitor, every_seconds=every_seconds, **options)
    tensors = {key: tensor.clone() for key, tensor in made.tensors().items()} | kept
    lost = made.facts["before"] - made.facts["accuracy"]
    known = {fact: made.facts[fact] for fact in ("accuracy", "before") if lost > stored.UNDONE}
    card = ProjectorCard(encoder=name, side=side, head=recipe.head, **known)
    if card.doubt:
        log.warning(
            "%s: %s. Longer weak teachers, or a lower `projector.learning_rate`, may help.",
            training.source_name, card.doubt,
        )  # fmt: skip
    return MadeProjector(tensors, card, about, made)


def required(recipe: ProjectorRecipe) -> tuple[Required, ...]:
    """The external weights of a recipe's encoder."""
    external = recipe.external
    return (stored.required(external),) if external else ()


def check_projector_recipe(recipe: ProjectorRecipe, dataset: Dataset, space: PixelSpace) -> None:
    """Whether a projector can be made of a dataset, before any work is done.

    Args:
        recipe: how it is to be made.
        dataset: whose classes it is to tell apart.
        space: of the images it is to take.

    Raises:
        UsageError: there is no such encoder, or it does not go with the pixel space, or the head not with the classes.
        DataError: external weights are not installed.
    """
    check_own(recipe.network, "weak teachers")
    external = recipe.external
    if external is None:
        return
    stored.preparation(external, space, recipe.side)
    if recipe.head == "names":
        stored.check_named(dataset.class_names, external)
    if external.missing:
        raise DataError(external.missing)


def weak_teachers(
    training: TrainingData,
    recipe: ProjectorRecipe,
    seed: int,
    monitor: Monitor = SILENT,
    every_seconds: float = EVERY_SECONDS,
) -> Experts:
    """The one training whose snapshots are the weak teachers. Arguments and errors: see ``get_or_train_projector``."""
    return get_or_train_experts(
        training, recipe.network, recipe.expert, [seed], monitor=monitor, every_seconds=every_seconds
    )


def snapshot_epochs(epochs: int, count: int) -> list[int]:
    """Which epochs' snapshots are the weak teachers: the last one, and evenly down from there.

    >>> snapshot_epochs(10, 4)
    [3, 5, 8, 10]
    """
    used = min(count, epochs)
    return [math.ceil(epochs * (k + 1) / used) for k in range(used)]


def prototypes(projector: Projector, training: TrainingData, count: int, seed: int) -> Float[Tensor, "k d"]:
    """The mean normalised features of ``count`` random images of each class, normalised."""
    rows = []
    with torch.inference_mode():
        for label in range(len(training.class_names)):
            chosen = training.draw_indices(label, count, generator(seed, "prototypes", label))
            parts = [projector.features(training.images(some)) for some in chosen.split(_BATCH)]
            rows.append(F.normalize(torch.cat(parts).mean(dim=0), dim=0))
    return torch.stack(rows).clone()


class _Training:
    """Increments and scale on their way."""

    def __init__(
        self, training: TrainingData, recipe: ProjectorRecipe, encoder: Network, weak: Experts, seed: int
    ) -> None:
        self.training, self.recipe, self.seed = training, recipe, seed
        self.encoder, self.external = encoder, recipe.external
        space = training.pixel_space
        prepare = stored.preparation(self.external, space, recipe.side) if self.external else None
        blank = torch.zeros(len(training.class_names), encoder.classifier.in_features, device=training.device)
        scale = torch.tensor(recipe.scale, device=training.device)
        self.projector = Projector(encoder, blank, scale, prepare).to(training.device)
        self.projector.head = self._head()
        layers = dense_convolutions(encoder, recipe.convolutions) if recipe.rank else {}
        self.weights = {f"encoder.{name}.weight": layer.weight for name, layer in layers.items()}
        self.weights |= {"head": self.projector.head} if recipe.head_rank else {}
        self.factors = dict(self._initial())
        self.scale = scale.clone().requires_grad_()
        name = resolve_network(recipe.network, training.shape)
        network = build_network(name, training.shape, len(training.class_names), generator("weak teacher"))
        self.weak = Student(send(network, training.device))
        epochs = snapshot_epochs(weak.epochs, recipe.snapshots)
        self.snapshots = [send(weak.snapshot(0, epoch), training.device) for epoch in epochs]

    def _head(self) -> Float[Tensor, "k d"]:
        """As it is stored, in half precision where it is."""
        recipe = self.recipe
        if recipe.head == "names":
            return stored.named_rows(self.encoder.classifier, self.training.class_names, self.external)
        return prototypes(self.projector, self.training, recipe.prototype_images, self.seed).half().float()

    def _initial(self) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
        """A normal with variance 1 / rank, B = 0: the increments are 0, and their gradients are not."""
        for index, (name, weight) in enumerate(self.weights.items()):
            rank = self.recipe.head_rank if name == "head" else self.recipe.rank
            rows, columns = matrix_shape(weight)
            draws = generator(self.seed, "increment", index)
            a = torch.randn(rows, rank, generator=draws) / math.sqrt(rank)
            factors = (send(each, weight.device).requires_grad_() for each in (a, torch.zeros(rank, columns)))
            yield name, (next(factors), next(factors))

    @property
    def parameters(self) -> list[Tensor]:
        """All that is trained."""
        return [self.scale, *(factor for pair in self.factors.values() for factor in pair)]

    def logits(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """The projector's, with the increments as they are now."""
        changed = with_increments(self.weights, self.factors) | {"scale": self.scale}
        return functional_call(self.projector, changed, (images,))

    def wanted(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """The mean of the weak teachers' logits."""
        with torch.no_grad():
            return torch.stack([self.weak.logits(each, images) for each in self.snapshots]).mean(dim=0)

    def loss(self, images: Float[Tensor, "b c h w"], labels: Int64[Tensor, " b"]) -> Float[Tensor, ""]:
        """MSE(f(x), mean of the weak teachers) + λ · cross-entropy(f(x), y)."""
        logits, wanted = self.logits(images), self.wanted(images)
        classes = F.cross_entropy(logits, labels)
        if self.recipe.centred:
            logits, wanted = (each - each.mean(dim=1, keepdim=True) for each in (logits, wanted))
        return F.mse_loss(logits, wanted) + self.recipe.class_weight * classes

    def run(self, checkpoint: Checkpoint, monitor: Monitor) -> Artifact:
        """Train, going on from the checkpoint: tensors as a set stores them, and facts."""
        recipe, losses, done = self.recipe, list[float](), 0
        optimizer = torch.optim.AdamW(self.parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
        before = self._decisions(self.logits)[0]
        if (saved := checkpoint.load()) is not None:
            done, losses = saved["step"], saved["losses"]
            optimizer.load_state_dict(saved["optimizer"])
            with torch.no_grad():
                for own, kept in zip(self.parameters, saved["parameters"], strict=True):
                    own.copy_(kept)
        title = f"projector on {self.training.source_name}, encoder {recipe.encoder}, seed {self.seed}"
        with monitor.stage(title, recipe.steps, done) as stage:
            for step in range(done, recipe.steps):
                losses.append(self._step(step, optimizer))
                if not math.isfinite(losses[-1]):
                    error = RunFailed(f"the loss is {losses[-1]} at step {step + 1}.")
                    raise diverged(title, error, checkpoint, "projector.learning_rate")
                stage.note(f"loss {losses[-1]:.3g}")
                stage.advance()
                come = f"{step + 1} of {recipe.steps} steps of a projector trained"
                checkpoint.save_if_due(monitor, lambda: self._unfinished(optimizer, losses), come)
        tensors = self._tensors()
        accuracy, agreement = self._decisions(self._as_stored(tensors))
        return tensors, {"accuracy": accuracy, "before": before, "agreement": agreement, "losses": losses}

    def _unfinished(self, optimizer: torch.optim.Optimizer, losses: list[float]) -> dict[str, Any]:
        state = {"parameters": self.parameters, "optimizer": optimizer.state_dict()}
        return state | {"losses": losses, "step": len(losses)}

    def _step(self, step: int, optimizer: torch.optim.Optimizer) -> float:
        draws = generator(self.seed, "projector", step)
        indices = torch.randint(len(self.training), (self.recipe.batch_size,), generator=draws)
        images, labels = self.training.images(indices), send(self.training.labels[indices], self.training.device)
        if self.recipe.augment == "dsa":
            images = dsa.augmentation(self.training.flip_invariant)(images, draws)
        optimizer.zero_grad()
        loss = self.loss(images, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    def _tensors(self) -> dict[str, Tensor]:
        """What is stored, in half precision but for the scale."""
        tensors = {stored.SCALE: self.scale.detach()}
        if self.recipe.head == "prototypes":
            tensors[stored.PROTOTYPES] = self.projector.head.half()
        for name, pair in self.factors.items():
            for key, factor in zip(_stored_names(name), pair, strict=True):
                tensors[key] = factor.detach().half()
        return tensors

    def _as_stored(self, tensors: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
        """The logits of the projector with stored factors."""
        pairs = {}
        for name in self.factors:
            a, b = _stored_names(name)
            pairs[name] = tensors[a].float(), tensors[b].float()
        changed = with_increments(self.weights, pairs) | {"scale": tensors[stored.SCALE]}
        return lambda images: functional_call(self.projector, changed, (images,))

    def _decisions(self, logits_of: Callable[[Tensor], Tensor]) -> tuple[float, float]:
        """Percent of training images that are right, and that are decided as the weak teachers do."""
        right, alike, chosen = 0, 0, checked_images(self.training)
        with torch.inference_mode():
            for indices in chosen.split(_BATCH):
                images = self.training.images(indices)
                said = logits_of(images).argmax(dim=1)
                right += int((said == send(take(self.training.labels, indices), said.device)).sum())
                alike += int((said == self.wanted(images).argmax(dim=1)).sum())
        return 100 * right / len(chosen), 100 * alike / len(chosen)


def _stored_names(weight: str) -> tuple[str, str]:
    """The stored names of the factors of a weight of the projector: of one of its encoder's, or of its head."""
    return stored.increment_names(weight.removeprefix("encoder.").removesuffix(".weight"))
