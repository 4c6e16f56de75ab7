"""Smooth experts: the loss of the first epochs is ramped up, and the gradient for the pixels kept near a length of 1.

Source: Shen et al., "AST: Effective Dataset Distillation through Alignment with Smooth and High-Quality Expert
Trajectories" (2023), arXiv 2310.10541, and buffer.py of shenjiyuan123/AST-Alignment-with-Smooth-Expert 8030869.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from distill_bench.datasets.training_view import TrainingData
from distill_bench.networks import Network
from distill_bench.pretrained.recorder import Snapshots
from distill_bench.training.train import BatchFn

PenaltyNorm = Literal["pixel", "image"]


def ramp(epoch: int, epochs: int, start: float) -> float:
    """The weight of the loss in an epoch, counted from 0: from ``start`` in equal steps to 1 in epoch ``epochs``.

    >>> [ramp(epoch, 10, 0.5) for epoch in (0, 1, 10, 30)], ramp(0, 0, 0.5)
    ([0.5, 0.55, 1.0, 1.0], 1.0)
    """
    return start + (1 - start) * epoch / epochs if epoch < epochs else 1.0


def gradient_penalty(network: nn.Module, images: Float[Tensor, "b c h w"], norm: PenaltyNorm) -> Float[Tensor, ""]:
    """The mean of (‖g‖ − 1)², g the gradient of the sum of all logits for the images.

    Args:
        network: in training mode; the penalty is differentiable in its parameters.
        images: not augmented.
        norm: over the channels of every pixel, as in the released code, or over every image.

    Returns:
        The penalty.
    """
    pixels = images.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(network(pixels).sum(), pixels, create_graph=True)
    lengths = gradient.norm(dim=1) if norm == "pixel" else gradient.flatten(1).norm(dim=1)
    return (lengths - 1).square().mean()


class SmoothSnapshots(Snapshots):
    """The snapshots of a training whose loss is ramp · cross-entropy + penalty · ``gradient_penalty``.

    Args:
        training: the images.
        ramp_epochs, ramp_start: of the ramp.
        penalty: its factor; 0: none.
        norm: of the penalty.
    """

    def __init__(
        self, training: TrainingData, ramp_epochs: int, ramp_start: float, penalty: float, norm: PenaltyNorm
    ) -> None:
        super().__init__()
        self._training, self._ramp = training, (ramp_epochs, ramp_start)
        self._penalty, self._norm = penalty, norm
        self._epoch, self._indices = 0, torch.empty(0, dtype=torch.int64)

    def watched(self, network: Network, batches: BatchFn) -> BatchFn:
        """The batches, of each of which epoch and images are remembered for its gradient."""

        def watched(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
            self._epoch, self._indices = epoch, indices
            return batches(epoch, indices, draws)

        return watched

    def gradient(self, network: nn.Module, loss_of: Callable[[], Tensor]) -> Tensor:
        """The step's gradient, as ``GradientFn`` has it; the cross-entropy is returned."""
        loss = loss_of()
        objective = ramp(self._epoch, *self._ramp) * loss
        if self._penalty:
            images = self._training.images(self._indices)
            objective = objective + self._penalty * gradient_penalty(network, images, self._norm)
        objective.backward()
        return loss
