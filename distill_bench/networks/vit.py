"""A small vision transformer: torchvision's, with patches that suit small images.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021). Four blocks of width 192 with 3 heads:
DeiT-Ti's width at a third of its depth, so that a CPU trains it.
"""

import math
from typing import Any

import torch
from torch import nn

from distill_bench.networks.convnet import Shape
from distill_bench.networks.network import Network

WIDTH, HEADS, BLOCKS, HIDDEN = 192, 3, 4, 384
GRID = 8


def vit(shape: Shape, classes: int) -> Network:
    """The embedding is the class token's output. Images are square."""
    from torchvision.models import VisionTransformer  # here, because importing torchvision takes a second

    side = shape[1]
    patch = patch_side(side)
    features = VisionTransformer(side, patch, BLOCKS, HEADS, WIDTH, HIDDEN)
    features.conv_proj = nn.Conv2d(shape[0], WIDTH, patch, stride=patch)
    features.heads = nn.Identity()
    return Network(features, nn.Linear(WIDTH, classes))


def patch_side(side: int) -> int:
    """The largest divisor that makes about 8 patches a side: 4 px at 28 and 32 px, 8 at 64, but 2 at 8 px."""
    return max(patch for patch in range(1, max(2, math.ceil(side / GRID)) + 1) if side % patch == 0)


def initialise_vit(network: Network, generator: torch.Generator) -> Network:
    """torchvision's initial values of a ``vit``, drawn from ``generator``.

    Patches: truncated normal of std 1/√fan_in. Positions: normal of std 0.02. Attention: Xavier uniform in, uniform in
    ±1/√fan_in out, biases 0. MLP: Xavier uniform, biases normal of std 1e-6. Class token and classifier: 0.
    """
    features: Any = network.features
    patches, encoder = features.conv_proj, features.encoder
    nn.init.trunc_normal_(patches.weight, std=1 / math.sqrt(patches.weight[0].numel()), generator=generator)
    nn.init.normal_(encoder.pos_embedding, std=0.02, generator=generator)
    for block in encoder.layers:
        attention, mlp = block.self_attention, block.mlp
        nn.init.xavier_uniform_(attention.in_proj_weight, generator=generator)
        nn.init.kaiming_uniform_(attention.out_proj.weight, a=math.sqrt(5), generator=generator)
        for linear in (layer for layer in mlp if isinstance(layer, nn.Linear)):
            nn.init.xavier_uniform_(linear.weight, generator=generator)
            nn.init.normal_(linear.bias, std=1e-6, generator=generator)
        for zero in (attention.in_proj_bias, attention.out_proj.bias):
            nn.init.zeros_(zero)
    for zero in (patches.bias, features.class_token, network.classifier.weight, network.classifier.bias):
        nn.init.zeros_(zero)
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    return network
