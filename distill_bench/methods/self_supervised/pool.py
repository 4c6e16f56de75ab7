"""A pool of networks at different steps of their training on the set; one that has had its life makes room."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer

from distill_bench.networks import Network
from distill_bench.training.compilation import squared_error


class Slot:
    """A place in the pool: a network, the SGD that trains it, and the steps it counts.

    Args:
        network: on its device.
        sgd: from a network to its optimiser.
    """

    def __init__(self, network: Network, sgd: Callable[[Network], Optimizer]) -> None:
        self.network, self.steps, self._sgd = network, 0, sgd
        self._optimizer = sgd(network)

    def replace(self, network: Network) -> None:
        """Another network, with a new optimiser; the count stays."""
        self.network, self._optimizer = network, self._sgd(network)

    def train(self, images: Float[Tensor, "n c h w"], targets: Float[Tensor, "n d"]) -> None:
        """A step on all of the set: the mean squared error of the outputs, in training mode."""
        self.network.train()
        self._optimizer.zero_grad()
        squared_error(self.network, images, targets).backward()
        self._optimizer.step()
        self.steps += 1

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.steps = state["steps"]


class Pool:
    """Networks by their slots.

    Args:
        fresh: from a number to the network of that number.
        size: how many slots.
        life: steps that a network is trained for before it is replaced.
        sgd: from a network to the optimiser that trains it.
        reset: whether the count of a slot begins anew with a new network. The released code does not: a slot whose
            network has had its life gets an untrained network at each of its later turns.

    Attributes:
        slots: in order.
    """

    def __init__(
        self,
        fresh: Callable[[int], Network],
        size: int,
        life: int,
        sgd: Callable[[Network], Optimizer],
        reset: bool = True,
    ) -> None:
        self._fresh, self._life, self._reset = fresh, life, reset
        self.slots = [Slot(fresh(number), sgd) for number in range(size)]
        self._drawn = size

    @property
    def steps(self) -> int:
        """Of all slots."""
        return sum(slot.steps for slot in self.slots)

    def turn(self, index: int, images: Float[Tensor, "n c h w"], targets: Float[Tensor, "n d"]) -> None:
        """What a slot does once it was used: a step of training, or, after its life, a fresh network in its place."""
        slot = self.slots[index]
        if slot.steps < self._life:
            slot.train(images, targets)
            return
        slot.replace(self._fresh(self._drawn))
        self._drawn += 1
        if self._reset:
            slot.steps = 0

    def state(self) -> dict[str, Any]:
        """All that the next turn depends on."""
        return {"drawn": self._drawn, "slots": [slot.state() for slot in self.slots]}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self._drawn = state["drawn"]
        for slot, saved in zip(self.slots, state["slots"], strict=True):
            slot.restore(saved)
