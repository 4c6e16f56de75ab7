"""The field's ConvNet: blocks of convolution, norm, activation and pooling, then one linear layer.

Source: Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021), and its networks.py.
"""

from collections.abc import Callable
from typing import Literal

from torch import nn

from distill_bench.networks.network import Network, Shape

GROUPS = 4

Norm = Literal["none", "batch", "instance", "layer", "group"]
Activation = Literal["relu", "sigmoid", "leaky-relu", "swish"]
Pooling = Literal["none", "max", "average"]

NORMS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "none": lambda channels, height, width: nn.Identity(),
    "batch": lambda channels, height, width: nn.BatchNorm2d(channels),
    # one group a channel: no running statistics, a learnable scale and shift
    "instance": lambda channels, height, width: nn.GroupNorm(channels, channels),
    "layer": lambda channels, height, width: nn.LayerNorm((channels, height, width)),
    "group": lambda channels, height, width: nn.GroupNorm(GROUPS, channels),
}
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "sigmoid": nn.Sigmoid,
    "leaky-relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "swish": nn.SiLU,
}
_POOLINGS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "max": lambda: nn.MaxPool2d(2),
    "average": lambda: nn.AvgPool2d(2),
}


def extra_padding(shape: Shape) -> int:
    """What the first convolution pads besides: 2 at 28 px, which become 32; else 0."""
    return 2 if shape[1:] == (28, 28) else 0


class ConvNet(Network):
    """``depth`` blocks of 3×3 convolution, norm, activation and 2×2 pooling; then a linear classifier.

    Args:
        shape: (channels, height, width) of the images. At 28 px the first convolution pads by 3, so that 28 becomes 32.
        classes: how many.
        width: channels of every block.
    """

    def __init__(
        self,
        shape: Shape,
        classes: int,
        *,
        depth: int = 3,
        width: int = 128,
        norm: Norm = "instance",
        activation: Activation = "relu",
        pooling: Pooling = "average",
    ) -> None:
        channels, height, side = shape
        layers: list[nn.Module] = []
        for block in range(depth):
            padding = 1 + (extra_padding(shape) if block == 0 else 0)
            height, side = height + 2 * (padding - 1), side + 2 * (padding - 1)
            layers += [nn.Conv2d(channels, width, 3, padding=padding), NORMS[norm](width, height, side)]
            layers += [ACTIVATIONS[activation](), _POOLINGS[pooling]()]
            channels = width
            if pooling != "none":
                height, side = height // 2, side // 2
        super().__init__(nn.Sequential(*layers), nn.Linear(channels * height * side, classes))
