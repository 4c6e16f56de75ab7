"""The gradient of the trajectory-matching loss, three ways: unrolled, exact in constant memory, and TESLA's.

A student starts at an expert's parameters θ_0 and takes N steps of SGD on the synthetic set,
θ_{i+1} = θ_i − a·g_i with g_i = ∇_θ ℓ(θ_i; x_i, y_i) and (x_i, y_i) the augmented mini-batch of step i. The loss is
L = ‖θ_N − θ*‖² / ‖θ_0 − θ*‖² (Cazenavette et al., "Dataset Distillation by Matching Training Trajectories", CVPR 2022,
Eq. 2), θ* the expert's parameters some epochs later.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, jvp, replace_all_batch_norm_modules_
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill_bench.training import compilation

GradientKind = Literal["exact", "tesla", "unrolled"]
Labels = Int64[Tensor, " n"] | Float[Tensor, "n k"]
Batch = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class TrajectoryGradient(NamedTuple):
    """L and its gradients. ``labels`` is None if labels are classes."""

    loss: Float[Tensor, ""]
    images: Float[Tensor, "n c h w"]
    labels: Float[Tensor, "n k"] | None
    learning_rate: Float[Tensor, ""]


class Derivatives(NamedTuple):
    """Of ⟨∇_θ ℓ, λ⟩: its value, its gradient for θ (None if not asked for), and those for the batch.

    ``batch`` has one tensor for the images, and a second for the labels where they are logits.
    """

    slope: Float[Tensor, ""]
    parameters: Float[Tensor, " p"] | None
    batch: tuple[Tensor, ...]


class Student:
    """A network's training loss ℓ(θ; x, y) as a function of its flat parameters, with its derivatives.

    Args:
        network: any module from images to logits; it becomes the student's. Its parameters are not read, only their
            shapes. Batch norm uses the statistics of each batch and keeps none.
        temperature: the network's logits, and soft labels, are divided by it.
        compiled: whether derivatives go through torch.compile; the first call with a shape then takes up to a minute.

    Attributes:
        compiled: as given.
        has_batch_norm: whether logits of an image depend on the others of its batch.
    """

    def __init__(self, network: nn.Module, temperature: float = 1.0, *, compiled: bool = False) -> None:
        _load_forward_mode()
        self.compiled = compiled
        self.has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        self._network = replace_all_batch_norm_modules_(network.train())
        self._shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self._temperature = temperature
        self.gradient: Callable[[Tensor, Tensor, Tensor], Tensor] = grad(self.loss)
        if compiled:
            compilation.set_inductor_cache()
            torch.compiler.reset()  # another student's code counts towards torch's limit of variants
            self.gradient = torch.compile(self.gradient, dynamic=False, fullgraph=True)
            self.derivatives_along = torch.compile(self.derivatives_along, dynamic=False, fullgraph=True)  # type: ignore[method-assign]

    def logits(self, parameters: Float[Tensor, " p"], images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """The network's output at ``parameters``: all of its parameters as one vector, in the module's order."""
        parts = parameters.split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
        return functional_call(self._network, named, (images,))

    def loss(self, parameters: Float[Tensor, " p"], images: Float[Tensor, "b c h w"], labels: Labels) -> Tensor:
        """Cross-entropy, batch mean: with classes, or with softmax(labels / T) where labels are logits."""
        if labels.is_floating_point():
            labels = (labels / self._temperature).softmax(dim=1)
        return F.cross_entropy(self.logits(parameters, images) / self._temperature, labels)

    def derivatives_along(
        self,
        parameters: Float[Tensor, " p"],
        images: Float[Tensor, "b c h w"],
        labels: Labels,
        tangent: Float[Tensor, " p"],
        hessian: bool,
    ) -> Derivatives:
        """The derivatives of ⟨∇_θ ℓ, tangent⟩; that for θ, a product with the Hessian, only where ``hessian``.

        Forward over reverse: mixed derivatives commute, so they are how ∇ℓ moves when θ moves along the tangent. No
        graph of a backward pass is kept, and torch.compile takes it whole.
        """
        wanted = tuple(range(0 if hessian else 1, 3 if labels.is_floating_point() else 2))

        def slopes(moved: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
            return grad_and_value(self.loss, argnums=wanted)(moved, images, labels)

        gradients, slope = jvp(slopes, (parameters,), (tangent,))[1]
        return Derivatives(slope, gradients[0] if hessian else None, gradients[1:] if hessian else gradients)


def _load_forward_mode() -> None:
    """torch loads its forward-mode formulas when they are first used, and then warns of its own code."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        jvp(torch.sin, (torch.zeros(()),), (torch.zeros(()),))


