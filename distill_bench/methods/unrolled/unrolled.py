"""Backpropagation through training: the set is what makes a short training generalise.

At every step a fresh network is trained on the synthetic set; the loss of the trained network on real images is
differentiated through the last W of its steps, exactly and at one step's graph at a time (``window``).

Source: Feng, Vedantam & Kempe, "Embarrassingly Simple Dataset Distillation" (ICLR 2024), arXiv 2311.07025, and
distill_higher.py of fengyzpku/Simple_Dataset_Distillation 7915c5a.
"""

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.func import grad_and_value
from torch.nn.utils import parameters_to_vector

from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import flipped
from distill_bench.methods.formation import shown_of
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import draw_dsa, initial_images, random_network
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.methods.unrolled.config import UnrolledConfig
from distill_bench.methods.unrolled.curriculum import Stages, Window, plain_window
from distill_bench.methods.unrolled.learned import LearnedSet, block_of
from distill_bench.networks import build_network
from distill_bench.runtime.device import send
from distill_bench.training import compilation
from distill_bench.training.steps import State, advance
from distill_bench.training.student import Batch, Labels, Student
from distill_bench.training.window import MetaLoss, window_gradient


def work(run: Run[UnrolledConfig]) -> float:
    """Floating-point operations of all steps: 3 passes a plain step, some 12 one of the window."""
    config = run.config
    network = build_network(config.network, run.training.shape, run.classes, run.generator("shapes"))
    real = config.iterations * len(config.blocks or (1,)) * config.losses * config.real_batch
    return compilation.training_flops(network, run.training.shape, config.images_shown(run.ipc, run.classes) + real)


@method(UnrolledConfig)
def unrolled(run: Run[UnrolledConfig]) -> SynthesisResult:
    """RaT-BPTT: a window of training, anywhere in it, whose end is to do well on real images."""
    objective, sizes = Unrolled(run), run.config.sizes(run.ipc)
    optimise(run, objective, objective.learnables, dict(objective.optimizers), run.config.iterations * len(sizes))
    return objective.result()


