"""ZCA whitening: kornia's, fitted on the training split in [0, 1], as the trajectory-matching papers use it; and KIP's.

Sources: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (CVPR 2022): eps 0.1. Nguyen et
al., "Dataset Distillation with Infinitely Wide Convolutional Networks" (NeurIPS 2021), whose images are standardised
one by one first, as FRePo's and RaT-BPTT's are: 0.1 of the mean eigenvalue.
"""

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from distill_bench.datasets.dataset import Split
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.stored import is_intact, write_with_sum


@dataclass(frozen=True)
class Whitening:
    """x ↦ (x − mean) W on flattened images [n, d], with W symmetric and its inverse at hand."""

    mean: Float[Tensor, "1 d"]
    transform: Float[Tensor, "d d"]
    inverse: Float[Tensor, "d d"]

    def whiten(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return ((images.flatten(1) - self.mean) @ self.transform).view_as(images)

    def restore(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (images.flatten(1) @ self.inverse + self.mean).view_as(images)


_FLAT = 1e-4
"""A length that is rounding: one pixel of 255 levels that differs by one gives 0.003 at least."""


@dataclass(frozen=True)
class StandardizedWhitening:
    """x ↦ (x − m(x)) / ‖x − m(x)‖ · W on flattened images [n, d], m(x) the mean of all pixels of an image.

    The way back cannot know an image's mean and length, and gives it the training split's.

    Attributes:
        transform, inverse: W, symmetric, and its inverse.
        level, length: the means of m(x) and ‖x − m(x)‖ over the training split.
    """

    transform: Float[Tensor, "d d"]
    inverse: Float[Tensor, "d d"]
    level: Float[Tensor, " 1"]
    length: Float[Tensor, " 1"]

    def whiten(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (_standardized(images.flatten(1))[0] @ self.transform).view_as(images)

    def restore(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (images.flatten(1) @ self.inverse * self.length + self.level).view_as(images)


def _standardized(rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Tensor, Tensor]:
    """Rows of mean 0 and length 1 (of one value throughout: all 0), and the means and lengths they had."""
    level = rows.mean(dim=1, keepdim=True)
    length = (rows - level).norm(dim=1, keepdim=True)
    return torch.where(length < _FLAT, 0.0, (rows - level) / length.clamp_min(_FLAT)), level, length


def fit_standardized_whitening(split: Split, eps: float) -> StandardizedWhitening:
    """Fit on standardised images: S = XᵀX/n = U diag(s) Uᵀ, W = U diag(1/√(s + eps · mean s)) Uᵀ.

    Args:
        split: the training split.
        eps: the part of the mean eigenvalue that is added to all.

    Returns:
        The whitening.
    """
    moments: Tensor | float = 0.0
    levels, lengths = list[Tensor](), list[Tensor]()
    for pixels in split.chunks():
        rows, level, length = _standardized(pixels.flatten(1).float() / 255)
        moments = moments + (rows.mT @ rows).double()
        levels.append(level)
        lengths.append(length)
    values, vectors = torch.linalg.eigh(moments / len(split))
    values = values.clamp_min(0) + eps * values.mean()
    transform, inverse = ((vectors * values**power @ vectors.mT).float() for power in (-0.5, 0.5))
    return StandardizedWhitening(transform, inverse, *(torch.cat(each).mean(dim=0) for each in (levels, lengths)))


def standardized_whitening_of(split: Split, eps: float) -> StandardizedWhitening:
    """The whitening of a training split's standardised images, fitted once a machine and kept in the cache.

    Args:
        split: the training split.
        eps: the part of the mean eigenvalue that is added to all.

    Returns:
        The fitted whitening.
    """
    path = cache_dir() / "zca" / f"{split.fingerprint[:32]}-{eps:g}-standardized.safetensors"
    if is_intact(path):
        return StandardizedWhitening(**load_tensors(path.read_bytes()))
    whitening = fit_standardized_whitening(split, eps)
    write_with_sum(path, save_tensors({k: v.contiguous() for k, v in vars(whitening).items()}), {})
    return whitening


def fit_whitening(images: Float[Tensor, "n c h w"], eps: float) -> Whitening:
    """Fit on images: covariance S = XᵀX/(n−1) = U diag(s) Uᵀ of the centred pixels, W = U diag(1/√(s+eps)) Uᵀ."""
    from kornia.enhance import ZCAWhitening  # here, because importing kornia takes a second

    fitted = ZCAWhitening(dim=0, eps=eps, unbiased=True, detach_transforms=True, compute_inv=True).fit(images)
    return Whitening(fitted.mean_vector, fitted.transform_matrix.mT.contiguous(), fitted.transform_inv.mT.contiguous())


def whitening_of(split: Split, eps: float, scale: tuple[Tensor, Tensor] | None = None) -> Whitening:
    """The whitening of a training split, fitted once a machine and kept in the cache.

    Args:
        split: the training split.
        eps: added to the eigenvalues of the covariance.
        scale: (mean, std), each [1, c, 1, 1], of the normalisation before whitening, or None for pixels in [0, 1].

    Returns:
        The fitted whitening.
    """
    stage = (
        "unit" if scale is None else hashlib.sha256(repr([s.flatten().tolist() for s in scale]).encode()).hexdigest()
    )
    path = cache_dir() / "zca" / f"{split.fingerprint[:32]}-{eps:g}-{stage[:16]}.safetensors"
    if is_intact(path):
        return Whitening(**load_tensors(path.read_bytes()))
    images = split.images(torch.arange(len(split))).float() / 255
    if scale is not None:
        images = (images - scale[0]) / scale[1]
    whitening = fit_whitening(images, eps)
    write_with_sum(path, save_tensors({k: v.contiguous() for k, v in vars(whitening).items()}), {})
    return whitening
