"""Steps of optimisers as pure functions, and how a loss after a step depends on what went into it.

A step at the rate η goes from θ to θ′ = θ − η u, where the direction u follows from the gradient ĝ = g + κ θ with its
coupled weight decay, and from a state. Backwards through it every cotangent has the factor −η, which all steps share:
here they are divided by it, so that what a step says of its gradient is −η s with the tangent s of ``pull_back``.

The rules are those of ``torch.optim``, Adam's with the factor 1/√(1 − β₂ᵏ) and ε outside of the root.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

State = tuple[Tensor, ...]


class Step(NamedTuple):
    """A step that was taken.

    Attributes:
        theta: θ, before it.
        gradient: ĝ.
        state: of the rule, after it.
        number: k, counted from 1 at the start of the training, not of a part of it.
    """

    theta: Float[Tensor, " p"]
    gradient: Float[Tensor, " p"]
    state: State
    number: int


@dataclass(frozen=True)
class SGD:
    """Plain, heavy-ball and Nesterov steps: b′ = μ b + ĝ, and u = b′, or ĝ + μ b′.

    Attributes:
        momentum: μ.
        nesterov: whether the momentum is Nesterov's.
        weight_decay: κ.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled_decay = 0.0

    @property
    def plain(self) -> bool:
        """Whether a step is along the gradient alone."""
        return not self.momentum and not self.weight_decay

    def begin(self, theta: Float[Tensor, " p"]) -> State:
        """The state before the first step; its cotangents after the last."""
        return (torch.zeros_like(theta),) if self.momentum else ()

    def updated(self, state: State, gradient: Float[Tensor, " p"], number: int) -> State:
        """The state after step ``number`` with ĝ."""
        return (self.momentum * state[0] + gradient,) if state else ()

    def direction(self, step: Step) -> Float[Tensor, " p"]:
        """u."""
        if not step.state:
            return step.gradient
        return step.gradient + self.momentum * step.state[0] if self.nesterov else step.state[0]

    def pull_back(
        self, step: Step, adjoint: Float[Tensor, " p"], cotangents: State
    ) -> tuple[Float[Tensor, " p"], State]:
        """What a loss after a step says of its gradient and of the state before it.

        Args:
            step: as it was taken.
            adjoint: λ = ∂L/∂θ′.
            cotangents: of the state after it.

        Returns:
            s, and the cotangents of the state before the step.
        """
        if not cotangents:
            return adjoint, ()
        velocity = cotangents[0] + self.momentum * adjoint if self.nesterov else cotangents[0] + adjoint
        return velocity + adjoint if self.nesterov else velocity, (self.momentum * velocity,)


@dataclass(frozen=True)
class Adam:
    """Adam(W): m′ = β₁ m + (1 − β₁) ĝ, v′ = β₂ v + (1 − β₂) ĝ², u = m̂ / D + κ′ θ with D = √v̂ + ε.

    Attributes:
        betas: β₁, β₂.
        epsilon: ε.
        inside: whether D is √(v̂ + ε) instead.
        weight_decay: κ.
        decoupled_decay: κ′, AdamW's.
    """

    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    inside: bool = False
    weight_decay: float = 0.0
    decoupled_decay: float = 0.0
    plain = False

    def begin(self, theta: Float[Tensor, " p"]) -> State:
        """As of ``SGD``: m and v."""
        return torch.zeros_like(theta), torch.zeros_like(theta)

    def updated(self, state: State, gradient: Float[Tensor, " p"], number: int) -> State:
        """As of ``SGD``."""
        (first, second), (mean, square) = self.betas, state
        return first * mean + (1 - first) * gradient, second * square + (1 - second) * gradient.square()

    def direction(self, step: Step) -> Float[Tensor, " p"]:
        """As of ``SGD``."""
        mean, _, divisor = self._parts(step)
        return mean / divisor + self.decoupled_decay * step.theta if self.decoupled_decay else mean / divisor

    def pull_back(
        self, step: Step, adjoint: Float[Tensor, " p"], cotangents: State
    ) -> tuple[Float[Tensor, " p"], State]:
        """As of ``SGD``. Where v′ = 0 every gradient was 0, and m′ is 0 too: there the root says nothing."""
        first, second = self.betas
        mean, root, divisor = self._parts(step)
        bias, square_bias = 1 - first**step.number, 1 - second**step.number
        slope = 1 / (2 * square_bias * root)
        slope = torch.where(root > 0, slope, 0.0)
        of_mean = cotangents[0] + adjoint / (bias * divisor)
        of_square = cotangents[1] - slope * adjoint * mean / divisor.square()
        tangent = (1 - first) * of_mean + 2 * (1 - second) * step.gradient * of_square
        return tangent, (first * of_mean, second * of_square)

    def _parts(self, step: Step) -> tuple[Tensor, Tensor, Tensor]:
        """m̂, the root in D, and D."""
        (first, second), (mean, square) = self.betas, step.state
        corrected = square / (1 - second**step.number)
        root = (corrected + self.epsilon).sqrt() if self.inside else corrected.sqrt()
        return mean / (1 - first**step.number), root, root if self.inside else root + self.epsilon


Rule = SGD | Adam


def advance(
    rule: Rule,
    theta: Float[Tensor, " p"],
    state: State,
    gradient: Float[Tensor, " p"],
    rate: Float[Tensor, ""],
    number: int,
) -> tuple[Float[Tensor, " p"], Step]:
    """One step; differentiable in all tensors.

    Args:
        rule: of the optimiser.
        theta: θ.
        state: before the step; ``rule.begin(θ)`` at first.
        gradient: g.
        rate: η.
        number: k, counted from 1.

    Returns:
        θ′, and the step, whose state is the next one's.
    """
    gradient = gradient + rule.weight_decay * theta if rule.weight_decay else gradient
    step = Step(theta, gradient, rule.updated(state, gradient, number), number)
    return theta - rate * rule.direction(step), step
