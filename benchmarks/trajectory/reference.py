"""An iteration of trajectory matching as the field's scripts compute it: plain eager PyTorch, written anew.

``tesla``: two passes, each building every step's graph with ``create_graph``, the second one through the images.
``mtt``: one graph through all steps. They share no code with the package, so that they stay what they are when it
becomes quicker.
"""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def convnet(channels: int, side: int, classes: int, depth: int = 3, width: int = 128) -> nn.Sequential:
    """Blocks of convolution, instance norm, ReLU and average pooling; then one linear layer."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(width, width, affine=True)]
        layers += [nn.ReLU(inplace=True), nn.AvgPool2d(2, 2)]
        channels, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, classes))


class Iteration:
    """One update's gradient for images [n, c, h, w] with classes, from flat parameters ``start`` towards ``target``."""

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        self._network = convnet(images.shape[1], images.shape[2], classes)
        self._shapes = {name: parameter.shape for name, parameter in self._network.named_parameters()}
        self.images, self._labels = images.clone().requires_grad_(), labels
        self.rate = torch.tensor(0.01, requires_grad=True)

    def _gradient(self, flat: Tensor, inputs: Tensor) -> Tensor:
        parts = flat.split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
        loss = F.cross_entropy(functional_call(self._network, named, (inputs,)), self._labels)
        return torch.autograd.grad(loss, flat, create_graph=True)[0]

    def tesla(self, start: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The gradients for images and rate by TESLA's two passes."""
        thetas, inputs, total = [start.clone().requires_grad_()], [], torch.zeros_like(start)
        for _ in range(steps):
            inputs.append(augment(self.images))
            gradient = self._gradient(thetas[-1], inputs[-1]).detach()
            total += gradient
            thetas.append((thetas[-1] - self.rate.detach() * gradient).detach().requires_grad_())
        size, rate = (start - target).square().sum(), self.rate.detach()
        images_gradient = torch.zeros_like(self.images)
        for theta, batch in zip(thetas, inputs, strict=False):
            gradient = self._gradient(theta, batch)
            scalar = (2 * rate * (target - start) + 2 * rate**2 * total) @ gradient / size
            images_gradient += torch.autograd.grad(scalar, self.images)[0]
        loss = (start - self.rate * total - target).square().sum() / size
        return images_gradient, torch.autograd.grad(loss, self.rate)[0]

    def mtt(self, start: Tensor, target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The gradients for images and rate by one graph through all steps."""
        theta = start.clone().requires_grad_()
        for _ in range(steps):
            theta = theta - self.rate * self._gradient(theta, augment(self.images))
        loss = (theta - target).square().sum() / (start - target).square().sum()
        images_gradient, rate_gradient = torch.autograd.grad(loss, [self.images, self.rate])
        return images_gradient, rate_gradient


def augment(images: Tensor) -> Tensor:
    """DSA: one operation for the batch, with parameters of its own for every image."""
    operation = OPERATIONS[int(torch.randint(len(OPERATIONS), ()))]
    count, _, height, width = images.shape
    if operation == "color":
        images = images + (torch.rand(count, 1, 1, 1) - 0.5)
        grey = images.mean(dim=1, keepdim=True)
        images = (images - grey) * (torch.rand(count, 1, 1, 1) * 2) + grey
        level = images.mean(dim=(1, 2, 3), keepdim=True)
        return (images - level) * (torch.rand(count, 1, 1, 1) + 0.5) + level
    if operation == "flip":
        return torch.where(torch.rand(count, 1, 1, 1) < 0.5, images.flip(3), images)
    if operation == "crop":
        reach = int(height * 0.125 + 0.5)
        down, right = torch.randint(-reach, reach + 1, (2, count, 1, 1))
        batch, rows, columns = _grid(count, height, width)
        rows, columns = (rows + down + 1).clamp(0, height + 1), (columns + right + 1).clamp(0, width + 1)
        padded = F.pad(images, [1, 1, 1, 1]).permute(0, 2, 3, 1).contiguous()
        return padded[batch, rows, columns].permute(0, 3, 1, 2).contiguous()
    if operation == "cutout":
        hole = int(height * 0.5 + 0.5)
        row, column = torch.randint(0, height + 1 - hole % 2, (2, count, 1, 1))
        batch, rows, columns = _grid(count, hole, hole)
        mask = torch.ones(count, height, width)
        rows, columns = (
            (rows + row - hole // 2).clamp(0, height - 1),
            (columns + column - hole // 2).clamp(0, width - 1),
        )
        mask[batch, rows, columns] = 0
        return images * mask.unsqueeze(1)
    theta = torch.zeros(count, 2, 3)
    if operation == "scale":
        theta[:, 0, 0], theta[:, 1, 1] = torch.rand(2, count) * (1.2 - 1 / 1.2) + 1 / 1.2
    else:
        angle = (torch.rand(count) - 0.5) * 2 * math.radians(15)
        theta[:, 0, 0], theta[:, 0, 1] = angle.cos(), -angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), angle.cos()
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def _grid(count: int, height: int, width: int) -> tuple[Tensor, ...]:
    sides = (torch.arange(side) for side in (count, height, width))
    return torch.meshgrid(*sides, indexing="ij")
