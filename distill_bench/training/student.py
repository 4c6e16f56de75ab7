"""A network's training loss as a function of its flat parameters, with the derivatives that distillation asks for."""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, jvp, replace_all_batch_norm_modules_
from torch.nn import functional as F

from distill_bench.training import compilation

Labels = Int64[Tensor, " n"] | Float[Tensor, "n k"]
Batch = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From all images [n, c, h, w] and labels to a mini-batch of them."""


class Derivatives(NamedTuple):
    """Of ⟨∇_θ ℓ, λ⟩: its value, its gradient for θ (None if not asked for), and those for the batch.

    ``batch`` has one tensor for the images, and a second for the labels where they are floats.
    """

    slope: Float[Tensor, ""]
    parameters: Float[Tensor, " p"] | None
    batch: tuple[Tensor, ...]


class Student:
    """A network's training loss ℓ(θ; x, y) as a function of its flat parameters, with its derivatives.

    Args:
        network: any module from images to logits; it becomes the student's. Its parameters are not read, only their
            shapes. Batch norm uses the statistics of each batch and keeps none.
        temperature: the network's logits, and labels that are logits, are divided by it.
        label_form: what labels that are floats are: logits, whose softmax is the target; or weights, targets as they
            are, whose sum is the weight of their image.
        compiled: whether derivatives go through torch.compile; the first call with a shape then takes up to a minute.

    Attributes:
        compiled: as given.
        has_batch_norm: whether logits of an image depend on the others of its batch.
    """

    def __init__(
        self,
        network: nn.Module,
        temperature: float = 1.0,
        *,
        compiled: bool = False,
        label_form: Literal["logits", "weights"] = "logits",
    ) -> None:
        _load_forward_mode()
        self.compiled = compiled
        self.has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        self._network = replace_all_batch_norm_modules_(network.train())
        self._shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
        self._temperature, self._label_form = temperature, label_form
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
        """Cross-entropy, batch mean: with classes, with softmax(labels / T), or with weights as they are."""
        if labels.is_floating_point() and self._label_form == "logits":
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
