"""The augmentation of DC's evaluation on MNIST: one operation an image, not differentiable.

Source: augment() in the utils.py of Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021). Scaling
and rotating are done here by one bilinear warp about the image's centre. The original scales to the nearest pixel and
rotates with SciPy's spline; where the turned canvas is larger by an odd number, its cut is half a pixel off the centre.
"""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from distill_bench.runtime.device import send

CROP, SCALE, ROTATION = 4, 0.2, 45


def augment(
    images: Float[Tensor, "b c h w"], operations: tuple[str, ...], generator: Generator
) -> Float[Tensor, "b c h w"]:
    """Apply to every image one of ``operations`` (crop, scale, rotate), drawn at random.

    Outside the image lies, as in the original: after a crop the mean of each channel over the batch, after a rotation
    the mean of those means, after scaling zero.
    """
    means = images.mean(dim=(0, 2, 3), keepdim=True)
    fills = {"crop": means, "rotate": means.mean().expand_as(means), "scale": torch.zeros_like(means)}
    chosen = torch.randint(len(operations), (len(images),), generator=generator)
    result = images.clone()
    for number, name in enumerate(operations):
        picked = send((chosen == number).nonzero().flatten(), images.device)
        if len(picked):
            theta = _matrices(name, len(picked), images, generator)
            result[picked] = _warp(images[picked], theta, fills[name])
    return result


def _matrices(name: str, count: int, images: Tensor, generator: Generator) -> Tensor:
    """[count, 2, 3] affine maps from output to input coordinates, both in [-1, 1]."""
    theta = torch.eye(2, 3).repeat(count, 1, 1)
    height, width = images.shape[2:]
    if name == "crop":
        shift = torch.randint(-CROP, CROP, (count, 2), generator=generator)
        theta[:, :, 2] = 2 * shift / torch.tensor([width, height])
    elif name == "scale":
        factors = 1 + (2 * torch.rand(count, 2, generator=generator) - 1) * SCALE
        theta[:, 0, 0], theta[:, 1, 1] = 1 / factors[:, 0], 1 / factors[:, 1]
    else:
        degrees = torch.randint(-ROTATION, ROTATION, (count,), generator=generator)
        angle = degrees * (math.pi / 180)
        theta[:, 0, 0], theta[:, 0, 1] = angle.cos(), -angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), angle.cos()
    return send(theta.to(images.dtype), images.device)


def _warp(images: Tensor, theta: Tensor, fill: Tensor) -> Tensor:
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images - fill, grid, align_corners=False) + fill
