"""Backpropagation through training: the set is what makes a short training generalise.

At every step a fresh network is trained on the synthetic set; the loss of the trained network on real images is
differentiated through the last W of its steps, exactly and at one step's graph at a time (``window``).

Source: Feng, Vedantam & Kempe, "Embarrassingly Simple Dataset Distillation" (ICLR 2024), arXiv 2311.07025, and
distill_higher.py of fengyzpku/Simple_Dataset_Distillation 7915c5a.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
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
from torch.func import grad_and_value
from torch.nn.utils import parameters_to_vector

from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import flipped
from distill_bench.datasets.dataset import Dataset
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import (
    FlipConfig,
    chunk_of,
    draw_dsa,
    images_at_once,
    initial_images,
    random_network,
)
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.methods.warm_start import BY_CONTENT, one_of
from distill_bench.networks import activation_values, blank_network, build_network
from distill_bench.runtime.device import send
from distill_bench.training import compilation
from distill_bench.training.steps import SGD, Adam, Rule, State, advance
from distill_bench.training.student import Batch, Student
from distill_bench.training.window import MetaLoss, window_gradient

_HIGHEST_RATE = 1e30
"""Which torch's Adam can divide by its first bias correction."""
_STEP_FACTOR = 5.2
"""What a step back holds, as a multiple of ``activation_values``: as of trajectory matching."""


