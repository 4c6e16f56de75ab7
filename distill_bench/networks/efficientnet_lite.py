"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6, for images of any size.

Source: Tan & Le, "EfficientNet" (ICML 2019), and the Lite variants of tensorflow/tpu, whose padding its weights need.
"""

import itertools

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.networks.network import Network

_STEM, _FEATURES, _CLASSES, _EPS = 32, 1280, 1000, 1e-3
# repeats, kernel, stride of the first, expansion, channels
_STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME": n pixels become ⌈n / stride⌉; an odd one more is
    right, or below."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o s t"]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        down, right = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in images.shape[2:])
        padded = F.pad(images, (right // 2, right - right // 2, down // 2, down - down // 2))
        return super().forward(padded)


class InvertedBottleneck(nn.Module):
    """Expansion, a convolution of each channel for itself, and a linear projection; added to its input if that fits."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = _normed(channels, wide, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _normed(wide, wide, kernel, stride, wide)
        self.project = _normed(wide, out, 1, active=False)
        self.residual = stride == 1 and channels == out

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o s t"]:
        out = self.project(self.depthwise(self.expand(images)))
        return images + out if self.residual else out


def efficientnet_lite0() -> Network:
    """The network for ImageNet's 1,000 classes and images of 3 channels; its embedding is 1,280 means over positions.

    Returns:
        The network, with torch's initial values.
    """
    layers: list[nn.Module] = [_normed(3, _STEM, 3, 2)]
    channels = _STEM
    for repeats, kernel, stride, expansion, out in _STAGES:
        for step in [stride, *[1] * (repeats - 1)]:
            layers.append(InvertedBottleneck(channels, out, kernel, step, expansion))
            channels = out
    layers += [_normed(channels, _FEATURES, 1), nn.AdaptiveAvgPool2d(1)]
    return Network(nn.Sequential(*layers), nn.Linear(_FEATURES, _CLASSES))


def load_in_order(network: Network, state: dict[str, Tensor]) -> Network:
    """The network with the values of a state of the same layers under other names, in the order of running.

    Raises:
        ValueError: it has other tensors.
    """
    own = network.state_dict()
    pairs = list(itertools.zip_longest(own.items(), state.items()))
    wrong = [theirs for mine, theirs in pairs if mine is None or theirs is None or mine[1].shape != theirs[1].shape]
    if wrong:
        raise ValueError(f"its tensors are not those of the network, from {wrong[0] and wrong[0][0]} on")
    network.load_state_dict({mine[0]: theirs[1] for mine, theirs in pairs})
    return network


def _normed(
    channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1, *, active: bool = True
) -> nn.Sequential:
    """A convolution, batch norm, and where it is ``active`` ReLU6."""
    norm = nn.BatchNorm2d(out, eps=_EPS)
    layers = [SameConv2d(channels, out, kernel, stride, groups), norm]
    return nn.Sequential(*layers, nn.ReLU6(inplace=True)) if active else nn.Sequential(*layers)
