"""ZCA whitening as the trajectory-matching papers use it: kornia's, fitted on the training split in [0, 1].

Source: Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (CVPR 2022): eps 0.1.
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
