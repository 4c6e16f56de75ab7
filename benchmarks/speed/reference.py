"""The evaluation of one network as the field's scripts do it: plain eager PyTorch, written anew and on its own.

A DataLoader over a TensorDataset, a ConvNet of library layers, augmentation of every batch, torch's SGD, one step after
another, then a test in batches of 256. It shares no code with the package, so that it stays what it is when the package
becomes quicker.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

BATCH = 256
RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
OPERATIONS = ("color", "crop", "cutout", "flip", "scale", "rotate")


def convnet(channels: int, side: int, classes: int, depth: int = 3, width: int = 128) -> nn.Sequential:
    """Blocks of convolution, instance norm, ReLU and average pooling; then one linear layer."""
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.GroupNorm(width, width, affine=True)]
        layers += [nn.ReLU(inplace=True), nn.AvgPool2d(2, 2)]
        channels, side = width, side // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * side * side, classes))


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
    if operation == "crop":
        reach = int(height * 0.125 + 0.5)
        down, right = torch.randint(-reach, reach + 1, (2, count, 1, 1))
        batch, rows, columns = torch.meshgrid(
            torch.arange(count), torch.arange(height), torch.arange(width), indexing="ij"
        )
        rows, columns = (rows + down + 1).clamp(0, height + 1), (columns + right + 1).clamp(0, width + 1)
        padded = F.pad(images, [1, 1, 1, 1])
        return padded.permute(0, 2, 3, 1).contiguous()[batch, rows, columns].permute(0, 3, 1, 2).contiguous()
    if operation == "cutout":
        hole = int(height * 0.5 + 0.5)
        row, column = torch.randint(0, height + 1 - hole % 2, (2, count, 1, 1))
        batch, rows, columns = torch.meshgrid(
            torch.arange(count), torch.arange(hole), torch.arange(hole), indexing="ij"
        )
        rows, columns = (
            (rows + row - hole // 2).clamp(0, height - 1),
            (columns + column - hole // 2).clamp(0, width - 1),
        )
        mask = torch.ones(count, height, width)
        mask[batch, rows, columns] = 0
        return images * mask.unsqueeze(1)
    if operation == "flip":
        return torch.where(torch.rand(count, 1, 1, 1) < 0.5, images.flip(3), images)
    theta = torch.zeros(count, 2, 3)
    if operation == "scale":
        theta[:, 0, 0], theta[:, 1, 1] = torch.rand(2, count) * (1.2 - 1 / 1.2) + 1 / 1.2
    else:
        angle = (torch.rand(count) - 0.5) * 2 * math.radians(15)
        theta[:, 0, 0], theta[:, 0, 1] = angle.cos(), -angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = angle.sin(), angle.cos()
    return F.grid_sample(images, F.affine_grid(theta, list(images.shape), align_corners=False), align_corners=False)


class Training:
    """A network in training on a set held in memory; ``epoch`` is one pass over it."""

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        self._network = convnet(images.shape[1], images.shape[2], classes)
        self._optimizer = torch.optim.SGD(
            self._network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )
        self._loader = DataLoader(TensorDataset(images, labels), batch_size=BATCH, shuffle=True, num_workers=0)
        self._criterion = nn.CrossEntropyLoss()

    def epoch(self) -> None:
        self._network.train()
        total, right, seen = 0.0, 0, 0
        for batch, labels in self._loader:
            logits = self._network(augment(batch))
            loss = self._criterion(logits, labels)
            right += int((logits.argmax(dim=1) == labels).sum())
            total, seen = total + loss.item() * len(labels), seen + len(labels)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()

    def test(self, images: Tensor, labels: Tensor) -> float:
        """Percent of images classified rightly."""
        self._network.eval()
        right = 0
        with torch.no_grad():
            for batch, wanted in DataLoader(TensorDataset(images, labels), batch_size=BATCH, num_workers=0):
                right += int((self._network(batch).argmax(dim=1) == wanted).sum())
        return 100 * right / len(labels)
