"""Trajectory matching: MTT, TESLA, FTD, DATM and AST.

A student that takes a few steps on the synthetic images from an expert's parameters should arrive where the expert
arrived after some epochs on real data.

Sources: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (CVPR 2022), Alg. 1; Cui et al.,
"Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory" (ICML 2023); Du et al., "Minimizing the
Accumulated Trajectory Error to Improve Dataset Distillation" (CVPR 2023); Guo et al., "Towards Lossless Dataset
Distillation via Difficulty-Aligned Trajectory Matching" (ICLR 2024); Shen et al., "AST: Effective Dataset Distillation
through Alignment with Smooth and High-Quality Expert Trajectories" (2023), arXiv 2310.10541. Where those leave a detail
open, their code.
"""

import math
from collections.abc import Set
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Generator, Tensor
from torch.optim import Optimizer

from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import flipped
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import RunFailed, UsageError
from distill_bench.methods.experts import ExpertConfig, expert_pieces, experts_asked_for
from distill_bench.methods.finished_sets import BY_CONTENT, one_of
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import FlipConfig, draw_dsa
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.methods.trajectory_matching.gradient import Waypoint, trajectory_gradient
from distill_bench.methods.trajectory_matching.start import beginning, logits_at, perturbed
from distill_bench.networks import activation_values, blank_network, build_network
from distill_bench.pretrained.experts import Experts, parameter_shapes
from distill_bench.runtime.device import send
from distill_bench.training import compilation
from distill_bench.training.student import Batch, Student
from distill_bench.training.window import GradientKind

_STEP_FACTOR, _UNROLLED_FACTOR = 5.2, 1.9
"""What a step back holds, and each step of an unrolled graph, as multiples of ``activation_values``: measured."""


