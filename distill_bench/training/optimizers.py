"""The optimisers that a plan names, and the moving average of what they train."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:  # it is about these
    from distill_bench.training.train import Plan

OptimizerName = Literal["sgd", "adamw", "muon"]


class Muon:
    """Muon for weights of two axes and more, AdamW for biases and norms, at one learning rate.

    A convolution's weight is the matrix of its rows [outputs, inputs · height · width]. Updates of matrices have the
    root mean square that AdamW's have (0.2), so that one rate fits both. Source: Jordan et al., "Muon" (2024), and for
    that factor Liu et al., "Muon is Scalable for LLM Training", arXiv 2502.16982, equation 4; ``torch.optim.Muon``.

    Args:
        network: whose parameters are trained.
        plan: with the rate, momentum and weight decay.

    Raises:
        RuntimeError: a weight is not contiguous, and is no matrix of its rows.
    """

    def __init__(self, network: nn.Module, plan: "Plan") -> None:
        parameters = list(network.parameters())
        self._weights = [p for p in parameters if p.ndim > 1]
        self._matrices = [p.detach().view(len(p), -1) for p in self._weights]
        vectors = [p for p in parameters if p.ndim <= 1]
        rate, decay = plan.learning_rate, plan.weight_decay
        self._both = dict[str, torch.optim.Optimizer]()
        if self._matrices:
            how: dict[str, Any] = {"momentum": plan.momentum, "nesterov": plan.nesterov}
            how |= {"adjust_lr_fn": "match_rms_adamw"}
            self._both["muon"] = torch.optim.Muon(self._matrices, lr=rate, weight_decay=decay, **how)
        if vectors:
            decay *= plan.decay_all
            self._both["adamw"] = torch.optim.AdamW(vectors, lr=rate, weight_decay=decay, fused=True)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of both."""
        return [group for each in self._both.values() for group in each.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for each in self._both.values():
            each.zero_grad()
        for weight in self._weights:
            weight.grad = None

    def step(self) -> None:
        """Update all parameters by their gradients."""
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.grad = None if weight.grad is None else weight.grad.reshape(matrix.shape)
        for each in self._both.values():
            each.step()

    def state_dict(self) -> dict[str, Any]:
        """Of both, by name."""
        return {name: each.state_dict() for name, each in self._both.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        for name, each in self._both.items():
            each.load_state_dict(state[name])


def build_optimizer(network: nn.Module, plan: "Plan") -> torch.optim.Optimizer | Muon:
    """The optimiser of a plan for all parameters of a network.

    Args:
        network: whose parameters are trained.
        plan: says which, and its values.

    Returns:
        SGD; AdamW, which leaves biases and norms without weight decay unless ``decay_all`` asks for it; or ``Muon``.
    """
    if plan.optimizer == "muon":
        return Muon(network, plan)
    if plan.optimizer == "adamw":
        parameters = list(network.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": plan.weight_decay * plan.decay_all},
        ]
        return torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)
    return torch.optim.SGD(
        network.parameters(),
        lr=plan.learning_rate,
        momentum=plan.momentum,
        weight_decay=plan.weight_decay,
        nesterov=plan.nesterov,
        fused=True,
    )


class Average:
    """The moving average of a network's parameters: after every step decay · average + (1 − decay) · parameters.

    The running statistics of batch norms are averaged as well, so that they are of about the same weights.

    Args:
        network: whose they are; the average begins with them as they are now.
        decay: from 0, where it is the last step's, to below 1.
        values: to go on from, instead.

    Attributes:
        values: the average of every floating-point tensor of the network's state.
    """

    def __init__(self, network: nn.Module, decay: float, values: Sequence[Tensor] | None = None) -> None:
        self._own = [each for each in network.state_dict().values() if each.is_floating_point()]
        self._decay = decay
        self.values = [each.clone() for each in (self._own if values is None else values)]

    def update(self) -> None:
        """Take in the network as it is after a step."""
        for average, own in zip(self.values, self._own, strict=True):
            average.lerp_(own, 1 - self._decay)

    def store(self) -> None:
        """Give the network the average in place of its own."""
        for own, average in zip(self._own, self.values, strict=True):
            own.copy_(average)
