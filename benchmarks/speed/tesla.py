"""An iteration of TESLA as its script computes it: plain eager PyTorch, written anew and on its own.

Two passes. The first trains the student, building every step's graph with ``create_graph`` and letting it go; the
second builds each again and goes through it to the images. Augmented batches and parameters are kept between the two.
"""

import torch
from reference import augment, convnet
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F


class Iteration:
    """The gradients of one update, from flat parameters ``start`` towards ``target``, the whole set a batch."""

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        self._network = convnet(images.shape[1], images.shape[2], classes)
        self._shapes = {name: parameter.shape for name, parameter in self._network.named_parameters()}
        self._images, self._labels = images.clone().requires_grad_(), labels
        self._rate = torch.tensor(0.01, requires_grad=True)

    def _gradient(self, flat: Tensor, inputs: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
        loss = F.cross_entropy(functional_call(self._network, named, (inputs,)), self._labels)
        return torch.autograd.grad(loss, flat, create_graph=True)[0]

    def gradients(self, start: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """For the images and the learning rate."""
        thetas, inputs, total = [start.clone().requires_grad_()], [], torch.zeros_like(start)
        rate = self._rate.detach()
        for _ in range(steps):
            inputs.append(augment(self._images))
            gradient = self._gradient(thetas[-1], inputs[-1]).detach()
            total += gradient
            thetas.append((thetas[-1] - rate * gradient).detach().requires_grad_())
        size, of_images = (start - target).square().sum(), torch.zeros_like(self._images)
        for theta, batch in zip(thetas, inputs, strict=False):
            vector = 2 * rate * (target - start) + 2 * rate**2 * total
            scalar = vector @ self._gradient(theta, batch) / size
            of_images += torch.autograd.grad(scalar, self._images)[0]
        loss = (start - self._rate * total - target).square().sum() / size
        return of_images, torch.autograd.grad(loss, self._rate)[0]
