"""The direction of a GSAM step, which leads to flat minima; FTD trains its experts with it.

Sources: Zhuang et al., "Surrogate Gap Minimization Improves Sharpness-Aware Training" (ICLR 2022), Alg. 1; Kwon et al.,
"ASAM" (ICML 2021), Eq. 7, for the adaptive perturbation. Used by buffer_FTD.py of AngusDujw/FTD-distillation 711532a.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from distill_bench.training.train import GradientFn

_GUARD = 1e-12


def gsam_gradient(rho: float, alpha: float) -> GradientFn:
    """GSAM's gradient, from two of the same batch: at the parameters and at their perturbation.

    Args:
        rho: the radius of the perturbation.
        alpha: how much of the plain gradient that is orthogonal to the perturbed one is taken off.

    Returns:
        The gradient function of a training, see ``GradientFn``.
    """

    def gradient(network: nn.Module, loss_of: Callable[[], Tensor]) -> Tensor:
        parameters = list(network.parameters())
        loss = loss_of()
        plain = torch.autograd.grad(loss, parameters)
        origin = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, shift in zip(parameters, perturbation(origin, plain, rho), strict=True):
                parameter.add_(shift)
        sharp = torch.autograd.grad(loss_of(), parameters)
        with torch.no_grad():
            for parameter, before in zip(parameters, origin, strict=True):
                parameter.copy_(before)
        for parameter, direction in zip(parameters, flat_direction(plain, sharp, alpha), strict=True):
            # gradients of compiled code have strides of their own, and torch's fused optimizers go by place in memory
            parameter.grad = torch.empty_like(parameter).copy_(direction)
        return loss

    return gradient


def perturbation(parameters: Sequence[Tensor], gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """ρ·w²·g / ‖|w|·g‖, the norm over all tensors: ASAM's worst case within ρ."""
    size = _norm([weight * gradient for weight, gradient in zip(parameters, gradients, strict=True)])
    return [
        rho / (size + _GUARD) * weight.square() * gradient
        for weight, gradient in zip(parameters, gradients, strict=True)
    ]


def flat_direction(plain: Sequence[Tensor], sharp: Sequence[Tensor], alpha: float) -> list[Tensor]:
    """g_s − α·v: the gradient at the perturbation, less what of the plain gradient is orthogonal to it."""
    inner = torch.stack([(a * b).sum() for a, b in zip(plain, sharp, strict=True)]).sum()
    share = inner / (_norm(sharp).square() + _GUARD)
    return [s - alpha * (p - share * s) for p, s in zip(plain, sharp, strict=True)]


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt()