class TrajectoryConfig(ExpertConfig, FlipConfig):
    """An iteration is one segment of one expert and one update.

    Attributes:
        iterations: how many.
        gradient: of the matching loss, see ``trajectory_gradient``.
        compiled: whether the student's derivatives go through torch.compile: on, off, or where the run is long enough.
        student_steps: N.
        student_batch: synthetic images a step; 0: all. With ``flip`` half as many, and their mirror images, as in FYI.
        segment: (T⁻, T, T⁺). A segment starts at an epoch from T⁻ to U − 1; U grows from T to T⁺.
        segment_growth: the number of iterations that takes.
        segment_epochs: M, how many epochs of the expert a segment has.
        init: real images of the class, those that an expert classifies correctly (DATM), those nearest the centres of
            k-means on an expert's logits (``representative``, AST), noise N(0, 1), or the images of a finished set, see
            ``warm_start``.
        labels: classes; ``teacher``: at every iteration the logits of the segment's last snapshot (TESLA); ``learned``:
            logits that start as the experts' (DATM) and are optimised.
        image_lr, image_momentum: of the SGD that updates the images.
        image_gradient_scale: multiplies their gradient.
        label_lr, label_momentum: of the SGD of learned labels.
        student_lr: where the student's learned learning rate starts.
        rate_lr, rate_momentum: of its SGD.
        loss_gate: an iteration whose loss is above it updates nothing; 0: all do.
        ema_decay: the set's images are the moving average S ← d·S + (1−d)·images (FTD); 0: the images themselves.
        student_momentum: of the student's steps (AST).
        waypoints: whether the student is to be where the expert was after each epoch of the segment too, after as many
            steps each (AST): no; with a weight of 1; or of k/M after epoch k of M.
        perturbation: α: a segment starts at W + α·W∘δ/‖δ‖ for every convolution W, δ ~ N(0, 1) (AST).
        balanced_loss: whether the student's loss is weighted by where the segment starts, see ``balance`` (AST).
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "rate_lr", "student_lr", "label_lr", "expert.learning_rate")
    memory_fields: ClassVar[tuple[str, ...]] = ("student_batch", "student_steps", "expert.batch_size")
    LATER: ClassVar[tuple[str, ...]] = ("student_momentum", "waypoints", "perturbation", "balanced_loss")

    iterations: PositiveInt
    gradient: GradientKind = "exact"
    compiled: compilation.Choice = "auto"
    student_steps: PositiveInt
    student_batch: NonNegativeInt = 0
    segment: tuple[NonNegativeInt, PositiveInt, PositiveInt]
    segment_growth: PositiveInt = 1
    segment_epochs: PositiveInt
    init: Annotated[str, AfterValidator(one_of("real", "correct", "representative", "noise")), BY_CONTENT] = "real"
    labels: Literal["hard", "teacher", "learned"] = "hard"
    image_lr: PositiveFloat
    image_momentum: NonNegativeFloat = 0.5
    image_gradient_scale: PositiveFloat = 1.0
    label_lr: NonNegativeFloat = 0.0
    label_momentum: NonNegativeFloat = 0.9
    student_lr: PositiveFloat
    rate_lr: NonNegativeFloat
    rate_momentum: NonNegativeFloat = 0.5
    loss_gate: NonNegativeFloat = 0.0
    ema_decay: NonNegativeFloat = Field(0.0, lt=1)
    student_momentum: NonNegativeFloat = Field(0.0, lt=1)
    waypoints: Literal["none", "equal", "rising"] = "none"
    perturbation: NonNegativeFloat = 0.0
    balanced_loss: bool = False

    @property
    def labels_are_classes(self) -> bool:
        """Not where an expert labels, or labels are learned."""
        return self.labels == "hard"

    def misplaced(self, changed: Set[str]) -> str | None:
        """Of rates of labels that are not learned."""
        idle = sorted({"label_lr", "label_momentum"} & changed)
        if not idle or self.labels == "learned":
            return super().misplaced(changed)
        return (
            f"{' and '.join(idle)} go with learned labels; here labels are {self.labels}. Set labels=learned as well, "
            "or leave it out."
        )

    @model_validator(mode="after")
    def _segments_exist(self) -> "TrajectoryConfig":
        low, first, last = self.segment
        if not low < first <= last:
            raise ValueError(f"segment {self.segment}: needs T⁻ < T ≤ T⁺")
        if not self.experts_from and last - 1 + self.segment_epochs > self.expert.epochs:
            raise ValueError(
                f"segments start before epoch {last} and have {self.segment_epochs} epochs; experts have "
                f"{self.expert.epochs}. Lower segment, or raise expert.epochs"
            )
        return self

    @model_validator(mode="after")
    def _learned_labels_have_a_rate(self) -> "TrajectoryConfig":
        if self.labels == "learned" and not self.label_lr:
            raise ValueError("labels = learned needs label_lr > 0: with 0 they would stay as they start")
        return self

    @model_validator(mode="after")
    def _waypoints_exist(self) -> "TrajectoryConfig":
        if self.gradient == "tesla" and (self.student_momentum or self.waypoints != "none"):
            raise ValueError(
                "TESLA's gradient is not defined for student_momentum or waypoints: give gradient = exact or unrolled"
            )
        if self.waypoints != "none" and not 2 <= self.segment_epochs <= self.student_steps:
            raise ValueError(
                f"waypoints are the ends of a segment's epochs but its last, after as many steps each: with "
                f"segment_epochs = {self.segment_epochs} and student_steps = {self.student_steps} there are none. "
                "Raise segment_epochs to 2 at least, and student_steps to no fewer"
            )
        return self

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: a step's batch and the parameters of all steps; of ``unrolled`` all steps' graphs. Or an expert's
        step, where that is more."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        _, values = activation_values(self.network, shape, classes)
        weights = sum(p.numel() for p in blank_network(self.network, shape, classes).parameters())
        count = classes * ipc
        shown = min(self.student_batch or count, count)
        graphs = self.student_steps * _UNROLLED_FACTOR if self.gradient == "unrolled" else _STEP_FACTOR
        activations = shown * values * max(graphs, _STEP_FACTOR)
        vectors = self.student_steps * (3 if self.student_momentum else 1) + 4
        step = int(4 * (activations + vectors * weights + 5 * count * math.prod(shape)))
        return max(step, self.expert_bytes(dataset))


def experts_of(run: Run[TrajectoryConfig]) -> Experts:
    """The experts that a run's recipe asks for.

    Raises:
        UsageError: imported ones are not there, or too short.
    """
    config, experts = run.config, experts_asked_for(run)
    if experts.epochs < config.segment[-1] - 1 + config.segment_epochs:
        raise UsageError(
            f"the imported experts have {experts.epochs} epochs; segments of {config.segment_epochs} that start before "
            f"epoch {config.segment[-1]} do not fit. Lower `segment=…` or segment_epochs."
        )
    return experts


def latest_start(segment: tuple[int, int, int], growth: int, step: int) -> int:
    """U: segments of iteration ``step`` start before this epoch (DATM): min(T + ⌊(T⁺ − T)·step/growth⌋, T⁺)."""
    _, first, last = segment
    return min(first + (last - first) * step // growth, last)


def balance(start: int, latest: int) -> float:
    """AST's weight of the student's loss in a segment that starts at an epoch: from below 1 early to above 1 late.

    Args:
        start: t.
        latest: T, before which segments start.

    Returns:
        log₅(t − h + 8) from h = ⌊T/2⌋ on, and 1 / log₅(h − t + 8) before.
    """
    late = start - latest // 2
    return math.log(late + 8, 5) if late >= 0 else 1 / math.log(8 - late, 5)


def work(run: Run[TrajectoryConfig]) -> float:
    """Floating-point operations of all iterations: a step has a gradient's 3 passes, and some 8 for its derivative."""
    config, weights = run.config, run.generator("shapes")
    network = build_network(config.network, run.training.shape, run.classes, weights)
    images = config.iterations * config.student_steps * (config.student_batch or len(run.labels))
    return compilation.training_flops(network, run.training.shape, images) * (3 + 8) / 3


