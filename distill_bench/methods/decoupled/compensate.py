"""INFER: real images, and compensators that each are added to one image of every class at once.

Source: Zhang, Du, Liu & Zhou, "Breaking Class Barriers: Efficient Dataset Distillation via Inter-Class Feature
Compensator" (ICLR 2025), and zhangxin-xd/UFC 83d19f8.
"""

from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch import Tensor, nn

from distill_bench.augmentations import views
from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.compensators import IMAGES
from distill_bench.errors import UsageError
from distill_bench.methods.decoupled.recover import Curriculum, Recovery, check_crops, check_recovery
from distill_bench.methods.decoupled.relabel import RelabelConfig, relabel, teacher_of, teacher_pieces
from distill_bench.methods.loop import optimise
from distill_bench.methods.run import Piece, Run, SynthesisResult, method
from distill_bench.methods.selection.selection import random_indices, selected
from distill_bench.runtime.device import send
from distill_bench.runtime.progress import Stage, SubMonitor
from distill_bench.training.memory import training_bytes


class CompensateConfig(RelabelConfig):
    """Fields of INFER. Every teacher makes compensators, and all of them together label what is shown.

    Attributes:
        iterations: updates of every compensator; 0: nothing is added, so that images are shown again as they are.
        image_lr: of Adam, at the start; it follows a cosine to 0.
        image_betas: of Adam.
        bn_weight: of the batch-norm loss.
        first_bn_multiplier: of its first layer's term.
        crop: whether a random part of the images, one for all of them, is resized and mirrored at random (the mirror
            only if the dataset is flip-invariant).
        least_scale: the least share of the area that a crop may have.
        jitter: images are rolled by up to so many pixels down and right.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "bn_weight")
    curriculum: ClassVar[Curriculum] = "none"
    milestone: ClassVar[float] = 1.0
    jitter_both_ways: ClassVar[bool] = False

    iterations: NonNegativeInt
    image_lr: PositiveFloat
    image_betas: tuple[NonNegativeFloat, NonNegativeFloat] = (0.5, 0.9)
    bn_weight: NonNegativeFloat
    first_bn_multiplier: NonNegativeFloat = 10.0
    crop: bool = False
    least_scale: views.Share = 0.08
    jitter: NonNegativeInt = 0

    def images_a_class(self, ipc: int, classes: int) -> int:
        """⌊ipc / (1 + M / C)⌋ for M teachers and C classes: as many images a class as leave room for compensators.

        Raises:
            UsageError: there is not even one.
        """
        count = len(self.teachers)
        images = ipc * classes // (classes + count)
        if not images:
            least = -(-(classes + count) // classes)
            raise UsageError(
                f"an image of each of {classes} classes and {count} compensators are {classes + count} images, more "
                f"than the {ipc * classes} of the budget. Give `ipc={least}` or more."
            )
        return images

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError for labels and pixels that such sets cannot have, for values of crops without crops, or
        teachers without batch norm."""
        if self.labels != "soft":
            raise UsageError(
                f"`labels={self.labels}`: every image that is shown has a soft label of its own. Give soft; an "
                "evaluation may take the classes alone (`labels=hard`)."
            )
        if self.pixel_space == "zca":
            raise UsageError(
                "what compensators are added to is clipped to the pixels of pictures, which whitened ones have not. "
                "Give `pixel_space=normalized`, or unit."
            )
        super().check(dataset)
        check_crops(self.crop, least_scale=self.least_scale)
        check_recovery("compensators", self.jitter, [each.network for each in self.teachers], dataset)

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: an update of a compensator, or what a teacher takes, where that is more."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        updates = [training_bytes(each.network, shape, classes, classes) for each in self.teachers]
        return max(*updates, super().step_bytes(dataset, ipc))