class UnrolledConfig(FlipConfig):
    """Fields of backpropagation through training. An outer step is one training and one update.

    Attributes:
        network: that is trained.
        iterations: outer steps.
        total: T, the steps of the longest training.
        window: W, through how many of its last steps the loss is differentiated.
        window_from: whether a window ends anywhere from step W to T, or at T (``end``).
        optimizer: of the inner steps, SGD or Adam with torch's betas.
        inner_lr: its rate, where it starts if it is learned.
        inner_momentum: of SGD.
        inner_decay: its weight decay, on all parameters.
        images_per_class: so many random images of every class an inner step; 0: all.
        losses: after so many steps of the window, evenly spaced to its end, the loss on real images is taken; L is
            their mean.
        real_batch: real images a loss, drawn from the whole training split.
        image_lr: of the Adam that updates the images.
        rate_lr: of the Adam that updates the logarithm of the inner rate; 0: it stays.
        clip, clip_decay: the gradient of the images is cut to ``clip`` times a moving average of its length, which
            remembers a share ``clip_decay`` a step; 0: it is not.
        init: real images of the class at random; those that greedy k-center picks, or those nearest the centres of
            k-means, both by the embeddings of a random network; noise of which every image has length 1
            (``noise-sphere``); or the images of a finished set, see ``warm_start``.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "inner_lr", "rate_lr")
    memory_fields: ClassVar[tuple[str, ...]] = ("images_per_class", "window", "real_batch")

    network: str = "ConvNet"
    iterations: PositiveInt
    total: PositiveInt
    window: PositiveInt
    window_from: Literal["uniform", "end"] = "uniform"
    optimizer: Literal["sgd", "adam"] = "adam"
    inner_lr: PositiveFloat
    inner_momentum: NonNegativeFloat = Field(0.0, lt=1)
    inner_decay: NonNegativeFloat = 0.0
    images_per_class: NonNegativeInt = 0
    losses: PositiveInt = 1
    real_batch: PositiveInt
    image_lr: PositiveFloat = Field(le=_HIGHEST_RATE)
    rate_lr: NonNegativeFloat = Field(0.0, le=_HIGHEST_RATE)
    clip: NonNegativeFloat = 2.0
    clip_decay: NonNegativeFloat = Field(0.9, lt=1)
    init: Annotated[str, AfterValidator(one_of("real", "k-center", "k-means", "noise-sphere")), BY_CONTENT] = "real"
    compiled: compilation.Choice = "auto"

    @model_validator(mode="after")
    def _windows_exist(self) -> "UnrolledConfig":
        if self.window > self.total:
            raise ValueError(f"a window of {self.window} steps is longer than the training of total = {self.total}")
        if self.losses > self.window:
            raise ValueError(f"losses = {self.losses}: a window of {self.window} steps has no more ends of steps")
        if self.optimizer == "adam" and self.inner_momentum:
            raise ValueError("inner_momentum is SGD's: leave it out with optimizer = adam")
        return self

    @property
    def rule(self) -> Rule:
        """Of the inner optimiser."""
        if self.optimizer == "adam":
            return Adam(weight_decay=self.inner_decay)
        return SGD(self.inner_momentum, weight_decay=self.inner_decay)

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: a step's batch, or a part of the real images, and what is kept of every step of the window."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        _, values = activation_values(self.network, shape, classes)
        weights = sum(p.numel() for p in blank_network(self.network, shape, classes).parameters())
        shown = classes * (self.images_per_class or ipc) * (2 if self.flip else 1)
        at_once = chunk_of(self.real_batch, images_at_once(self.network, shape, classes)[1])
        kept = 2 + len(self.rule.begin(torch.zeros(0))) + (0 if self.rule.plain else 1)
        return int(4 * (max(_STEP_FACTOR * shown, at_once) * values + (self.window * kept + 6) * weights))


def work(run: Run[UnrolledConfig]) -> float:
    """Floating-point operations of all steps: 3 passes a plain step, some 12 one of the window."""
    config = run.config
    network = build_network(config.network, run.training.shape, run.classes, run.generator("shapes"))
    burnt = (config.total - config.window) / (1 if config.window_from == "end" else 2)
    shown = run.classes * (config.images_per_class or run.ipc)
    images = config.iterations * ((burnt + 4 * config.window) * shown + config.losses * config.real_batch)
    return compilation.training_flops(network, run.training.shape, int(images))


@method(UnrolledConfig)
def unrolled(run: Run[UnrolledConfig]) -> SynthesisResult:
    """RaT-BPTT: a window of training, anywhere in it, whose end is to do well on real images."""
    config = run.config
    objective = Unrolled(run)
    learnables = objective.learnables
    rates = {"images": config.image_lr, "log_rate": config.rate_lr}
    optimizers = {name: torch.optim.Adam([tensor], lr=rates[name]) for name, tensor in learnables.items()}
    optimise(run, objective, learnables, dict(optimizers), config.iterations)
    return objective.result()


class Unrolled(Objective):
    """One training a step. Learns images, and the inner rate where the recipe says so."""

    def __init__(self, run: Run[UnrolledConfig]) -> None:
        self._run_of, self._rule = run, run.config.rule
        self._images, self._labels = _beginning(run), run.labels.to(run.device)
        self._log_rate = torch.tensor(run.config.inner_lr, device=run.device).log()
        self._length: Tensor | None = None
        self._student = self._new_student(compilation.decide(run.config.compiled, run.device, work(run)))

    @property
    def learnables(self) -> dict[str, Tensor]:
        """What is optimised, by name."""
        rate = {"log_rate": self._log_rate} if self._run_of.config.rate_lr else {}
        return {"images": self._images, **rate}

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        run, config = self._run_of, self._run_of.config
        done = _before_window(config, run.generator("window", step))
        draws = run.generator("student", step)
        batches = [self._batch(draws) for _ in range(done + config.window)]
        rate = self._log_rate.exp()
        theta = parameters_to_vector(random_network(run, step).parameters()).detach()
        theta, state = self._trained(theta, rate, batches[:done])
        gradient = window_gradient(
            self._student,
            self._rule,
            theta,
            state,
            done,
            self._images,
            self._labels,
            rate,
            batches[done:],
            self._losses(run.generator("real", step)),
        )
        clipped, self._length = clip(gradient.images, self._length, config.clip, config.clip_decay)
        of_rate = {"log_rate": gradient.learning_rate * rate} if config.rate_lr else {}
        return gradient.loss, {"images": clipped, **of_rate}

    def result(self) -> SynthesisResult:
        """The set as it is now, with the inner rate where one of SGD was learned."""
        learned = self._run_of.config.rate_lr and self._run_of.config.optimizer == "sgd"
        rate = float(self._log_rate.exp()) if learned else None
        return SynthesisResult(self._images, self._run_of.labels, learning_rate=rate)

    def state(self) -> dict[str, Any]:
        length = {} if self._length is None else {"length": self._length}
        return {"compiled": self._run_of.checkpoint.compiled} | length

    def restore(self, state: dict[str, Any]) -> None:
        if (was := compilation.resume_mode(state["compiled"])) != self._run_of.checkpoint.compiled:
            self._student = self._new_student(was)
        self._length = state["length"].to(self._run_of.device) if "length" in state else None

    def _new_student(self, compiled: bool) -> Student:
        run = self._run_of
        run.checkpoint.compiled = compiled
        network = build_network(run.config.network, run.training.shape, run.classes, run.generator("shapes"))
        return Student(network.to(run.device), compiled=compiled)

    def _trained(self, theta: Tensor, rate: Tensor, batches: Sequence[Batch]) -> tuple[Tensor, State]:
        """Parameters and state after the steps before the window."""
        state = self._rule.begin(theta)
        for number, batch in enumerate(batches, 1):
            slope = self._student.gradient(theta, *batch(self._images, self._labels))
            theta, taken = advance(self._rule, theta, state, slope, rate, number)
            state = taken.state
        return theta, state

    def _batch(self, draws: Generator) -> Batch:
        """The mini-batch of an inner step: some images of every class, mirrored and augmented as the recipe says."""
        run, config = self._run_of, self._run_of.config
        ipc, count = run.ipc, config.images_per_class
        chosen = None
        if 0 < count < ipc:
            chosen = torch.cat([torch.randperm(ipc, generator=draws)[:count] + c * ipc for c in range(run.classes)])
        seen = (len(self._labels) if chosen is None else len(chosen)) * (2 if config.flip else 1)
        drawn = draw_dsa(run, seen, draws) if config.augment == "dsa" else None
        return partial(_augmented, None if chosen is None else send(chosen, run.device), config.flip, drawn)

    def _losses(self, draws: Generator) -> dict[int, MetaLoss]:
        """The loss on real images after evenly spaced steps of the window, its last among them."""
        config = self._run_of.config
        ends = [config.window * (k + 1) // config.losses for k in range(config.losses)]
        return {end: self._real_loss(draws, 1 / config.losses) for end in ends}

    def _real_loss(self, draws: Generator, weight: float) -> MetaLoss:
        """Cross-entropy on a batch of real images under one augmentation; a part of them at a time."""
        run, config = self._run_of, self._run_of.config
        training, count = run.training, min(config.real_batch, len(run.training))
        indices = torch.randperm(len(training), generator=draws)[:count]
        images = training.images(indices)
        if config.augment == "dsa":
            images = dsa.apply(draw_dsa(run, count, draws), images)
        labels = send(training.labels[indices], run.device)
        at_once = chunk_of(count, images_at_once(config.network, training.shape, run.classes)[1])
        of_part = grad_and_value(self._student.loss)

        def with_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            loss, total = torch.zeros((), device=theta.device), torch.zeros_like(theta)
            for some, theirs in zip(images.split(at_once), labels.split(at_once), strict=True):
                gradient, value = of_part(theta, some, theirs)
                share = len(some) / count
                loss, total = loss + share * value, total + share * gradient
            return loss, total

        return MetaLoss(lambda theta: self._student.loss(theta, images, labels), weight, with_gradient)


def clip(
    gradient: Float[Tensor, "n c h w"], length: Float[Tensor, ""] | None, times: float, decay: float
) -> tuple[Float[Tensor, "n c h w"], Float[Tensor, ""]]:
    """A gradient cut to some times the moving average E of its length, and E with the present length, uncut, in it.

    Args:
        gradient: of all images.
        length: E before; None at first, when it is the gradient's own.
        times: how many times E may be; 0: any length.
        decay: of E, a step.

    Returns:
        The gradient, and E.
    """
    now = gradient.norm()
    average = now if length is None else decay * length + (1 - decay) * now
    if not times:
        return gradient, average
    return gradient * (times * average / now.clamp_min(1e-30)).clamp_max(1.0), average


def _before_window(config: UnrolledConfig, draws: Generator) -> int:
    """The steps before the window: T − W, or uniform from 0 to that."""
    latest = config.total - config.window
    return latest if config.window_from == "end" else int(torch.randint(latest + 1, (), generator=draws))


def _beginning(run: Run[UnrolledConfig]) -> Float[Tensor, "n c h w"]:
    """The images synthesis starts from."""
    if run.config.init != "noise-sphere":
        return initial_images(run)
    shape = (run.classes * run.ipc, *run.training.shape)
    noise = torch.randn(shape, generator=run.generator("initial images"))
    return (noise / noise.flatten(1).norm(dim=1)[:, None, None, None]).to(run.device)


def _augmented(
    chosen: Int64[Tensor, " b"] | None, flip: bool, drawn: dsa.Sample | None, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    if chosen is not None:
        images, labels = images[chosen], labels[chosen]
    if flip:
        images, labels = flipped(images, labels)
    return (images if drawn is None else dsa.apply(drawn, images)), labels
