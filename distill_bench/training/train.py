"""The one SGD loop: every network in this package, in whichever role, is trained by it."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from distill_bench.errors import RunFailed
from distill_bench.runtime.device import take
from distill_bench.training import compilation
from distill_bench.training.optimizers import Average, OptimizerName, build_optimizer

TEST_BATCH = 500
_COMPILED_TEST_BATCH = 50
# a size of batch that comes up less often is not compiled
_COMPILED_STEPS = 50

ImageLoader = Callable[[Tensor], Tensor]
"""From indices int64 [b] to images float [b, c, h, w]; a tensor's ``__getitem__`` is one."""
Augment = Callable[[Tensor, Generator], Tensor]
"""From a batch of images and a generator to the augmented batch."""
BatchFn = Callable[[int, Tensor, Generator], tuple[Tensor, Tensor]]
"""From an epoch, indices int64 [b] and a generator to images and targets: classes, probabilities, weights, or two of
these; or those of ``distance_loss``."""
Objective = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, images and targets to the loss of a batch."""
GradientFn = Callable[[nn.Module, Callable[[], Tensor]], Tensor]
"""From a network and its batch's loss to the loss; sets ``grad`` of every parameter."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step; the last step of an epoch has the remainder.
        learning_rate, weight_decay: of the optimiser.
        momentum, nesterov: of SGD and Muon.
        optimizer: SGD; AdamW with torch's betas, which leaves biases and norms without weight decay unless
        decay_all: asks for it; or Muon, which has AdamW for these; see ``training.optimizers``.
        annealing: the part of a cosine's half-wave that the learning rate follows: 0 leaves it constant, 1 brings it to
            ``floor`` after the last epoch, 0.5 to half-way there.
        anneal_every: whether the rate follows it epoch by epoch, or step by step.
        floor: the learning rate at the end of that half-wave.
        decay_after: the number of epochs after which the learning rate is multiplied by ``decay_factor``, or None;
        decays: so often, after as many epochs each.
        reset_momentum: whether momentum starts again at that point (the field's scripts make a new optimiser there).
        decayed_momentum: SGD's from that point on, where it starts again; None: the same.
        temperature: logits are divided by it before the cross-entropy.
        alpha: below 1, targets are two: probabilities and classes, see ``distillation_loss``.
        distance_weight: above 0, targets are classes with distances to them, see ``distance_loss``.
        average: above 0, the decay a step of the moving average of the parameters, which the network has at the end.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    decay_after: int | None = None
    decay_factor: float = 0.1
    decays: int = 1
    reset_momentum: bool = False
    decayed_momentum: float | None = None
    temperature: float = 1.0
    optimizer: OptimizerName = "sgd"
    decay_all: bool = False
    annealing: float = 0.0
    nesterov: bool = False
    floor: float = 0.0
    anneal_every: Literal["epoch", "step"] = "epoch"
    alpha: float = 1.0
    distance_weight: float = 0.0
    average: float = 0.0

    def rate(self, epoch: int, part: float = 0.0) -> float:
        """The learning rate of an epoch, counted from 0, of whose steps a part is done."""
        after = self.epochs + 1 if self.decay_after is None else self.decay_after
        done = sum(epoch >= after * k for k in range(1, self.decays + 1))
        rate = self.learning_rate * self.decay_factor**done
        if not self.annealing:
            return rate
        passed = epoch + part if self.anneal_every == "step" else epoch
        wave = 1 + math.cos(math.pi * self.annealing * passed / self.epochs)
        return self.floor + (rate - self.floor) * wave / 2


@dataclass
class TrainState:
    """Where a training is between two epochs: with the network's state, all that the same bytes at the end depend on.

    Attributes:
        epoch: epochs done.
        loss: the mean loss of the last of them, in nats.
        optimizer: the optimiser's ``state_dict``; None before the first epoch.
        generator: the generator's state; None before the first epoch.
        average: of the parameters, where the plan has one; None before the first epoch.
    """

    epoch: int = 0
    loss: float = 0.0
    optimizer: dict[str, Any] | None = None
    generator: Tensor | None = None
    average: list[Tensor] | None = None


def train(
    network: nn.Module,
    batches: BatchFn,
    count: int,
    plan: Plan,
    generator: Generator,
    after_epoch: Callable[[], None] = lambda: None,
    state: TrainState | None = None,
    gradient: GradientFn | None = None,
    *,
    compiled: bool = False,
    chunk: int = 0,
    objective: Objective | None = None,
) -> float:
    """Train a network in place.

    Args:
        network: is put in training mode.
        batches: makes every batch; see ``table_batches`` for rows of a table.
        count: how many images there are; an epoch's batches are a permutation of their indices, cut.
        plan: the optimiser, its rates and the number of epochs.
        generator: orders the images, and is handed to ``batches``.
        after_epoch: called after every epoch.
        state: where to resume; updated before every call of ``after_epoch``. A new training unless given.
        gradient, compiled, chunk, objective: as for ``epochs``.

    Returns:
        The last epoch's mean loss (cross-entropy, nats; or the ``objective``).

    Raises:
        RunFailed: the loss is no longer finite.
    """
    state = state or TrainState()
    how: dict[str, Any] = {"compiled": compiled, "chunk": chunk, "objective": objective}
    for loss in epochs(network, batches, count, plan, generator, state, gradient, **how):
        state.loss = float(loss)
        if not math.isfinite(state.loss):
            raise RunFailed(
                f"training diverged: the loss is {state.loss} after epoch {state.epoch} of {plan.epochs} "
                f"at learning rate {plan.learning_rate:g}."
            )
        after_epoch()
    return state.loss


def epochs(
    network: nn.Module,
    batches: BatchFn,
    count: int,
    plan: Plan,
    generator: Generator,
    state: TrainState | None = None,
    gradient: GradientFn | None = None,
    *,
    compiled: bool = False,
    chunk: int = 0,
    objective: Objective | None = None,
) -> Iterator[Float[Tensor, ""]]:
    """``train``, epoch by epoch: nothing is read from the device, and no loss is checked.

    Args:
        network, batches, count, plan, generator: as for ``train``.
        state: where to resume; its loss is the caller's, the rest is updated before every epoch is yielded.
        gradient: sets the gradients of a step; backpropagates the loss unless given.
        compiled: whether steps are compiled; equal to the others but for the last bits.
        chunk: the most images of a step whose graph lives at a time, which bounds memory; 0: all. Not for batch norm,
            whose statistics are over the whole batch, not with a ``gradient`` of one's own, and not with other targets
            than classes or probabilities, nor with an ``objective``.
        objective: the loss of a batch in place of the plan's.

    Yields:
        The epoch's mean loss (cross-entropy, nats; or the ``objective``), on the device.
    """
    network.train()
    optimizer = build_optimizer(network, plan)
    state = state or TrainState()
    if state.optimizer is not None:
        optimizer.load_state_dict(state.optimizer)
    if state.generator is not None:
        generator.set_state(state.generator)
    average = Average(network, plan.average, state.average) if plan.average else None
    losses = _losses(network, plan, count, compiled, objective)
    for epoch in range(state.epoch, plan.epochs):
        if epoch == plan.decay_after and plan.reset_momentum:
            later = plan.momentum if plan.decayed_momentum is None else plan.decayed_momentum
            optimizer = build_optimizer(network, replace(plan, momentum=later))
        total = torch.zeros((), device=next(network.parameters()).device)
        order = torch.randperm(count, generator=generator).split(plan.batch_size)
        for step, indices in enumerate(order):
            for group in optimizer.param_groups:
                group["lr"] = plan.rate(epoch, step / len(order))
            images, targets = batches(epoch, indices, generator)
            optimizer.zero_grad()
            with _said_of_batch_norm(len(images), plan):
                if chunk and len(images) > chunk:
                    loss = _backpropagate_in_chunks(network, images, targets, plan.temperature, chunk)
                else:
                    loss_of = partial(losses(len(indices)), images, targets)
                    loss = (gradient or _backpropagate)(network, loss_of)
            optimizer.step()
            if average is not None:
                average.update()
            total += loss.detach() * len(indices)
        state.epoch, state.optimizer, state.generator = epoch + 1, optimizer.state_dict(), generator.get_state()
        state.average = None if average is None else average.values
        yield total / count
    if average is not None:
        average.store()


def table_batches(load: ImageLoader, targets: Tensor, augment: Augment | None = None) -> BatchFn:
    """Batches whose targets are rows of a table: classes int64 [n], or probabilities or weights float [n, k]."""

    def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images = load(indices)
        return images if augment is None else augment(images, draws), take(targets, indices)

    return batches


def accuracy(network: nn.Module, load: ImageLoader, labels: Int64[Tensor, " n"], *, compiled: bool = False) -> float:
    """Percent of images whose largest logit is their label's, the network in evaluation mode.

    Raises:
        RunFailed: a logit is not finite.
    """
    network.eval()
    eager, correct = partial(compilation.logits, network), torch.zeros((), dtype=torch.int64, device=labels.device)
    finite = torch.ones((), dtype=torch.bool, device=labels.device)
    size = _COMPILED_TEST_BATCH if compiled else TEST_BATCH
    whole = compilation.compiled(compilation.logits, network) if compiled else eager
    with torch.inference_mode():
        for indices in torch.arange(len(labels)).split(size):
            logits = (whole if len(indices) == size else eager)(load(indices))
            correct += (logits.argmax(dim=1) == take(labels, indices)).sum()
            finite &= logits.isfinite().all()
    right, sound = torch.stack([correct, finite.long()]).tolist()  # the one wait for the device
    if not sound:
        raise RunFailed("training diverged: the network's outputs for test images are not finite.")
    return 100 * right / len(labels)


@contextmanager
def _said_of_batch_norm(images: int, plan: Plan) -> Iterator[None]:
    """A batch of one image whose maps are one pixel has no variance, which batch norm divides by."""
    try:
        yield
    except ValueError as error:
        if images != 1 or "more than 1 value per channel" not in str(error):
            raise
        raise RunFailed(
            f"a batch holds one image, the rest of an epoch in batches of {plan.batch_size}, and the network's batch "
            "norm over maps of one pixel needs two. Give another number of images, another batch size, or a network "
            "without batch norm."
        ) from error


def _backpropagate(network: nn.Module, loss_of: Callable[[], Tensor]) -> Tensor:
    loss = loss_of()
    loss.backward()
    return loss


def _backpropagate_in_chunks(
    network: nn.Module, images: Tensor, targets: Tensor, temperature: float, chunk: int
) -> Tensor:
    """The mean loss of a batch, a sum over equal parts of it of up to ``chunk`` images."""
    parts, loss = -(-len(images) // chunk), torch.zeros((), device=images.device)
    for some, theirs in zip(images.chunk(parts), targets.chunk(parts), strict=True):
        share = compilation.cross_entropy(network, some, theirs, temperature) * (len(some) / len(images))
        share.backward()
        loss = loss + share.detach()
    return loss


def _losses(
    network: nn.Module, plan: Plan, count: int, compiled: bool, objective: Objective | None
) -> Callable[[int], Callable[..., Tensor]]:
    """From a batch's size to the loss of (images, targets).

    The remainder of an epoch has a size of its own, which is compiled where it comes up often enough.
    """
    loss, weights = (objective, ()) if objective else _loss_of(plan)
    eager = partial(loss, network)
    quick = compilation.compiled(loss, network) if compiled else eager
    usual = min(plan.batch_size, count)

    def of_size(size: int) -> Callable[..., Tensor]:
        run = quick if size == usual or plan.epochs >= _COMPILED_STEPS else eager
        return lambda images, targets: run(images, targets, *weights)

    return of_size


def _loss_of(plan: Plan) -> tuple[Callable[..., Tensor], tuple[float, ...]]:
    """A loss of a network, images and targets, and what it is given besides."""
    if plan.distance_weight:
        return compilation.distance_loss, (plan.temperature, plan.distance_weight)
    if plan.alpha < 1:
        return compilation.distillation_loss, (plan.temperature, plan.alpha)
    return compilation.cross_entropy, (plan.temperature,)