class Compensation(Recovery):
    """The losses of one image of every class to all of which one compensator is added, which alone is updated.

    Args:
        run: of the compensator.
        network: the teacher's.
        real: one image of every class, in class order, on the device.
        added: the compensator, on the device; updated in place.
        number: of the compensator.
    """

    def __init__(
        self,
        run: Run[Any],
        network: nn.Module,
        real: Float[Tensor, "k c h w"],
        added: Float[Tensor, "1 c h w"],
        number: int,
    ) -> None:
        optimizer = self.optimizer(run.config, added)
        super().__init__(run, network, torch.arange(len(real), device=real.device), added, optimizer, number)
        self._real = real

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the compensator: the sum of the images' gradients."""
        loss, slopes = super().loss_and_grads(step)
        return loss, {"compensator": slopes["images"]}

    def view(self, images: Float[Tensor, "1 c h w"], step: int) -> Float[Tensor, "k c h w"]:
        """Of the images with the compensator."""
        return super().view(self._real + images, step)

    def after_step(self, step: int) -> None:
        """A compensator is not clipped; what it is added to is, where it is shown."""

    def last_iterate(self) -> Float[Tensor, "1 c h w"]:
        """The compensator after all updates, which the run's checkpoint keeps."""
        run, learnables, steps = self._run_of, {"compensator": self._images}, self._run_of.config.iterations
        if optimise(run, self, learnables, {"compensator": self._optimizer}, steps):
            finished = {"step": steps, "history": run.history, "learnables": learnables}
            run.checkpoint.save(finished | {"optimizers": {}, "objective": self.state()})
        return self._images


def _pieces(run: Run[CompensateConfig]) -> list[Piece]:
    """The compensators, none of which depends on another; without checkpoints nothing can be made apart."""
    paths = [run.checkpoint.part(f"compensator{number}").path for number in range(_count(run))]
    return [Piece(path, partial(_make_piece, run, number)) for number, path in enumerate(paths) if path is not None]


def _make_piece(run: Run[CompensateConfig], number: int) -> None:
    title = f"{run.method}, ipc {run.ipc}, seed {run.seed}: compensator {number + 1}"
    network = teacher_of(run, recipe=run.config.teachers[number // run.ipc]).network
    with run.monitor.stage(title, run.config.iterations) as stage:
        _compensator(run, network, _real_images(run).images, number, stage)


@method(CompensateConfig, pretrained=teacher_pieces, parts=_pieces)
def compensate(run: Run[CompensateConfig]) -> SynthesisResult:
    """Real images, the compensators of every block of them, and labels of all that is shown."""
    teachers = [teacher_of(run, recipe=recipe) for recipe in run.config.teachers]
    real, made = _real_images(run), []
    title = f"{run.method}, ipc {run.ipc}, seed {run.seed}"
    with run.monitor.stage(title, _count(run) * run.config.iterations) as stage:
        for number in range(_count(run)):
            network = teachers[number // run.ipc].network
            added, losses = _compensator(run, network, real.images, number, stage)
            made.append(added)
            run.history += losses
    by_teacher = torch.cat(made).unflatten(0, (len(teachers), run.ipc))
    real.stored = {IMAGES: by_teacher.transpose(0, 1).contiguous()}
    return relabel(run, teachers[0], real)


def _count(run: Run[CompensateConfig]) -> int:
    """How many compensators: one for every block and teacher, teacher by teacher."""
    return run.ipc * len(run.config.teachers)


def _real_images(run: Run[CompensateConfig]) -> SynthesisResult:
    """The first of those that ``random`` has."""
    return selected(run, random_indices(run))


def _compensator(
    run: Run[CompensateConfig], network: nn.Module, real: Float[Tensor, "n c h w"], number: int, stage: Stage
) -> tuple[Float[Tensor, "1 c h w"], list[float]]:
    """A compensator, on the CPU, and its losses. Its draws are its own, and its checkpoint."""
    block = send(real.unflatten(0, (run.classes, run.ipc))[:, number % run.ipc], run.device)

    def make(part: Run[CompensateConfig]) -> tuple[Tensor, list[float]]:
        part.monitor = SubMonitor(run.monitor, stage)
        part.method = f"{run.method} compensator {number + 1} of {_count(run)}"
        added = Compensation(part, network, block, torch.zeros_like(block[:1]), number).last_iterate()
        run.checkpoint.compiled = part.checkpoint.compiled
        return added.cpu(), part.history

    return run.part(f"compensator{number}", make)