class Unrolled(Objective):
    """One training a step. Learns images, labels and the inner rate where the recipe says so, block by block."""

    def __init__(self, run: Run[UnrolledConfig]) -> None:
        config = run.config
        self._run_of, self._rule, self._sizes = run, config.rule, config.sizes(run.ipc)
        self.set = LearnedSet(_beginning(run), run.classes, self._sizes, weights=bool(config.label_lr))
        self._log_rate = torch.tensor(config.inner_lr, device=run.device).log()
        self._rates = {"images": config.image_lr, "labels": config.label_lr, "log_rate": config.rate_lr}
        self.optimizers = {
            name: torch.optim.Adam([tensor], lr=self._rates[name.split()[0]])
            for name, tensor in self.learnables.items()
        }
        passed = math.ceil(len(run.training) / config.real_batch)
        self._stages = Stages(config, passed, self._probe) if config.window_from == "staged" else None
        self._length: Tensor | None = None
        self._student = self._new_student(compilation.decide(config.compiled, run.device, work(run)))

    @property
    def learnables(self) -> dict[str, Tensor]:
        """What is optimised, by name."""
        return self.set.learnables | ({"log_rate": self._log_rate} if self._run_of.config.rate_lr else {})

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        run, config, block = self._run_of, self._run_of.config, self._block(step)
        stored, shown, labels = self._present(block)
        images = shown.detach()
        start, length = self._window(step)
        draws = run.generator("student", step)
        batches = [self._batch(draws, block) for _ in range(start + length)]
        rate = self._log_rate.exp()
        theta = parameters_to_vector(random_network(run, step).parameters()).detach()
        theta, state, _ = self._trained(theta, rate, batches[:start], images, labels)
        losses = self._losses(length, run.generator("real", step))
        how = (self._student, self._rule, theta, state, start)
        gradient = window_gradient(*how, images, labels, rate, batches[start:], losses)
        (of_stored,) = torch.autograd.grad(shown, stored, gradient.images)
        of_labels = None if gradient.labels is None else gradient.labels.unflatten(0, (len(stored), -1)).sum(dim=1)
        clipped, self._length = clip(of_stored, self._length, config.clip, config.clip_decay)
        of_rate = {"log_rate": gradient.learning_rate * rate} if config.rate_lr else {}
        self._slow_old_blocks(block)
        of_set = self.set.gradients(block, clipped, of_labels, old=bool(config.old_blocks))
        return gradient.loss, of_set | of_rate

    def after_step(self, step: int) -> None:
        self.set.keep_weights()

    def result(self) -> SynthesisResult:
        """The set as it is now, with the inner rate where one of SGD was learned."""
        run, (images, labels) = self._run_of, self.set.present(len(self._sizes) - 1)
        learned = run.config.rate_lr and run.config.optimizer == "sgd"
        return SynthesisResult(
            images,
            run.labels,
            soft_labels=labels if run.config.label_lr else None,
            label_kind="weights" if run.config.label_lr else "hard",
            learning_rate=float(self._log_rate.exp()) if learned else None,
            formation=run.config.formation,
            prefixes=tuple(accumulate(self._sizes))[:-1],
        )

    def state(self) -> dict[str, Any]:
        length = {} if self._length is None else {"length": self._length}
        stages = {} if self._stages is None else {"stages": self._stages.state()}
        return {"compiled": self._run_of.checkpoint.compiled} | length | stages

    def restore(self, state: dict[str, Any]) -> None:
        if (was := compilation.resume_mode(state["compiled"])) != self._run_of.checkpoint.compiled:
            self._student = self._new_student(was)
        self._length = state["length"].to(self._run_of.device) if "length" in state else None
        if self._stages is not None:
            self._stages.restore(state["stages"])

    def _new_student(self, compiled: bool) -> Student:
        run = self._run_of
        run.checkpoint.compiled = compiled
        network = build_network(run.config.network, run.training.shape, run.classes, run.generator("shapes"))
        return Student(network.to(run.device), compiled=compiled, label_form="weights")

    def _present(self, block: int) -> tuple[Tensor, Tensor, Labels]:
        """Stored images of the blocks up to one; those networks are shown, a function of them; and labels of these."""
        stored, labels = self.set.present(block)
        shown = shown_of(self._run_of, stored.requires_grad_())
        return stored, shown, labels.repeat_interleave(len(shown) // len(stored), dim=0)

    def _block(self, step: int) -> int:
        return min(step // self._run_of.config.iterations, len(self._sizes) - 1)

    def _slow_old_blocks(self, block: int) -> None:
        """A block that is no longer the newest has a smaller rate."""
        for name, optimizer in self.optimizers.items():
            old = name != "log_rate" and block_of(name) < block
            optimizer.param_groups[0]["lr"] = self._rates[name.split()[0]] * (
                self._run_of.config.old_blocks if old else 1.0
            )

    def _window(self, step: int) -> Window:
        draws = self._run_of.generator("window", step)
        return plain_window(self._run_of.config, draws) if self._stages is None else self._stages.window(step, draws)

    def _probe(self, step: int) -> Float[Tensor, " t"]:
        """The lengths of the gradients of a training of T steps on the present set."""
        run, draws, block = self._run_of, self._run_of.generator("probe", step), self._block(step)
        network = send(build_network(run.config.network, run.training.shape, run.classes, draws), run.device)
        theta = parameters_to_vector(network.parameters()).detach()
        batches = [self._batch(draws, block) for _ in range(run.config.total)]
        _, shown, labels = self._present(block)
        return torch.stack(self._trained(theta, self._log_rate.exp(), batches, shown.detach(), labels)[2])

    def _trained(
        self, theta: Tensor, rate: Tensor, batches: Sequence[Batch], images: Tensor, labels: Tensor
    ) -> tuple[Tensor, State, list[Tensor]]:
        """Parameters and state after steps from the start of a training, and the lengths of their gradients."""
        state, norms = self._rule.begin(theta), list[Tensor]()
        for number, batch in enumerate(batches, 1):
            slope = self._student.gradient(theta, *batch(images, labels))
            norms.append(slope.norm())
            theta, taken = advance(self._rule, theta, state, slope, rate, number)
            state = taken.state
        return theta, state, norms

    def _batch(self, draws: Generator, block: int) -> Batch:
        """The mini-batch of an inner step: some images of some classes, mirrored and augmented as the recipe says."""
        run, config, ipc = self._run_of, self._run_of.config, sum(self._sizes[: block + 1])
        of_class = ipc * config.formation**2
        classes, count = list(range(run.classes)), min(config.images_per_class or of_class, of_class)
        if 0 < config.classes_per_step < run.classes:
            classes = torch.randperm(run.classes, generator=draws)[: config.classes_per_step].tolist()
        drawn, chosen = None, None
        if count < of_class or len(classes) < run.classes:
            chosen = torch.cat([torch.randperm(of_class, generator=draws)[:count] + c * of_class for c in classes])
        if config.augment == "dsa":
            drawn = draw_dsa(run, config.shown(ipc, run.classes), draws, config.operations)
        return partial(_augmented, None if chosen is None else send(chosen, run.device), config.flip, drawn)

    def _losses(self, length: int, draws: Generator) -> dict[int, MetaLoss]:
        """The loss on real images after evenly spaced steps of the window, its last among them."""
        count = self._run_of.config.losses
        ends = [length * (k + 1) // count for k in range(count)]
        return {end: self._real_loss(draws, 1 / count, last=end == length) for end in ends}

    def _real_loss(self, draws: Generator, weight: float, *, last: bool) -> MetaLoss:
        """Cross-entropy on a batch of real images under one augmentation; a part at a time, with batch norm all."""
        run, config = self._run_of, self._run_of.config
        training, count = run.training, min(config.real_batch, len(run.training))
        indices = torch.randperm(len(training), generator=draws)[:count]
        images = training.images(indices)
        if config.augment == "dsa":
            images = dsa.apply(draw_dsa(run, count, draws, config.operations), images)
        labels = send(training.labels[indices], run.device)
        at_once = config.real_at_once(count, training.shape, run.classes)
        of_part = grad_and_value(self._student.loss)

        def with_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
            loss, total = torch.zeros((), device=theta.device), torch.zeros_like(theta)
            for some, theirs in zip(images.split(at_once), labels.split(at_once), strict=True):
                gradient, value = of_part(theta, some, theirs)
                share = len(some) / count
                loss, total = loss + share * value, total + share * gradient
                if last and self._stages is not None:
                    right = self._student.logits(theta, some).argmax(dim=1) == theirs
                    self._stages.saw(right.sum(), len(some))
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
