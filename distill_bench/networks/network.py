"""What every network here has: features, and a linear classifier on them; and a network whose layers leave notes."""

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from distill_bench.networks.initialise import initialise

Shape = tuple[int, int, int]


class Network(nn.Module):
    """Features, flattened, and a classifier of them.

    Args:
        features: from images to feature maps or vectors.
        classifier: linear, on the flattened features.
    """

    features: nn.Module
    classifier: nn.Linear

    def __init__(self, features: nn.Module, classifier: nn.Linear) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def embed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """The flattened features, the classifier's input."""
        return self.features(images).flatten(1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.classifier(self.embed(images))


@dataclass(frozen=True)
class Architecture:
    """How a network is built.

    Attributes:
        build: from (channels, height, width) and the number of classes to the network.
        smallest: the least side it takes, in pixels, and why.
        initialise: gives it its initial values.
    """

    build: Callable[[Shape, int], Network]
    smallest: tuple[int, str] = (1, "")
    initialise: Callable[[Network, torch.Generator], Network] = initialise

    def blank(self, shape: Shape, classes: int) -> Network:
        """The network without values, on the meta device: elsewhere constructors draw from the global generator."""
        with torch.device("meta"):
            return self.build(shape, classes)

    def fresh(self, shape: Shape, classes: int, generator: torch.Generator) -> Network:
        """The network on the CPU with its initial values, drawn from ``generator``."""
        return self.initialise(self.blank(shape, classes).to_empty(device="cpu"), generator)


M = TypeVar("M", bound=nn.Module)


def sharing_values(network: M) -> M:
    """A copy of a network whose parameters and buffers are the same objects: what is hooked into it stays its own."""
    values = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(value): value for value in values})


class Observed(nn.Module):
    """A network some of whose layers leave a note whenever it runs; it can be copied, and compiled, as it is.

    Args:
        network: it stays without hooks.
        kinds: of layers.
        note: from a layer, its input and its output to what it leaves.

    Attributes:
        network: a copy that shares the values of the one given.
        notes: in the order of running; whoever runs the network clears them before.
    """

    network: Any

    def __init__(
        self, network: nn.Module, kinds: tuple[type[nn.Module], ...], note: Callable[[Any, Tensor, Tensor], Any]
    ) -> None:
        super().__init__()
        self.network = sharing_values(network)
        self.notes: list[Any] = []

        def leave(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            layer.notes.append(note(layer, inputs[0], output))

        for layer in self.network.modules():
            if isinstance(layer, kinds):
                # through the layer, so that the layers of a copy write into the copy's list
                object.__setattr__(layer, "notes", self.notes)
                layer.register_forward_hook(leave)
