"""Recovering images from a trained network: SRe2L, and CDA, which brings the crops in gradually.

Noise is optimised until the network takes it for its class and its batch norms see the statistics they were trained
with. Source: Yin, Xing & Shen, "Squeeze, Recover and Relabel" (NeurIPS 2023); Yin & Shen, "Dataset Distillation via
Curriculum Data Synthesis in Large Data Era" (TMLR 2024); folders SRe2L and CDA of VILA-Lab/SRe2L 8d00cba.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.decoupled.relabel import RelabelConfig, relabel, teacher_of, teacher_pieces
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import PAYS_FLOPS
from distill_bench.methods.run import Piece, Run, SynthesisResult, method
from distill_bench.methods.selection.selection import random_indices
from distill_bench.networks import Observed, build_network
from distill_bench.runtime.device import send
from distill_bench.runtime.progress import Stage, SubMonitor
from distill_bench.training import compilation
from distill_bench.training.memory import training_bytes

Curriculum = Literal["none", "step", "linear", "cosine"]


class RecoverConfig(RelabelConfig):
    """Fields of SRe2L and CDA.

    Attributes:
        iterations: image updates of every batch.
        image_lr: of Adam, at the start; it follows a cosine to 0.
        image_betas: of Adam.
        bn_weight: of the batch-norm loss.
        first_bn_multiplier: of its first layer's term.
        classes_per_batch: a batch has one image each of so many classes, or of all where they are fewer.
        crop: whether a random part of the images, one for the whole batch, is resized and mirrored at random (the
            mirror only if the dataset is flip-invariant).
        least_scale: the least share of the area that a crop may have. This and the next two are of crops alone.
        curriculum: how the least share comes down to that from 1.
        milestone: the part of the iterations after which it is there.
        jitter: images are rolled by up to so many pixels on both axes.
        jitter_both_ways: in either direction, or only down and right.
        init: where images start: noise N(0, 1) in the pixel space, or the real images that ``random`` chooses.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "bn_weight")
    memory_fields: ClassVar[tuple[str, ...]] = ("classes_per_batch", "teacher.batch_size", "record.batch_size")
    LATER: ClassVar[tuple[str, ...]] = (*RelabelConfig.LATER, "init")

    iterations: PositiveInt
    image_lr: PositiveFloat
    image_betas: tuple[NonNegativeFloat, NonNegativeFloat] = (0.5, 0.9)
    bn_weight: NonNegativeFloat
    first_bn_multiplier: NonNegativeFloat = 10.0
    classes_per_batch: PositiveInt = 100
    crop: bool = True
    least_scale: views.Share = 0.08
    curriculum: Curriculum = "none"
    milestone: Annotated[float, Field(ge=0, le=1)] = 1.0
    jitter: NonNegativeInt = 0
    jitter_both_ways: bool = False
    init: Literal["noise", "real"] = "noise"

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError for values of crops without crops, for shifts larger than the images, or a teacher without
        batch norm to recover from."""
        super().check(dataset)
        check_crops(self.crop, curriculum=self.curriculum, milestone=self.milestone, least_scale=self.least_scale)
        check_recovery("images", self.jitter, [self.teacher.network], dataset)

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: an update of a batch of images, or what the teacher takes, where that is more."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        batch = min(self.classes_per_batch, classes)
        recovery = training_bytes(self.teacher.network, shape, classes, batch)
        return max(recovery, super().step_bytes(dataset, ipc))


def check_crops(crop: bool, **values: str | float) -> None:
    """Raise UsageError if there are no crops, and a value says how they are.

    Args:
        crop: whether there are.
        **values: of fields by name, which mean nothing without.

    Raises:
        UsageError: one of them is another than where nothing is said.
    """
    fields = RecoverConfig.model_fields
    idle = {name: fields[name].default for name, value in values.items() if value != fields[name].default}
    if idle and not crop:
        unsaid = " ".join(f"`{name}={default}`" for name, default in idle.items())
        raise UsageError(
            f"with `crop=false` nothing is cut out, so that {' and '.join(idle)} would do nothing. Set `crop=true`, or "
            f"what goes without saying: {unsaid}."
        )


def check_recovery(what: str, jitter: int, teachers: Sequence[str], dataset: Dataset) -> None:
    """Raise UsageError if something cannot be recovered from what batch norms know.

    Args:
        what: is recovered, such as ``"images"``.
        jitter: by how many pixels images are shifted.
        teachers: the names of their networks.
        dataset: whose images they were trained on.

    Raises:
        UsageError: shifts are larger than the images, or a network has no batch norm.
    """
    _, height, width = shape = dataset.train.shape
    if jitter > min(height, width):
        raise UsageError(
            f"jitter {jitter} shifts images of {dataset.name} by more than their {height}×{width} px. Give "
            f"`jitter={min(height, width)}` or less."
        )
    for name in teachers:
        network = build_network(name, shape, len(dataset.class_names), torch.Generator())
        if not any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules()):
            raise UsageError(
                f"{what} are recovered from the statistics of a teacher's batch norms, and {name} has none. Give a "
                "network such as ConvNetBN, or ResNet18BN."
            )


def batches_of(run: Run[RecoverConfig]) -> list[Int64[Tensor, " b"]]:
    """The rows of every batch."""
    return class_batches(run.classes, run.config.classes_per_batch, run.ipc)


def _batch_pieces(run: Run[RecoverConfig]) -> list[Piece]:
    """The batches, none of which depends on another; without checkpoints nothing can be made apart."""
    paths = [run.checkpoint.part(f"batch{number}").path for number in range(len(batches_of(run)))]
    return [Piece(path, partial(_make_batch, run, number)) for number, path in enumerate(paths) if path is not None]


def _make_batch(run: Run[RecoverConfig], number: int) -> None:
    network, title = teacher_of(run).network, f"{run.method}, ipc {run.ipc}, seed {run.seed}: batch {number + 1}"
    with run.monitor.stage(title, run.config.iterations) as stage:
        _recovered_batch(run, network, number, stage)


@method(RecoverConfig, pretrained=teacher_pieces, parts=_batch_pieces)
def recover(run: Run[RecoverConfig]) -> SynthesisResult:
    """Squeeze (a teacher is trained, or found), recover, relabel."""
    teacher = teacher_of(run)
    return relabel(run, teacher, SynthesisResult(recovered_images(run, teacher.network), run.labels))


def recovered_images(
    run: Run[Any],
    network: nn.Module,
    start: Float[Tensor, "n c h w"] | None = None,
    objective: type["Recovery"] | None = None,
) -> Float[Tensor, "n c h w"]:
    """All images in class order, on the CPU, recovered batch by batch.

    Args:
        run: of the set.
        network: the teacher's.
        start: the images before, on the CPU; None: those of ``init``.
        objective: instead of ``Recovery``.

    Returns:
        The images.
    """
    batches = batches_of(run)
    images = torch.empty(run.classes * run.ipc, *run.training.shape)
    title = f"{run.method}, ipc {run.ipc}, seed {run.seed}"
    with run.monitor.stage(title, len(batches) * run.config.iterations) as stage:
        for number, rows in enumerate(batches):
            before = None if start is None else start[rows]
            images[rows], losses = _recovered_batch(run, network, number, stage, before, objective)
            run.history += losses
    return images


def _recovered_batch(
    run: Run[RecoverConfig],
    network: nn.Module,
    number: int,
    stage: Stage,
    start: Float[Tensor, "b c h w"] | None = None,
    objective: type["Recovery"] | None = None,
) -> tuple[Float[Tensor, "b c h w"], list[float]]:
    """A batch, on the CPU, and its losses. Its draws are its own, and its checkpoint, which keeps the finished batch.

    Args:
        run: of the whole set.
        network: the teacher's.
        number: which batch.
        stage: that its steps count for.
        start, objective: as for ``recover_batch``.

    Returns:
        Images [b, c, h, w], and the loss of every step.
    """
    batches = batches_of(run)

    def make(part: Run[RecoverConfig]) -> tuple[Tensor, list[float]]:
        part.monitor, part.method = SubMonitor(run.monitor, stage), f"{run.method} batch {number + 1} of {len(batches)}"
        images = recover_batch(part, network, run.labels[batches[number]], number, start, objective)
        run.checkpoint.compiled = part.checkpoint.compiled
        return images.cpu(), part.history

    return run.part(f"batch{number}", make)


def recover_batch(
    run: Run[RecoverConfig],
    network: nn.Module,
    labels: Int64[Tensor, " b"],
    number: int,
    start: Float[Tensor, "b c h w"] | None = None,
    objective: type["Recovery"] | None = None,
) -> Float[Tensor, "b c h w"]:
    """The last iterate of batch ``number``.

    Args:
        run: of the batch.
        network: the teacher's.
        labels: of the batch.
        number: which batch.
        start: its images before; None: those of ``init``.
        objective: instead of ``Recovery``.

    Returns:
        The images, on the run's device.
    """
    config, chosen = run.config, objective or Recovery
    images = send(_initial_images(run, len(labels), number) if start is None else start.clone(), run.device)
    optimizer = chosen.optimizer(config, images)
    recovery = chosen(run, network, send(labels, run.device), images, optimizer, number)
    if optimise(run, recovery, {"images": images}, {"images": optimizer}, config.iterations):
        finished = {"step": config.iterations, "history": run.history, "learnables": {"images": images}}
        run.checkpoint.save(finished | {"optimizers": {}, "objective": recovery.state()})
    return images


def _initial_images(run: Run[RecoverConfig], count: int, number: int) -> Float[Tensor, "b c h w"]:
    """Where batch ``number`` starts: noise, or the real images that ``random`` has in its rows."""
    if run.config.init == "real":
        return run.training.images(random_indices(run)[batches_of(run)[number]])
    return torch.randn(count, *run.training.shape, generator=run.generator("initial images", number))


class Recovery(Objective):
    """Classification loss and batch-norm loss of one batch, seen through one crop, mirror and shift a step."""

    def __init__(
        self,
        run: Run[Any],
        network: nn.Module,
        labels: Int64[Tensor, " b"],
        images: Float[Tensor, "n c h w"],
        optimizer: torch.optim.Optimizer,
        number: int,
    ) -> None:
        self._run_of, self._labels = run, labels
        self._images, self._optimizer, self._number = images, optimizer, number
        self._watched = watched(network)
        flops = compilation.flops_of(network, run.training.shape)
        passes = 3 * len(run.labels) * run.config.iterations  # of all batches: they run the same code
        self._choose(compilation.decide("auto", run.device, passes * flops, PAYS_FLOPS))

    @staticmethod
    def optimizer(config: Any, images: Float[Tensor, "b c h w"]) -> torch.optim.Optimizer:
        """Of the images: Adam."""
        return torch.optim.Adam([images], lr=config.image_lr, betas=config.image_betas)

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        config = self._run_of.config
        for group in self._optimizer.param_groups:
            group["lr"] = annealed(config.image_lr, step, config.iterations)
        leaf = self._images.detach().requires_grad_()
        shown = self.view(leaf, step)
        seen = shown.detach().requires_grad_()  # what is compiled begins at a leaf
        loss = self._loss(seen, self._labels, config.bn_weight, config.first_bn_multiplier)
        (slope,) = torch.autograd.grad(loss, seen)
        (gradient,) = torch.autograd.grad(shown, leaf, slope)
        return loss.detach(), {"images": gradient}

    def after_step(self, step: int) -> None:
        self._images.copy_(self._run_of.training.clip(self._images))

    def state(self) -> dict[str, Any]:
        return {"compiled": self._run_of.checkpoint.compiled}

    def restore(self, state: dict[str, Any]) -> None:
        self._choose(compilation.resume_mode(state.get("compiled", False)))

    def _choose(self, compiled: bool) -> None:
        self._run_of.checkpoint.compiled = compiled
        passes = compilation.compiled if compiled else partial
        self._loss: Callable[..., Tensor] = passes(recovery_loss, self._watched)

    def view(self, images: Float[Tensor, "b c h w"], step: int) -> Float[Tensor, "b c h w"]:
        """What the network is shown at a step. Crop, mirror and shift draw from streams of their own."""
        run, config = self._run_of, self._run_of.config
        _, height, width = run.training.shape
        if config.crop:
            scale = least_scale(config.curriculum, step, config.iterations, config.milestone, config.least_scale)
            region = views.sample_crops(1, height, width, (scale, 1.0), self._draws("crop", step))
            images = views.crop(send(region, images.device), images)
            mirrored = (torch.rand(1, generator=self._draws("mirror", step)) < 0.5) & run.training.flip_invariant
            images = views.mirror(send(mirrored, images.device), images)
        lowest = -config.jitter if config.jitter_both_ways else 0
        shifts = torch.randint(lowest, config.jitter + 1, (2,), generator=self._draws("jitter", step))
        return images.roll(shifts.tolist(), (2, 3))

    def _draws(self, role: str, step: int) -> torch.Generator:
        return self._run_of.generator(f"{role} of batch {self._number}", step)


def class_batches(classes: int, most: int, ipc: int) -> list[Int64[Tensor, " b"]]:
    """For each batch the rows it has of a set in class order: image k of up to ``most`` different classes."""
    return [labels * ipc + image for image in range(ipc) for labels in torch.arange(classes).split(most)]


def least_scale(curriculum: Curriculum, step: int, steps: int, milestone: float, lowest: float) -> float:
    """The least share of the image's area that a crop has at a step of CDA.

    From 1 at step 0 (whole images, easy) to ``lowest`` at step ``milestone`` × ``steps`` and after (parts, hard):
    at once, linearly, or along half a wave of a cosine. ``none`` is ``lowest`` throughout, which is SRe2L.
    """
    end = milestone * steps
    if curriculum == "none" or step >= end:
        return lowest
    part = {"step": 1.0, "linear": 1 - step / end, "cosine": (1 + math.cos(math.pi * step / end)) / 2}[curriculum]
    return lowest + (1 - lowest) * part


def annealed(rate: float, step: int, steps: int) -> float:
    """Half a wave of a cosine from ``rate`` at step 0 to 0 after the last."""
    return rate * (1 + math.cos(math.pi * step / steps)) / 2


def watched(network: nn.Module) -> Observed:
    """The network, whose batch norms leave the distance of their input from their statistics."""

    def note(layer: Any, inputs: Tensor, output: Tensor) -> Tensor:
        return statistics_distance(inputs, layer.running_mean, layer.running_var)

    return Observed(network, (nn.BatchNorm2d,), note)


def recovery_loss(watched: Observed, images: Tensor, labels: Tensor, weight: float, first: float) -> Tensor:
    """Cross-entropy (nats), and ``weight`` times the batch norms' distances, the first one's ``first`` times.

    Args:
        watched: the teacher, as the function of that name gives it.
        images: normalised, float [b, c, h, w].
        labels: int64 [b].
        weight: of the batch-norm loss.
        first: see ``weighted_sum``.

    Returns:
        A scalar.
    """
    watched.notes.clear()
    classification = F.cross_entropy(watched.network(images), labels)
    return classification + weight * weighted_sum(watched.notes, first)


def statistics_distance(
    maps: Float[Tensor, "b c h w"], mean: Float[Tensor, " c"], variance: Float[Tensor, " c"]
) -> Float[Tensor, ""]:
    """‖mean(maps) − mean‖₂ + ‖var(maps) − variance‖₂: one layer's term.

    Both over batch and positions; the variance is the biased one. Plain norms, not squared.
    """
    batch_variance, center = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
    return torch.linalg.vector_norm(center - mean) + torch.linalg.vector_norm(batch_variance - variance)


def weighted_sum(distances: list[Float[Tensor, ""]], first: float) -> Float[Tensor, ""]:
    """The sum of all layers' distances, the first one's ``first`` times."""
    return first * distances[0] + sum(distances[1:])
