"""The one SGD loop: every network in this package, in whichever role, is trained by it."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn

from distill_bench.errors import RunFailed
from distill_bench.training import compilation

TEST_BATCH = 500
COMPILED_TEST_BATCH = 50
# a size of batch that comes up less often is not compiled
COMPILED_STEPS = 50

Fetch = Callable[[Tensor], Tensor]
Augment = Callable[[Tensor, Generator], Tensor]
Descend = Callable[[nn.Module, Callable[[], Tensor]], Tensor]
"""Leaves in every parameter's ``grad`` the direction of a step; from the network and its batch's loss to that loss."""
Enlarge = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Lesson = Callable[[int, Tensor, Generator], tuple[Tensor, Tensor]]
"""From an epoch, indices int64 [b] and a generator to a batch of images and its targets (classes or probabilities)."""


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step; the last step of an epoch has the remainder.
        learning_rate, weight_decay: of the optimiser.
        momentum: of SGD.
        optimizer: SGD, or AdamW with torch's betas, which leaves biases and norms without weight decay.
        annealing: the part of a cosine's half-wave that the learning rate follows: 0 leaves it constant, 1 brings it to
            0 after the last epoch, 0.5 to half of it.
        decay_after: the number of epochs after which the learning rate is multiplied by ``decay_factor``, or None.
        reset_momentum: whether momentum starts again at that point (the field's scripts make a new optimiser there).
        temperature: logits are divided by it before the cross-entropy.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    decay_after: int | None = None
    decay_factor: float = 0.1
    reset_momentum: bool = False
    temperature: float = 1.0
    optimizer: Literal["sgd", "adamw"] = "sgd"
    annealing: float = 0.0

    def rate(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        decayed = self.decay_after is not None and epoch >= self.decay_after
        rate = self.learning_rate * self.decay_factor if decayed else self.learning_rate
        return rate * (1 + math.cos(math.pi * self.annealing * epoch / self.epochs)) / 2 if self.annealing else rate


@dataclass
class Standing:
    """Where a training stands between two epochs: with the network's state, all it needs to go on to the same bytes.

    Attributes:
        epoch: epochs done.
        loss: the mean loss of the last of them.
        momenta: SGD's, one a parameter; empty without momentum.
        draws: the generator's state; None before the first epoch.
    """

    epoch: int = 0
    loss: float = 0.0
    momenta: list[Tensor] = field(default_factory=list)
    draws: Tensor | None = None


def train(
    network: nn.Module,
    fetch: Fetch,
    targets: Int64[Tensor, " n"] | Float[Tensor, "n k"],
    plan: Plan,
    generator: Generator,
    augment: Augment | None = None,
    after_epoch: Callable[[], None] = lambda: None,
    standing: Standing | None = None,
    enlarge: Enlarge | None = None,
    descend: Descend | None = None,
    lesson: Lesson | None = None,
    *,
    compiled: bool = False,
) -> float:
    """Train a network in place and return the last epoch's mean loss (cross-entropy, nats).

    Args:
        fetch: from indices int64 [b] to images float [b, c, h, w]. A resident tensor's ``__getitem__`` will do.
        targets: classes, or probabilities.
        generator: orders the images and draws the augmentation.
        augment: from a batch and the generator to the augmented batch.
        standing: where to go on from; kept up to date before every call of ``after_epoch``.
        enlarge: from a batch and its targets to a larger batch and its targets, before ``augment``.
        descend: the direction of a step, where it is not the loss's gradient.
        lesson: makes the batches, in place of ``fetch``, ``augment`` and the rows of ``targets``.
        compiled: whether steps are compiled; equal to the others but for the last bits.

    Raises:
        RunFailed: the loss is no longer finite.
    """
    network.train()
    optimizer = _optimizer(network, plan, plan.learning_rate)
    standing = standing or Standing()
    _go_on(standing, optimizer, generator)
    losses = _losses(network, plan, len(targets), compiled)
    for epoch in range(standing.epoch, plan.epochs):
        if epoch == plan.decay_after and plan.reset_momentum:
            optimizer = _optimizer(network, plan, plan.learning_rate)
        for group in optimizer.param_groups:
            group["lr"] = plan.rate(epoch)
        total = torch.zeros((), device=targets.device)
        for indices in torch.randperm(len(targets), generator=generator).split(plan.batch_size):
            if lesson is not None:
                images, wanted = lesson(epoch, indices, generator)
            else:
                images, wanted = fetch(indices), targets[indices]
                if enlarge is not None:
                    images, wanted = enlarge(images, wanted)
                if augment is not None:
                    images = augment(images, generator)
            loss_of = partial(losses(len(indices)), images, wanted, plan.temperature)
            optimizer.zero_grad()
            loss = (descend or _backpropagate)(network, loss_of)
            optimizer.step()
            total += loss.detach() * len(indices)
        standing.epoch, standing.loss = epoch + 1, float(total / len(targets))
        if not math.isfinite(standing.loss):
            raise RunFailed(
                f"training diverged: the loss is {standing.loss} after epoch {epoch + 1} of {plan.epochs} "
                f"at learning rate {plan.learning_rate:g}."
            )
        standing.momenta, standing.draws = _momenta(optimizer), generator.get_state()
        after_epoch()
    return standing.loss


def accuracy(network: nn.Module, fetch: Fetch, labels: Int64[Tensor, " n"], *, compiled: bool = False) -> float:
    """Percent of images whose largest logit is their label's, the network in evaluation mode.

    Raises:
        RunFailed: a logit is not finite.
    """
    network.eval()
    eager, correct = partial(compilation.logits, network), torch.zeros((), dtype=torch.int64, device=labels.device)
    finite = torch.ones((), dtype=torch.bool, device=labels.device)
    size = COMPILED_TEST_BATCH if compiled else TEST_BATCH
    whole = compilation.compiled(compilation.logits, network) if compiled else eager
    with torch.inference_mode():
        for indices in torch.arange(len(labels)).split(size):
            logits = (whole if len(indices) == size else eager)(fetch(indices))
            correct += (logits.argmax(dim=1) == labels[indices]).sum()
            finite &= logits.isfinite().all()
    if not finite:
        raise RunFailed("training diverged: the network's outputs for test images are not finite.")
    return 100 * int(correct) / len(labels)


def _backpropagate(network: nn.Module, loss_of: Callable[[], Tensor]) -> Tensor:
    loss = loss_of()
    loss.backward()
    return loss


def _losses(network: nn.Module, plan: Plan, count: int, compiled: bool) -> Callable[[int], Callable[..., Tensor]]:
    """From a batch's size to the loss of (images, targets, temperature).

    The remainder of an epoch has a size of its own, which is compiled where it comes up often enough.
    """
    eager = partial(compilation.cross_entropy, network)
    if not compiled:
        return lambda size: eager
    quick = compilation.compiled(compilation.cross_entropy, network)
    usual = min(plan.batch_size, count)
    return lambda size: quick if size == usual or plan.epochs >= COMPILED_STEPS else eager


def _optimizer(network: nn.Module, plan: Plan, rate: float) -> torch.optim.Optimizer:
    if plan.optimizer == "adamw":
        parameters = list(network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=rate, fused=True)
    return torch.optim.SGD(
        network.parameters(), lr=rate, momentum=plan.momentum, weight_decay=plan.weight_decay, fused=True
    )


def _momenta(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    states = [optimizer.state[parameter] for group in optimizer.param_groups for parameter in group["params"]]
    return [state["momentum_buffer"] for state in states if state.get("momentum_buffer") is not None]


def _go_on(standing: Standing, optimizer: torch.optim.Optimizer, generator: Generator) -> None:
    """Give a new optimiser and a generator the state they had."""
    if standing.draws is not None:
        generator.set_state(standing.draws)
    if standing.momenta:
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        for parameter, momentum in zip(parameters, standing.momenta, strict=True):
            optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
