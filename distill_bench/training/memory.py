"""About how much memory it takes to train a network and to test it."""

import math

from distill_bench.networks import activation_values, blank_network
from distill_bench.training.train import TEST_BATCH

WITHOUT_GRAPH_FACTOR, GRADIENT_FACTOR = 1.8, 1.9
"""What passes take at most, a convolution's workspace included, as multiples of ``activation_values``: measured."""
_TRAINING_FACTOR = 1.2
"""Likewise of a training step, whose images need no gradient: 0.9 to 1.15 of ConvNets and ResNets."""
_COPIES_OF_WEIGHTS = 4
"""The parameters, their gradients, the optimiser's momentum, and what is between."""


def pass_bytes(network: str, shape: tuple[int, int, int], classes: int, images: int) -> int:
    """About how many bytes so many images take that pass through a network without a graph.

    Args:
        network: its name.
        shape: (channels, height, width) of the images.
        classes: of the dataset.
        images: that pass at once.

    Returns:
        Bytes, of float32.

    Raises:
        UsageError: there is no such network, or it does not take such images.
    """
    values, _ = activation_values(network, shape, classes)
    return int(4 * images * (values * WITHOUT_GRAPH_FACTOR + 2 * math.prod(shape)))


def training_bytes(network: str, shape: tuple[int, int, int], classes: int, batch: int) -> int:
    """About how many bytes a step of ``train``, or a batch of ``accuracy``, takes at most; arguments as ``pass_bytes``.

    Args:
        network: as there.
        shape: as there.
        classes: as there.
        batch: images of a step.

    Returns:
        Bytes, of float32.

    Raises:
        UsageError: as there.
    """
    _, values = activation_values(network, shape, classes)
    weights = sum(parameter.numel() for parameter in blank_network(network, shape, classes).parameters())
    step = 4 * batch * (values * _TRAINING_FACTOR + 3 * math.prod(shape))
    return int(max(step, pass_bytes(network, shape, classes, TEST_BATCH)) + 4 * _COPIES_OF_WEIGHTS * weights)
