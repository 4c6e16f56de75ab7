"""MLP, LeNet, AlexNet and VGG11 as the field has them for small images.

Source: networks.py of VICO-UoE/DatasetCondensation 53f63a6, whose classifiers are for 28 and 32 px alone; here they
take the features of any resolution that leaves some. At 28 px the first convolution pads by 2 more: 28 becomes 32.
"""

import math

from torch import nn

from distill_bench.networks.convnet import NORMS, Norm, Shape, extra_padding
from distill_bench.networks.network import Network

ALEXNET = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))
VGG11 = (
    (64, 3, True), (128, 3, True), (256, 3, False), (256, 3, True),
    (512, 3, False), (512, 3, True), (512, 3, False), (512, 3, True),
)  # fmt: skip
"""Of every layer: channels, the kernel's side, and whether 2×2 max pooling follows."""


def mlp(shape: Shape, classes: int) -> Network:
    """Two hidden layers of 128 with ReLU; the embedding is the second's output."""
    layers = [nn.Flatten(), nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
    return Network(nn.Sequential(*layers), nn.Linear(128, classes))


def lenet(shape: Shape, classes: int) -> Network:
    """Two 5×5 convolutions (6 and 16 channels) with ReLU and max pooling, then layers of 120 and 84."""
    channels, *sides = shape
    extra = extra_padding(shape)
    height, width = (((side + 2 * extra - 4) // 2 - 4) // 2 for side in sides)
    layers = [nn.Conv2d(channels, 6, 5, padding=extra), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    layers += [nn.Linear(16 * height * width, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()]
    return Network(nn.Sequential(*layers), nn.Linear(84, classes))


def convolutions(layers: tuple[tuple[int, int, bool], ...], shape: Shape, classes: int, norm: Norm = "none") -> Network:
    """Convolutions that keep the size, norms, ReLU and max poolings, then a linear classifier of the last maps."""
    channels, *sides = shape
    padding = extra_padding(shape)
    height, width = (side + 2 * padding for side in sides)
    modules: list[nn.Module] = []
    for out, kernel, pooled in layers:
        modules += [nn.Conv2d(channels, out, kernel, padding=kernel // 2 + padding), NORMS[norm](out, height, width)]
        modules += [nn.ReLU(inplace=True)]
        channels, padding = out, 0
        if pooled:
            modules.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
    return Network(nn.Sequential(*modules), nn.Linear(channels * height * width, classes))
