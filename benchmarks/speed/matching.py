"""One update of the images by DM, DC, DSA and DataDAM, and of a recovered batch, as the field's scripts make it.

Plain eager PyTorch, written anew from the papers: class by class, one network at a time, a graph wherever the scripts
have one. Like ``reference.py`` it shares no code with the package.
"""

import numpy
import torch
from reference import augment, convnet
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18


class RealImages:
    """All training images as one tensor, and batches of a class."""

    def __init__(self, images: Tensor, labels: Tensor, classes: int) -> None:
        self._images = images
        self._rows = [(labels == label).nonzero().flatten().numpy() for label in range(classes)]
        self.classes = classes

    def batch(self, label: int, count: int) -> Tensor:
        """``count`` random images of a class."""
        return self._images[numpy.random.permutation(self._rows[label])[:count]]


def like_each_other(real: Tensor, synthetic: Tensor) -> tuple[Tensor, Tensor]:
    """Both batches under the same draws."""
    seed = int(numpy.random.randint(100000))
    pair = []
    for images in (real, synthetic):
        torch.manual_seed(seed)
        pair.append(augment(images))
    return pair[0], pair[1]


class DistributionMatching:
    """DM: squared distances of the mean embeddings, class by class, of one new network."""

    def __init__(self, real: RealImages, ipc: int, batch: int = 256) -> None:
        self._real, self._ipc, self._batch = real, ipc, batch
        self.images = torch.cat([real.batch(label, ipc) for label in range(real.classes)]).clone().requires_grad_()
        self._optimizer = torch.optim.SGD([self.images], lr=1.0, momentum=0.5)

    def update(self) -> None:
        network = convnet(*self.images.shape[1:3], self._real.classes).train().requires_grad_(False)
        embed = network[:-1]
        loss = torch.zeros(())
        for label in range(self._real.classes):
            own = self.images[label * self._ipc : (label + 1) * self._ipc]
            real, own = like_each_other(self._real.batch(label, self._batch), own)
            loss = loss + ((embed(real).detach().mean(0) - embed(own).mean(0)) ** 2).sum()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


class GradientMatching:
    """DC and DSA at one image per class: distances of the networks' gradients, class by class."""

    def __init__(self, real: RealImages, siamese: bool, batch: int = 256) -> None:
        self._real, self._siamese, self._batch = real, siamese, batch
        self.images = torch.cat([real.batch(label, 1) for label in range(real.classes)]).clone().requires_grad_()
        self._optimizer = torch.optim.SGD([self.images], lr=0.1, momentum=0.5)

    def update(self) -> None:
        network = convnet(*self.images.shape[1:3], self._real.classes).train()
        parameters, loss = list(network.parameters()), torch.zeros(())
        for label in range(self._real.classes):
            real, own = self._real.batch(label, self._batch), self.images[label : label + 1]
            if self._siamese:
                real, own = like_each_other(real, own)
            of_real = F.cross_entropy(network(real), torch.full((len(real),), label))
            theirs = [gradient.detach().clone() for gradient in torch.autograd.grad(of_real, parameters)]
            of_own = F.cross_entropy(network(own), torch.full((1,), label))
            loss = loss + distance(torch.autograd.grad(of_own, parameters, create_graph=True), theirs)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()


def distance(own: tuple[Tensor, ...], real: list[Tensor]) -> Tensor:
    """Layer by layer, 1 - cosine of every output row of the weights."""
    total = torch.zeros(())
    for one, other in zip(own, real, strict=True):
        if one.ndim > 1:
            one, other = one.flatten(1), other.flatten(1)
            total = total + (1 - (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1) + 1e-6)).sum()
    return total


class AttentionMatching:
    """DataDAM as released: batch norm, 64 real images a class, all classes in one pass."""

    def __init__(self, real: RealImages, ipc: int, batch: int = 64) -> None:
        self._real, self._ipc, self._batch = real, ipc, batch
        self.images = torch.cat([real.batch(label, ipc) for label in range(real.classes)]).clone().requires_grad_()
        self._optimizer = torch.optim.SGD([self.images], lr=1.0, momentum=0.5)

    def update(self) -> None:
        network = with_batch_norm(convnet(*self.images.shape[1:3], self._real.classes)).train().requires_grad_(False)
        features: list[Tensor] = []
        for layer in network:
            if isinstance(layer, nn.ReLU):
                layer.register_forward_hook(lambda _, __, output: features.append(output.clone()))
        pairs = [
            like_each_other(self._real.batch(label, self._batch), own)
            for label, own in enumerate(self.images.split(self._ipc))
        ]
        embed, seen = network[:-1], []
        for side in zip(*pairs, strict=True):
            features.clear()
            embedding = embed(torch.cat(side))
            seen.append([*[attention(each) for each in features[:-1]], embedding])
        loss = torch.zeros(())
        for number, (real, own) in enumerate(zip(*seen, strict=True)):
            weight = 0.01 if number == len(seen[0]) - 1 else 1.0
            means = [each.detach().unflatten(0, (self._real.classes, -1)).mean(1) for each in (real,)]
            means.append(own.unflatten(0, (self._real.classes, -1)).mean(1))
            loss = loss + weight * ((means[0] - means[1]) ** 2).sum()
        self._optimizer.zero_grad()
        (100 * loss).backward()
        self._optimizer.step()


def with_batch_norm(network: nn.Sequential) -> nn.Sequential:
    """Its norms replaced."""
    norm = (nn.GroupNorm,)
    return nn.Sequential(
        *[nn.BatchNorm2d(layer.num_channels) if isinstance(layer, norm) else layer for layer in network]
    )


def attention(features: Tensor) -> Tensor:
    """The map of where a layer looks, of unit length."""
    return F.normalize(features.abs().pow(4).sum(1).flatten(1), dim=1)


class Recovery:
    """SRe2L's update of a batch: cross-entropy and the distance to the batch norms' statistics."""

    def __init__(self, side: int, batch: int, classes: int) -> None:
        self.network = small_resnet(classes).eval().requires_grad_(False)
        self._labels = torch.arange(batch) % classes
        self.images = torch.randn(batch, 3, side, side).requires_grad_()
        self._optimizer = torch.optim.Adam([self.images], lr=0.25, betas=(0.5, 0.9))
        self._distances: list[Tensor] = []
        for layer in self.network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_hook(self._note)

    def _note(self, layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        maps = inputs[0]
        mean, variance = (
            maps.mean([0, 2, 3]),
            maps.permute(1, 0, 2, 3).reshape(maps.shape[1], -1).var(1, unbiased=False),
        )
        self._distances.append((layer.running_var - variance).norm(2) + (layer.running_mean - mean).norm(2))

    def update(self) -> None:
        self._distances.clear()
        down, right = numpy.random.randint(0, 5, 2)
        seen = torch.roll(self.images, shifts=(int(down), int(right)), dims=(2, 3))
        self._optimizer.zero_grad()
        loss = F.cross_entropy(self.network(seen), self._labels)
        first, *rest = self._distances
        loss = loss + 0.01 * (10 * first + sum(rest))
        loss.backward()
        self._optimizer.step()
        with torch.no_grad():
            self.images.clamp_(-3, 3)


def small_resnet(classes: int) -> nn.Module:
    """ResNet18 for small images: a 3×3 convolution first, and no pooling after it."""
    network = resnet18(num_classes=classes)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network
