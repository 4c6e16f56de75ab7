"""The gradient of losses after some steps of training, for the images that are trained on, a step's graph at a time.

From parameters θ_0 and an optimiser's state W steps are taken on synthetic images; losses of θ at the end, or also
between, are the meta-loss L. Backwards, with λ = ∂L/∂θ_{i+1} and the tangent s_i of the step (``steps``):
∂L/∂(x_i, y_i) = −η ∇_{x,y}⟨g_i, s_i⟩, ∂L/∂η −= ⟨λ, u_i⟩, and λ becomes (1 − ηκ′) λ − η (∇_θ⟨g_i, s_i⟩ + κ s_i). Kept of
the forward pass are vectors as long as θ alone; unrolling keeps the graph of every step. What lies before θ_0 is taken
as constant: truncated backpropagation through time (Feng et al., "Embarrassingly Simple Dataset Distillation", ICLR
2024) where training began earlier.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad_and_value
from torch.nn.attention import SDPBackend, sdpa_kernel

from distill_bench.training.steps import Rule, State, Step, advance
from distill_bench.training.student import Batch, Derivatives, Labels, Student

GradientKind = Literal["exact", "tesla", "unrolled"]


class WindowGradient(NamedTuple):
    """L and its gradients. ``labels`` is None if labels are classes."""

    loss: Float[Tensor, ""]
    images: Float[Tensor, "n c h w"]
    labels: Float[Tensor, "n k"] | None
    learning_rate: Float[Tensor, ""]


@dataclass(frozen=True)
class MetaLoss:
    """A loss of parameters, and its share of L.

    Attributes:
        loss: from θ to the loss, differentiable.
        weight: its factor in L.
        closed_form: from θ to the loss and its gradient, where that is known; else autograd's.
    """

    loss: Callable[[Tensor], Tensor]
    weight: float = 1.0
    closed_form: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None

    def with_gradient(self, theta: Float[Tensor, " p"]) -> tuple[Float[Tensor, ""], Float[Tensor, " p"]]:
        """Loss and gradient, with the weight."""
        if self.closed_form is not None:
            loss, gradient = self.closed_form(theta)
        else:
            gradient, loss = grad_and_value(self.loss)(theta)
        return (loss, gradient) if self.weight == 1 else (self.weight * loss, self.weight * gradient)


@sdpa_kernel(SDPBackend.MATH)  # fused attention has neither second derivatives nor forward mode
def window_gradient(
    student: Student,
    rule: Rule,
    start: Float[Tensor, " p"],
    state: State,
    done: int,
    images: Float[Tensor, "n c h w"],
    labels: Labels,
    learning_rate: Float[Tensor, ""],
    batches: Sequence[Batch],
    losses: Mapping[int, MetaLoss],
    kind: GradientKind = "exact",
    scale: float = 1.0,
) -> WindowGradient:
    """L and its gradients for the synthetic images, their labels where they are floats, and the learning rate.

    Args:
        student: the network, as a function of a parameter vector.
        rule: of the optimiser that takes the steps.
        start: θ_0, all parameters as one vector.
        state: of the optimiser there; ``rule.begin(start)`` where training begins.
        done: how many steps of the training came before.
        images: [n, c, h, w].
        labels: classes, or what the student's labels are.
        learning_rate: η, shared by all steps.
        batches: for every step a function from all images and labels to that step's augmented mini-batch, the same
            whenever it is called and differentiable in both.
        losses: the parts of L, by the number of steps of the window after which they are taken.
        kind: ``exact`` as above; ``unrolled``: autograd through all steps; ``tesla``: without how later θ depend on
            images, of plain SGD and a loss at the end alone.
        scale: multiplies the student's loss.

    Returns:
        The loss and its gradients. Where a parameter's gradient is 0 throughout, Adam's unrolled gradient is NaN.

    Raises:
        ValueError: a loss is taken after no step of the window, or TESLA's gradient is not defined for the others.
    """
    if not losses or not all(0 < after <= len(batches) for after in losses):
        raise ValueError(f"losses after steps {sorted(losses)} of a window of {len(batches)}")
    if kind == "tesla" and not (rule.plain and list(losses) == [len(batches)]):
        raise ValueError("TESLA's gradient is of plain steps of SGD, and of a loss after the last of them")
    window = _Window(
        student,
        rule,
        start,
        state,
        done,
        (images.detach(), labels.detach()),
        learning_rate.detach(),
        batches,
        losses,
        scale,
    )
    return _unrolled(window) if kind == "unrolled" else _step_by_step(window, kind)


class _Window(NamedTuple):
    """The arguments of ``window_gradient``; ``learnables`` are images and labels, detached as the rate is."""

    student: Student
    rule: Rule
    start: Tensor
    state: State
    done: int
    learnables: Sequence[Tensor]
    rate: Tensor
    batches: Sequence[Batch]
    losses: Mapping[int, MetaLoss]
    scale: float


def _step_by_step(window: _Window, kind: GradientKind) -> WindowGradient:
    student, rule, rate = window.student, window.rule, window.rate
    theta, steps = _trained(window)
    adjoint, cotangents = torch.zeros_like(theta), rule.begin(theta)
    total, of_rate = torch.zeros_like(rate), torch.zeros_like(rate)
    totals = [torch.zeros_like(tensor) for tensor in window.learnables if tensor.is_floating_point()]
    while steps:
        if (part := window.losses.get(len(steps))) is not None:
            loss, slope = part.with_gradient(theta)
            total, adjoint = total + loss, adjoint + slope
        batch, step = window.batches[len(steps) - 1], steps.pop()
        theta = step.theta
        tangent, cotangents = rule.pull_back(step, adjoint, cotangents)
        # before the first step nothing asks for it; compiled code of its own for that would cost more than it saves
        hessian = kind == "exact" and (bool(steps) or student.compiled)
        scaled = tangent if window.scale == 1 else window.scale * tangent
        inner, parts = _step_back(student, theta, batch, window.learnables, scaled, hessian=hessian)
        totals = [total - rate * part for total, part in zip(totals, parts, strict=True)]
        of_rate = of_rate - _slope(rule, step, adjoint, inner)
        if inner.parameters is not None:
            adjoint = _earlier(rule, adjoint, inner.parameters, tangent, rate)
    return WindowGradient(total, totals[0], totals[1] if len(totals) > 1 else None, of_rate)


def _slope(rule: Rule, step: Step, adjoint: Tensor, inner: Derivatives) -> Tensor:
    """⟨λ, u⟩; a plain step's direction is its gradient, whose slope along λ is there already."""
    return inner.slope if rule.plain else (adjoint * rule.direction(step)).sum()


