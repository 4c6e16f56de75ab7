"""FYI's flip: a synthetic batch is followed by its mirror images, before any other augmentation.

Source: Son, Oh, Baek & Ham, "FYI: Flip Your Images for Dataset Distillation" (ECCV 2024), and BatchAug of
cvlab-yonsei/FYI ae3419a.
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def with_mirrors(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "2*b c h w"]:
    """[S, hflip(S)]: the images, then each mirrored left to right. Gradients reach S through both halves."""
    return torch.cat([images, images.flip(3)])


def flipped(
    images: Float[Tensor, "b c h w"], targets: Shaped[Tensor, "b ..."]
) -> tuple[Float[Tensor, "2*b c h w"], Shaped[Tensor, "2*b ..."]]:
    """A batch with its mirror images, and its targets twice: for every loss that is a mean over a labelled batch.

    The inner loop of gradient matching trains on it as it is. Trajectory matching calls it on each mini-batch of its
    unrolled steps, before DSA, with a mini-batch of half the size, as FYI does.
    """
    return with_mirrors(images), torch.cat([targets, targets])
