"""The hyper-parameters of backpropagation through training."""

from itertools import accumulate
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from distill_bench.augmentations import dsa
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.finished_sets import BY_CONTENT, is_finished_set, one_of
from distill_bench.methods.formation import FormationConfig
from distill_bench.methods.matching import FlipConfig, chunk_of, has_batch_norm, images_at_once
from distill_bench.networks import activation_values, blank_network
from distill_bench.training import compilation
from distill_bench.training.steps import SGD, Adam, Rule

_HIGHEST_RATE = 1e30
"""Which torch's Adam can divide by its first bias correction."""
_STEP_FACTOR = 5.2
"""What a step back holds, as a multiple of ``activation_values``: as of trajectory matching."""
_VECTORS = 6
"""As long as the parameters, beside those of the window's steps."""


class UnrolledConfig(FormationConfig, FlipConfig):
    """Fields of backpropagation through training. An outer step is one training and one update.

    Attributes:
        network: that is trained.
        iterations: outer steps; with ``blocks`` those of every block.
        total: T, the steps of the longest training.
        window: W, through how many of its last steps the loss is differentiated.
        window_from: whether a window ends anywhere from step W to T, or at T (``end``), or where the stages of
            AT-BPTT say (``staged``), which also change its length; see ``curriculum``.
        window_spread: d of the stages: a window has W − d to W + d steps.
        stage_gains, stage_patience: a stage ends when the accuracy on the real batches has risen by less than so many
            percent, in so many passes over the real images in a row, as a part of T.
        late_windows: where windows of the third stage start: the mirror image in T of what the first draws
            (``mirrored``, the code), or where gradients are small (``unlikely``, the paper).
        optimizer: of the inner steps, SGD or Adam with torch's betas.
        inner_lr: its rate, where it starts if it is learned.
        inner_momentum: of SGD.
        inner_decay: its weight decay, on all parameters.
        images_per_class: so many random images of every class an inner step, of a formation so many of those it holds;
            0: all.
        classes_per_step: so many random classes an inner step; 0: all.
        operations: of DSA, which are drawn from.
        losses: after so many steps of the window, evenly spaced to its end, the loss on real images is taken; L is
            their mean.
        real_batch: real images a loss, drawn from the whole training split.
        image_lr: of the Adam that updates the images.
        label_lr: of the Adam that updates the labels, which start as one-hot rows, stay at 0 or above, and are targets
            as they are: their sum is the weight of their image. 0: labels are classes.
        rate_lr: of the Adam that updates the logarithm of the inner rate; 0: it stays, as beside blocks with SGD.
        clip, clip_decay: the gradient of the images is cut to ``clip`` times a moving average of its length, which
            keeps ``clip_decay`` of itself at a step; ``clip`` = 0: it is not.
        init: real images of the class at random; those that greedy k-center picks, or those nearest the centres of
            k-means, both by the embeddings of a random network; noise of which every image has length 1
            (``noise-sphere``); or the images of a finished set, see ``warm_start``.
        blocks: images per class that are learned one block after the other, which sum to the set's: the first k blocks
            are a set of their own. Empty: all at once.
        old_blocks: the rates of images and labels of earlier blocks are multiplied by it; 0: they stay.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "label_lr", "inner_lr", "rate_lr")
    memory_fields: ClassVar[tuple[str, ...]] = ("images_per_class", "window", "real_batch")
    LATER: ClassVar[tuple[str, ...]] = (
        *FormationConfig.LATER, "window_spread", "late_windows", "classes_per_step", "label_lr", "old_blocks"
    )  # fmt: skip

    network: str = "ConvNet"
    iterations: PositiveInt
    total: PositiveInt
    window: PositiveInt
    window_from: Literal["uniform", "end", "staged"] = "uniform"
    window_spread: NonNegativeInt = 0
    stage_gains: tuple[float, float] = (1.5, 1.0)
    stage_patience: tuple[PositiveFloat, PositiveFloat] = (0.15, 0.125)
    late_windows: Literal["mirrored", "unlikely"] = "mirrored"
    optimizer: Literal["sgd", "adam"] = "adam"
    inner_lr: PositiveFloat
    inner_momentum: NonNegativeFloat = Field(0.0, lt=1)
    inner_decay: NonNegativeFloat = 0.0
    images_per_class: NonNegativeInt = 0
    classes_per_step: NonNegativeInt = 0
    operations: tuple[Literal["color", "crop", "cutout", "flip", "scale", "rotate"], ...] = Field(
        dsa.OPERATIONS,  # type: ignore[arg-type]
        min_length=1,
    )
    losses: PositiveInt = 1
    real_batch: PositiveInt
    image_lr: PositiveFloat = Field(le=_HIGHEST_RATE)
    label_lr: NonNegativeFloat = Field(0.0, le=_HIGHEST_RATE)
    rate_lr: NonNegativeFloat = Field(0.0, le=_HIGHEST_RATE)
    clip: NonNegativeFloat = 2.0
    clip_decay: NonNegativeFloat = Field(0.9, lt=1)
    init: Annotated[str, AfterValidator(one_of("real", "k-center", "k-means", "noise-sphere")), BY_CONTENT] = "real"
    blocks: tuple[PositiveInt, ...] = ()
    old_blocks: NonNegativeFloat = Field(0.0, le=1)
    compiled: compilation.Choice = "auto"

    @model_validator(mode="after")
    def _windows_exist(self) -> "UnrolledConfig":
        if self.window > self.total:
            raise ValueError(f"a window of {self.window} steps is longer than the training of total = {self.total}")
        if self.window_spread and self.window_from != "staged":
            raise ValueError('window_spread is of the stages: it needs window_from = "staged"')
        if not self.window_spread < self.window <= self.total - self.window_spread:
            raise ValueError(
                f"windows of {self.window} ± {self.window_spread} steps: they need one at least, and total = "
                f"{self.total} at most"
            )
        if self.losses > (shortest := self.window - self.window_spread):
            raise ValueError(f"losses = {self.losses}: a window of {shortest} steps has no more ends of steps")
        if self.optimizer == "adam" and self.inner_momentum:
            raise ValueError("inner_momentum is SGD's: leave it out with optimizer = adam")
        if self.blocks and self.rate_lr and self.optimizer == "sgd":
            raise ValueError(
                "rate_lr goes on moving after the first blocks, which are to be sets of their own, and a set has one "
                "rate: give rate_lr = 0 or blocks = []"
            )
        if self.old_blocks and not self.blocks:
            raise ValueError("old_blocks is of earlier blocks: it needs blocks")
        return self

    @property
    def begins_with_real_images(self) -> bool:
        """Whether they are not noise, or a finished set's."""
        return self.init != "noise-sphere" and not is_finished_set(self.init)

    @property
    def labels_are_classes(self) -> bool:
        """Not where they are learned."""
        return not self.label_lr

    @property
    def rule(self) -> Rule:
        """Of the inner optimiser."""
        if self.optimizer == "adam":
            return Adam(weight_decay=self.inner_decay)
        return SGD(self.inner_momentum, weight_decay=self.inner_decay)

    def sizes(self, ipc: int) -> tuple[int, ...]:
        """Images per class of every block.

        Raises:
            UsageError: they do not sum to the set's.
        """
        sizes = self.blocks or (ipc,)
        if sum(sizes) != ipc:
            raise UsageError(
                f"`blocks={list(sizes)}` have {sum(sizes)} images per class, the set has {ipc}: give blocks that sum "
                f"to {ipc}, or none (`blocks=[]`)."
            )
        return sizes

    def shown(self, ipc: int, classes: int) -> int:
        """How many images an inner step is of, where ``ipc`` are stored a class."""
        of_class = ipc * self.formation**2
        chosen = min(self.images_per_class or of_class, of_class) * min(self.classes_per_step or classes, classes)
        return chosen * (2 if self.flip else 1)

    def images_shown(self, ipc: int, classes: int) -> int:
        """How many images pass in the inner steps of all outer ones, a step of the window counted four times."""
        burnt = (self.total - self.window) / (1 if self.window_from == "end" else 2)
        present = sum(self.shown(some, classes) for some in accumulate(self.blocks or (ipc,)))
        return int(self.iterations * (burnt + 4 * self.window) * present)

    def real_at_once(self, count: int, shape: tuple[int, int, int], classes: int) -> int:
        """How many of the real images of a loss go through the network at once.

        Args:
            count: of a loss.
            shape: (channels, height, width) of the images.
            classes: of the dataset.

        Returns:
            The number; all with batch norm, whose statistics are over the whole batch.

        Raises:
            UsageError: there is no such network, or the memory limit is no amount.
        """
        if has_batch_norm(self.network, shape, classes):
            return count
        return chunk_of(count, images_at_once(self.network, shape, classes)[1])

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if images would be mirrored that may not be, or nothing is left of the augmentation."""
        super().check(dataset)
        if self.augment == "dsa" and not dsa.usual_operations(dataset.flip_invariant, self.operations):
            raise UsageError(
                f"`operations={list(self.operations)}`: a mirrored image of {dataset.name} may not keep its label, and "
                'there is no other operation. Add one, or leave augmentation out (`augment="none"`).'
            )

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: a step's batch, or the real images at once, and what is kept of every step of the window."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        _, values = activation_values(self.network, shape, classes)
        weights = sum(p.numel() for p in blank_network(self.network, shape, classes).parameters())
        at_once = self.real_at_once(self.real_batch, shape, classes)
        kept = 2 + len(self.rule.begin(torch.zeros(0))) + (0 if self.rule.plain else 1)
        vectors = (self.window + self.window_spread) * kept + _VECTORS
        return int(4 * (max(_STEP_FACTOR * self.shown(ipc, classes), at_once) * values + vectors * weights))