@method(TrajectoryConfig, pretrained=expert_pieces)
def trajectory_matching(run: Run[TrajectoryConfig]) -> SynthesisResult:
    """MTT and what followed it."""
    config, experts = run.config, experts_of(run)
    objective = TrajectoryMatching(run, experts)
    rates = {
        "images": (config.image_lr, config.image_momentum),
        "labels": (config.label_lr, config.label_momentum),
        "learning_rate": (config.rate_lr, config.rate_momentum),
    }
    learnables = objective.learnables
    optimizers: dict[str, Optimizer] = {
        name: torch.optim.SGD([tensor], lr=rates[name][0], momentum=rates[name][1])
        for name, tensor in learnables.items()
    }
    optimise(run, objective, learnables, optimizers, config.iterations)
    if config.loss_gate and min(run.history) > config.loss_gate:
        raise RunFailed(
            f"the lowest loss of {config.iterations} iterations was {min(run.history):.3g}, above loss_gate = "
            f"{config.loss_gate:g}: nothing was learned. Raise `loss_gate=…`, or student_lr."
        )
    return objective.result()


class TrajectoryMatching(Objective):
    """Matches one segment a step. Learns images, the student's rate, and labels where the recipe says so."""

    def __init__(self, run: Run[TrajectoryConfig], experts: Experts) -> None:
        config = run.config
        self._run_of, self._experts = run, experts
        self._student = self._new_student(compilation.decide(config.compiled, run.device, work(run)))
        self._images, self._labels = beginning(run, experts, self._student)
        self._rate = torch.tensor(config.student_lr, device=run.device)
        self._average = self._images.clone() if config.ema_decay else None

    @property
    def learnables(self) -> dict[str, Tensor]:
        """What is optimised, by name."""
        labels = {"labels": self._labels} if self._run_of.config.labels == "learned" else {}
        return {"images": self._images, **labels, "learning_rate": self._rate}

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        config = self._run_of.config
        epoch, start, between, target = self._segment(step)
        if config.labels == "teacher":
            self._labels = logits_at(self._run_of, self._student, target, self._images)
        gradient = trajectory_gradient(
            self._student,
            start,
            target,
            self._images,
            self._labels,
            self._rate,
            self._batches(self._run_of.generator("student", step)),
            config.gradient,
            momentum=config.student_momentum,
            waypoints=between,
            scale=balance(epoch, config.segment[-1]) if config.balanced_loss else 1.0,
        )
        loss = gradient.loss
        if config.loss_gate and loss > config.loss_gate:  # the host waits for it
            return loss, {}
        gradients = {"images": gradient.images * config.image_gradient_scale, "learning_rate": gradient.learning_rate}
        if config.labels == "learned":
            assert gradient.labels is not None
            gradients["labels"] = gradient.labels
        return loss, gradients

    def check(self, ranges: dict[str, tuple[float, float]]) -> None:
        """Raise RunFailed if the learned rate is no longer positive."""
        rate, _ = ranges["learning_rate"]
        if not rate > 0:
            raise RunFailed(
                f"the student's learned learning rate has become {rate:.3g}; it must be positive. "
                "Lower its own rate (`rate_lr=…`) or start it higher (`student_lr=…`)."
            )

    def after_step(self, step: int) -> None:
        """Average the images."""
        if self._average is not None:
            self._average.lerp_(self._images, 1 - self._run_of.config.ema_decay)

    def result(self) -> SynthesisResult:
        """The set as it is now."""
        soft = self._run_of.config.labels != "hard"
        return SynthesisResult(
            self._images if self._average is None else self._average,
            self._run_of.labels,
            soft_labels=self._labels if soft else None,
            label_kind="logits" if soft else "hard",
            learning_rate=float(self._rate),
        )

    def state(self) -> dict[str, Any]:
        teacher = {"labels": self._labels} if self._run_of.config.labels == "teacher" else {}
        average = {} if self._average is None else {"average": self._average}
        return {"compiled": self._run_of.checkpoint.compiled} | teacher | average

    def restore(self, state: dict[str, Any]) -> None:
        if (was := compilation.resume_mode(state["compiled"])) != self._run_of.checkpoint.compiled:
            self._student = self._new_student(was)
        self._labels = state.get("labels", self._labels).to(self._run_of.device)
        if self._average is not None:
            self._average.copy_(state["average"])

    def _new_student(self, compiled: bool) -> Student:
        run = self._run_of
        run.checkpoint.compiled = compiled
        network = build_network(run.config.network, run.training.shape, run.classes, run.generator("shapes"))
        return Student(network.to(run.device), compiled=compiled)

    def _segment(self, step: int) -> tuple[int, Float[Tensor, " p"], list[Waypoint], Float[Tensor, " p"]]:
        """t, θ_0, what lies between, θ*_{t+M}: the experts in shuffled rounds, t uniform over the schedule's epochs."""
        run, config, count = self._run_of, self._run_of.config, len(self._experts)
        order = torch.randperm(count, generator=run.generator("experts", step // count))
        limits = config.segment[0], latest_start(config.segment, config.segment_growth, step)
        epoch = int(torch.randint(*limits, (), generator=run.generator("segment", step)))
        expert, last = int(order[step % count]), config.segment_epochs

        def snapshot(after: int) -> Tensor:
            return send(self._experts.snapshot(expert, epoch + after), run.device)

        start, target = snapshot(0), snapshot(last)
        if config.perturbation:
            shapes = parameter_shapes(run.training, config.network)
            start = perturbed(start, shapes, config.perturbation, run.generator("perturbation", step))
        between = [
            Waypoint(config.student_steps // last * k, snapshot(k), 1.0 if config.waypoints == "equal" else k / last)
            for k in range(1, last if config.waypoints != "none" else 1)
        ]
        return epoch, start, between, target

    def _batches(self, draws: Generator) -> list[Batch]:
        """The student's mini-batches: random permutations of the set, cut from the end, each batch with its DSA."""
        config, count = self._run_of.config, len(self._images)
        size = min(config.student_batch or count, count)
        size = max(1, size // 2) if config.flip else size
        pending: list[Tensor] = []
        batches = []
        for _ in range(config.student_steps):
            if not pending:
                pending = list(torch.randperm(count, generator=draws).split(size))
            indices = pending.pop()  # the last one first: a short remainder comes before the whole batches
            seen = len(indices) * (2 if config.flip else 1)
            drawn = draw_dsa(self._run_of, seen, draws) if config.augment == "dsa" else None
            batches.append(_batch(send(indices, self._run_of.device), config.flip, drawn))
        return batches


def _batch(indices: Tensor, flip: bool, drawn: dsa.Sample | None) -> Batch:
    def batch(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        images, labels = images[indices], labels[indices]
        if flip:
            images, labels = flipped(images, labels)
        return (images if drawn is None else dsa.apply(drawn, images)), labels

    return batch
