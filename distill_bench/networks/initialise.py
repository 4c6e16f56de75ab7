"""torch's default initialisation, drawn from a generator of our own."""

import math
from typing import TypeVar

import torch
from torch import nn

NORMS = (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def initialise(network: AnyModule, generator: torch.Generator) -> AnyModule:
    """Give every layer the values torch's constructors would, drawn from ``generator`` in module order.

    Convolutions and linear layers: weights uniform in ±1/√fan_in (Kaiming uniform with a = √5), then biases in the
    same range. Norm layers: scale 1, shift 0, running statistics reset.

    Raises:
        TypeError: a layer has parameters and no known default.
    """
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
            if module.bias is not None:
                bound = 1 / math.sqrt(module.weight[0].numel())
                nn.init.uniform_(module.bias, -bound, bound, generator=generator)
        elif isinstance(module, NORMS):
            module.reset_parameters()
        elif any(True for _ in module.parameters(recurse=False)):
            raise TypeError(f"no initialisation is known for {type(module).__name__}")
    return network
