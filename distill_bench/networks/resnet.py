"""ResNet18, torchvision's: for small images with a 3×3 convolution of stride 1 as its stem and no pooling after it.

Source: He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016); the small stem, instance norm and the
``_AP`` variant as in networks.py of VICO-UoE/DatasetCondensation 53f63a6. SRe2L's modified ResNet-18 is that with batch
norm; on ImageNet it has torchvision's own stem.
"""

from typing import Any, Literal

from torch import nn

from distill_bench.networks.convnet import NORMS, Shape
from distill_bench.networks.network import Network

_FEATURES = 512


def resnet18(
    shape: Shape,
    classes: int,
    norm: Literal["instance", "batch"] = "instance",
    average_pooling: bool = False,
    small: bool = True,
) -> Network:
    """The embedding is the mean over positions of 512 maps; with ``average_pooling``, all of them, flattened.

    Args:
        shape: (channels, height, width) of the images.
        classes: how many logits.
        norm: which normalisation follows convolutions.
        average_pooling: the ``_AP`` variant: every convolution of stride 2 becomes one of stride 1 and 2×2 average
            pooling (in a block's main path after norm and ReLU, in its shortcut before the norm).
        small: whether the stem keeps the resolution, instead of a quarter of it.

    Returns:
        The network.
    """
    from torchvision import models  # here, because importing torchvision takes a second

    features = models.resnet18(norm_layer=lambda channels: NORMS[norm](channels, 0, 0))
    features.conv1 = nn.Conv2d(shape[0], 64, 7, stride=2, padding=3, bias=False)
    if small:
        features.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        features.maxpool = nn.Identity()
    features.fc = nn.Identity()
    size = _FEATURES
    if average_pooling:
        for stage in (features.layer2, features.layer3, features.layer4):
            _pool_for_strides(stage[0])
        features.avgpool = nn.Identity()
        size *= (shape[1] // 8) * (shape[2] // 8)
    return Network(features, nn.Linear(size, classes))


def _pool_for_strides(block: Any) -> None:
    """Turn the strides of a torchvision ``BasicBlock``, in place, into average pooling."""
    convolution, norm = block.downsample
    block.conv1.stride = convolution.stride = (1, 1)
    block.conv2 = nn.Sequential(nn.AvgPool2d(2), block.conv2)
    block.downsample = nn.Sequential(convolution, nn.AvgPool2d(2), norm)