def _earlier(rule: Rule, adjoint: Tensor, product: Tensor, tangent: Tensor, rate: Tensor) -> Tensor:
    """λ of the step before, from λ, the product with the Hessian, and s."""
    kept = adjoint * (1 - rate * rule.decoupled_decay) if rule.decoupled_decay else adjoint
    return kept - rate * (product + rule.weight_decay * tangent if rule.weight_decay else product)


def _step_back(
    student: Student, theta: Tensor, batch: Batch, learnables: Sequence[Tensor], tangent: Tensor, *, hessian: bool
) -> tuple[Derivatives, tuple[Tensor, ...]]:
    """A step's derivatives of ⟨∇ℓ, tangent⟩, and those for its batch pulled back to all images and labels."""
    leaves = _leaves(learnables)
    mini_batch = batch(*leaves)
    inner = student.derivatives_along(theta, mini_batch[0].detach(), mini_batch[1].detach(), tangent, hessian)
    floats = len(inner.batch)
    return inner, torch.autograd.grad(mini_batch[:floats], leaves[:floats], inner.batch)


def _leaves(learnables: Sequence[Tensor]) -> list[Tensor]:
    """The same values as leaves of a new graph; classes stay as they are."""
    return [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in learnables]


def _trained(window: _Window) -> tuple[Tensor, list[Step]]:
    """θ_W, and the steps."""
    theta, state, steps = window.start, window.state, list[Step]()
    for number, batch in enumerate(window.batches, window.done + 1):
        gradient = window.student.gradient(theta, *batch(*window.learnables))
        gradient = gradient if window.scale == 1 else window.scale * gradient
        theta, step = advance(window.rule, theta, state, gradient, window.rate, number)
        state = step.state
        steps.append(step._replace(gradient=theta[:0]) if window.rule.plain else step)  # which needs it no more
    return theta, steps


def _unrolled(window: _Window) -> WindowGradient:
    leaves, rate = _leaves(window.learnables), window.rate.requires_grad_()
    theta, state, total = window.start.detach().requires_grad_(), window.state, torch.zeros_like(rate)
    for number, batch in enumerate(window.batches, 1):
        loss = window.scale * window.student.loss(theta, *batch(*leaves))
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta, step = advance(window.rule, theta, state, gradient, rate, window.done + number)
        state = step.state
        if (part := window.losses.get(number)) is not None:
            total = total + part.weight * part.loss(theta)
    floats = [leaf for leaf in leaves if leaf.requires_grad]
    *parts, of_rate = torch.autograd.grad(total, [*floats, rate])
    return WindowGradient(total.detach(), parts[0], parts[1] if len(parts) > 1 else None, of_rate)
