"""Increments of low rank: what is added to a network's convolutions while its own weights stay.

Source: Hu et al., "LoRA" (ICLR 2022); on convolutions and a linear head as in HeLlO (arXiv 2408.08201).
"""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

Pair = tuple[Float[Tensor, "o r"], Float[Tensor, "r k"]]
"""The two factors A and B of an increment A·B."""


def dense_convolutions(network: nn.Module, last: int = 0) -> dict[str, nn.Conv2d]:
    """The convolutions that have an increment, in the network's order.

    Args:
        network: whose.
        last: only so many, from the end; 0: all.

    Returns:
        Convolutions of all channels at once by the names of their modules: none of each channel for itself.
    """
    dense = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    dense = {name: module for name, module in dense.items() if module.groups == 1}
    return dict(list(dense.items())[-last:])


def matrix_shape(weight: Tensor) -> tuple[int, int]:
    """The rows and columns of a weight as a matrix: of a convolution [o, i, h, w], o × (i·h·w)."""
    return weight.shape[0], weight[0].numel()


def with_increments(weights: Mapping[str, Tensor], increments: Mapping[str, Pair]) -> dict[str, Tensor]:
    """W + A·B of every weight that has an increment.

    Args:
        weights: by name.
        increments: by the names of some of them.

    Returns:
        The changed weights by name, each in its own shape; differentiable in A and B.
    """
    return {name: weights[name] + (a @ b).view_as(weights[name]) for name, (a, b) in increments.items()}
