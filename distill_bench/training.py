"""The one SGD loop: every network in this package, in whichever role, is trained by it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.errors import RunFailed

TEST_BATCH = 500

Fetch = Callable[[Tensor], Tensor]
Augment = Callable[[Tensor, Generator], Tensor]


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes:
        epochs: passes over the data.
        batch_size: images a step; the last step of an epoch has the remainder.
        learning_rate, momentum, weight_decay: of SGD.
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


def train(
    network: nn.Module,
    fetch: Fetch,
    targets: Int64[Tensor, " n"] | Float[Tensor, "n k"],
    plan: Plan,
    generator: Generator,
    augment: Augment | None = None,
    after_epoch: Callable[[], None] = lambda: None,
) -> float:
    """Train a network in place and return the last epoch's mean loss (cross-entropy, nats).

    Args:
        fetch: from indices int64 [b] to images float [b, c, h, w]. A resident tensor's ``__getitem__`` will do.
        targets: classes, or probabilities.
        generator: orders the images and draws the augmentation.
        augment: from a batch and the generator to the augmented batch.

    Raises:
        RunFailed: the loss is no longer finite.
    """
    network.train()
    optimizer = _optimizer(network, plan, plan.learning_rate)
    loss = torch.tensor(0.0)
    for epoch in range(plan.epochs):
        if epoch == plan.decay_after:
            rate = plan.learning_rate * plan.decay_factor
            if plan.reset_momentum:
                optimizer = _optimizer(network, plan, rate)
            for group in optimizer.param_groups:
                group["lr"] = rate
        total = torch.zeros((), device=targets.device)
        for indices in torch.randperm(len(targets), generator=generator).split(plan.batch_size):
            images = fetch(indices)
            if augment is not None:
                images = augment(images, generator)
            loss = F.cross_entropy(network(images) / plan.temperature, targets[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(indices)
        after_epoch()
        loss = total / len(targets)
        if not loss.isfinite():
            raise RunFailed(
                f"training diverged: the loss is {loss.item()} after epoch {epoch + 1} of {plan.epochs} "
                f"at learning rate {plan.learning_rate:g}."
            )
    return float(loss)


def accuracy(network: nn.Module, fetch: Fetch, labels: Int64[Tensor, " n"]) -> float:
    """Percent of images whose largest logit is their label's, the network in evaluation mode."""
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=labels.device)
    with torch.inference_mode():
        for indices in torch.arange(len(labels)).split(TEST_BATCH):
            correct += (network(fetch(indices)).argmax(dim=1) == labels[indices]).sum()
    return 100 * int(correct) / len(labels)


def _optimizer(network: nn.Module, plan: Plan, rate: float) -> torch.optim.SGD:
    return torch.optim.SGD(
        network.parameters(), lr=rate, momentum=plan.momentum, weight_decay=plan.weight_decay, fused=True
    )
