"""The gradient of the trajectory-matching loss, three ways: unrolled, exact in constant memory, and TESLA's.

A student starts at an expert's parameters θ_0 and takes N steps of SGD on the synthetic set,
θ_{i+1} = θ_i − a·g_i with g_i = ∇_θ ℓ(θ_i; x_i, y_i) and (x_i, y_i) the augmented mini-batch of step i. The loss is
L = ‖θ_N − θ*‖² / ‖θ_0 − θ*‖² (Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
Eq. 2), θ* the expert's parameters some epochs later.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from distill_bench.training.steps import SGD
from distill_bench.training.student import Batch, Labels, Student
from distill_bench.training.window import GradientKind, MetaLoss, WindowGradient, window_gradient


class Waypoint(NamedTuple):
    """Where the student should be between, in AST.

    Attributes:
        after: so many of its steps.
        target: the expert's parameters.
        weight: of this part of the loss.
    """

    after: int
    target: Float[Tensor, " p"]
    weight: float


def trajectory_gradient(
    student: Student,
    start: Float[Tensor, " p"],
    target: Float[Tensor, " p"],
    images: Float[Tensor, "n c h w"],
    labels: Labels,
    learning_rate: Float[Tensor, ""],
    batches: Sequence[Batch],
    kind: GradientKind = "exact",
    *,
    momentum: float = 0.0,
    waypoints: Sequence[Waypoint] = (),
    scale: float = 1.0,
) -> WindowGradient:
    """L and its gradients for the synthetic images, their soft labels, and the student's learning rate.

    ``unrolled`` is autograd through all steps; its memory grows with their number. ``exact`` is the same gradient by
    the adjoint recursion of ``window_gradient``, a step's graph at a time, from λ_N = 2(θ_N − θ*)/D on. ``tesla`` (Cui
    et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", ICML 2023, Eq. 5–7) drops how later
    θ_j depend on x_i: the recursion with λ_i = λ_N throughout. It equals the others at N = 1.

    Args:
        student: the network, as a function of a parameter vector.
        start: θ_0, all parameters of the student's network as one vector.
        target: θ*, likewise.
        images: [n, c, h, w].
        labels: classes, or logits.
        learning_rate: a, shared by all steps.
        batches: for every step a function from all images and labels to that step's augmented mini-batch, the same
            whenever it is called and differentiable in both.
        kind: which gradient.
        momentum: of the student's steps.
        waypoints: further terms ‖θ_n − θ*_n‖² / ‖θ_0 − θ*_n‖² with their weights.
        scale: multiplies the student's loss.

    Returns:
        The loss and its gradients.

    Raises:
        ValueError: TESLA's gradient is asked for with momentum or waypoints.
    """
    rule = SGD(momentum)
    losses = {point.after: _distance(start, point.target, point.weight) for point in waypoints}
    losses[len(batches)] = _distance(start, target)
    begin = rule.begin(start)
    return window_gradient(student, rule, start, begin, 0, images, labels, learning_rate, batches, losses, kind, scale)


def _distance(start: Float[Tensor, " p"], target: Float[Tensor, " p"], weight: float = 1.0) -> MetaLoss:
    """‖θ − θ*‖² / ‖θ_0 − θ*‖²."""
    size = (start - target).square().sum()

    def with_gradient(theta: Tensor) -> tuple[Tensor, Tensor]:
        rest = theta - target
        return rest.square().sum() / size, 2 * rest / size

    return MetaLoss(lambda theta: (theta - target).square().sum() / size, weight, with_gradient)
