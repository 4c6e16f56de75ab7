"""What DM and DataDAM share: for every class, means of per-image signals of a random network are brought together."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor, nn

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import MatchingConfig, augment_pair, initial_images, random_network
from distill_bench.methods.run import Run, SynthesisResult
from distill_bench.networks import Network, activation_values, build_network
from distill_bench.runtime.seeds import generator

Signals = Callable[[Tensor], list[Tensor]]
"""From images [n, c, h, w] to one or more tensors [n, d] of what is matched."""
Distance = Callable[[list[Tensor], list[Tensor]], Tensor]
"""From the class means [k, d] of the synthetic and of the real images' signals to a scalar."""


class MeanMatchingConfig(MatchingConfig):
    """An iteration is one random network and one image update.

    Attributes:
        chunk: the most images that are in the network at once, which bounds memory; 0: all. Not for batch norm, whose
            statistics are over the whole batch.
    """

    memory_fields: ClassVar[tuple[str, ...]] = ("chunk", "real_batch")

    chunk: NonNegativeInt = 0

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError for a flip the dataset does not allow, and for chunks of a network with batch norm."""
        super().check(dataset)
        if not self.chunk:
            return
        network = build_network(self.network, dataset.train.shape, len(dataset.class_names), generator("checked"))
        if any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
            raise UsageError(
                f"chunk = {self.chunk} with {self.network}: batch norm takes its statistics over all images of a step, "
                "which chunks would change. Use `chunk=0`, or a network without batch norm."
            )

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: the real images pass without a graph, the synthetic ones with all that their gradient needs."""
        classes = len(dataset.class_names)
        at_once, for_gradient = activation_values(self.network, dataset.train.shape, classes)
        real = sum(min(self.real_batch, len(indices)) for indices in dataset.train.class_indices)
        synthetic = classes * ipc * (2 if self.flip else 1)
        most = self.chunk or max(real, synthetic)
        return 4 * max(min(real, most) * at_once, min(synthetic, most) * for_gradient)


class MeanMatching(Objective):
    """All classes go through the network together: batch norm needs it, the other norms see each image alone.

    Args:
        run: whose config is a ``MeanMatchingConfig``.
        images: the learnable.
        signals: from a network and images [n, c, h, w] to what is matched: tensors [n, d], a row an image.
        distance: the loss, from the class means [k, d] of every signal of the synthetic and of the real images.
    """

    def __init__(
        self,
        run: Run[Any],
        images: Float[Tensor, "n c h w"],
        signals: Callable[[Network, Tensor], list[Tensor]],
        distance: Distance,
    ) -> None:
        self._run_of, self._images, self.signals, self.distance = run, images, signals, distance

    def loss_and_grads(self, step: int) -> tuple[float, dict[str, Tensor]]:
        run = self._run_of
        leaf = self._images.detach().requires_grad_()
        pairs = []
        for label, own in enumerate(leaf.split(run.ipc)):
            draws = run.generator(f"match {label}", step)
            pairs.append(augment_pair(run, run.training.draw(label, run.config.real_batch, draws), own, draws))
        network = random_network(run, step).requires_grad_(False)
        real, synthetic = (torch.cat(side) for side in zip(*pairs, strict=True))
        real_sizes, sizes = ([len(batch) for batch in side] for side in zip(*pairs, strict=True))
        signals = partial(self.signals, network)
        target = _mean_signals(signals, real, real_sizes, run.config.chunk)
        loss, slope = distance_and_slope(signals, self.distance, synthetic, sizes, target, run.config.chunk)
        (gradient,) = torch.autograd.grad(synthetic, leaf, slope)
        return float(loss), {"images": gradient}


def match_means(
    run: Run[Any], signals: Callable[[Network, Tensor], list[Tensor]], distance: Distance
) -> SynthesisResult:
    """Bring the class means of signals together, from the recipe's initial images; arguments as ``MeanMatching``'s."""
    images = initial_images(run)
    optimizer = torch.optim.SGD([images], lr=run.config.image_lr, momentum=run.config.image_momentum)
    objective = MeanMatching(run, images, signals, distance)
    optimise(run, objective, {"images": images}, {"images": optimizer}, run.config.iterations)
    return SynthesisResult(images, run.labels)


@torch.no_grad()
def _mean_signals(signals: Signals, images: Float[Tensor, "n c h w"], sizes: Sequence[int], chunk: int) -> list[Tensor]:
    """The class means [k, d] of every signal, without a graph.

    Args:
        signals: from images to a list of tensors [n, d].
        images: [n, c, h, w], class after class.
        sizes: how many consecutive images each of the k classes has.
        chunk: the most images that are in the network at once; 0: all.

    Returns:
        Means [k, d], one tensor for each signal.
    """
    parts = [signals(part) for part in images.split(chunk or len(images))]
    return [class_means(torch.cat(column), sizes) for column in zip(*parts, strict=True)]


def distance_and_slope(
    signals: Signals,
    distance: Distance,
    images: Float[Tensor, "n c h w"],
    sizes: Sequence[int],
    target: list[Tensor],
    chunk: int,
) -> tuple[Float[Tensor, ""], Float[Tensor, "n c h w"]]:
    """The distance of the images' class means to ``target``, and its gradient with respect to the images.

    With more images than a chunk holds they go through twice: without a graph for the means, whose slopes are the
    images' own (each is 1/size of its class's mean), then chunk by chunk for the gradient. One chunk's graph lives at
    a time.
    """
    parts = images.detach().split(chunk or len(images))
    if len(parts) == 1:
        leaf = parts[0].requires_grad_()
        loss = distance([class_means(signal, sizes) for signal in signals(leaf)], target)
        return loss.detach(), torch.autograd.grad(loss, leaf)[0]
    means = [mean.requires_grad_() for mean in _mean_signals(signals, images, sizes, chunk)]
    loss = distance(means, target)
    counts = torch.tensor(sizes, device=images.device)
    slopes = [
        (slope / counts[:, None]).repeat_interleave(counts, dim=0).split(chunk)
        for slope in torch.autograd.grad(loss, means)
    ]
    gradients = []
    for part, *own in zip(parts, *slopes, strict=True):
        leaf = part.requires_grad_()
        gradients.append(torch.autograd.grad(signals(leaf), leaf, own)[0])
    return loss.detach(), torch.cat(gradients)


def class_means(signals: Float[Tensor, "n d"], sizes: Sequence[int]) -> Float[Tensor, "k d"]:
    """The mean of each consecutive block of ``sizes[k]`` rows."""
    return torch.stack([block.mean(dim=0) for block in signals.split(list(sizes))])


def mean_distance(synthetic: Float[Tensor, "k d"], real: Float[Tensor, "k d"]) -> Float[Tensor, ""]:
    """Σ over classes of the squared distance of their means (DM, Eq. 6; DataDAM, Eq. 2 and 4)."""
    return (synthetic - real).square().sum()