@sdpa_kernel(SDPBackend.MATH)  # fused attention has neither second derivatives nor forward mode
def trajectory_gradient(
    student: Student,
    start: Float[Tensor, " p"],
    target: Float[Tensor, " p"],
    images: Float[Tensor, "n c h w"],
    labels: Labels,
    learning_rate: Float[Tensor, ""],
    batches: Sequence[Batch],
    kind: GradientKind = "exact",
) -> TrajectoryGradient:
    """L and its gradients for the synthetic images, their soft labels, and the student's learning rate.

    ``unrolled`` is autograd through all steps; its memory grows with their number. ``exact`` is the same gradient by
    the adjoint recursion, a step's graph at a time: λ_N = 2(θ_N − θ*)/D; for i = N−1 … 0: ∂L/∂(x_i, y_i) =
    −a·∇_{x,y}⟨g_i, λ_{i+1}⟩, ∂L/∂a −= ⟨g_i, λ_{i+1}⟩, λ_i = λ_{i+1} − a·∇_θ⟨g_i, λ_{i+1}⟩. Of the forward pass only the
    θ_i are kept. ``tesla`` (Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory", ICML
    2023, Eq. 5–7) drops how later θ_j depend on x_i: the recursion with λ_i = λ_N throughout. It equals the others at
    N = 1.

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

    Returns:
        The loss and its gradients.
    """
    learnables = [images.detach(), labels.detach()]
    rate = learning_rate.detach()
    if kind == "unrolled":
        return _unrolled(student, start, target, learnables, rate, batches)
    thetas = _train(student, start, learnables, rate, batches)
    size, rest = (start - target).square().sum(), thetas.pop() - target
    adjoint, of_rate = 2 * rest / size, torch.zeros_like(rate)
    totals = [torch.zeros_like(tensor) for tensor in learnables if tensor.is_floating_point()]
    while thetas:
        batch, theta = batches[len(thetas) - 1], thetas.pop()
        # before the first step nothing asks for it; compiled code of its own for that would cost more than it saves
        hessian = kind == "exact" and (bool(thetas) or student.compiled)
        inner, parts = _step_back(student, theta, batch, learnables, adjoint, hessian=hessian)
        totals = [total - rate * part for total, part in zip(totals, parts, strict=True)]
        of_rate = of_rate - inner.slope
        if inner.parameters is not None:
            adjoint = adjoint - rate * inner.parameters
    return TrajectoryGradient(rest.square().sum() / size, totals[0], totals[1] if len(totals) > 1 else None, of_rate)


def _step_back(
    student: Student, theta: Tensor, batch: Batch, learnables: Sequence[Tensor], adjoint: Tensor, *, hessian: bool
) -> tuple[Derivatives, tuple[Tensor, ...]]:
    """A step's derivatives of ⟨g_i, λ⟩, and those for its batch pulled back to all images and labels."""
    leaves = _leaves(learnables)
    mini_batch = batch(*leaves)
    inner = student.derivatives_along(theta, mini_batch[0].detach(), mini_batch[1].detach(), adjoint, hessian)
    floats = len(inner.batch)
    return inner, torch.autograd.grad(mini_batch[:floats], leaves[:floats], inner.batch)


def _leaves(learnables: Sequence[Tensor]) -> list[Tensor]:
    """The same values as leaves of a new graph; classes stay as they are."""
    return [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in learnables]


def _train(
    student: Student, start: Tensor, learnables: Sequence[Tensor], rate: Tensor, batches: Sequence[Batch]
) -> list[Tensor]:
    """θ_0 … θ_N."""
    thetas = [start]
    for batch in batches:
        thetas.append(thetas[-1] - rate * student.gradient(thetas[-1], *batch(*learnables)))
    return thetas


def _unrolled(
    student: Student,
    start: Tensor,
    target: Tensor,
    learnables: Sequence[Tensor],
    rate: Tensor,
    batches: Sequence[Batch],
) -> TrajectoryGradient:
    leaves, rate = _leaves(learnables), rate.requires_grad_()
    theta = start.detach().requires_grad_()
    for batch in batches:
        (gradient,) = torch.autograd.grad(student.loss(theta, *batch(*leaves)), theta, create_graph=True)
        theta = theta - rate * gradient
    loss = (theta - target).square().sum() / (start - target).square().sum()
    floats = [leaf for leaf in leaves if leaf.requires_grad]
    *parts, of_rate = torch.autograd.grad(loss, [*floats, rate])
    return TrajectoryGradient(loss.detach(), parts[0], parts[1] if len(parts) > 1 else None, of_rate)
