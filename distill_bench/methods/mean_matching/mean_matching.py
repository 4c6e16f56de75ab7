"""What DM and DataDAM share: for every class, means of per-image signals of a random network are brought together."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from pydantic import NonNegativeInt
from torch import Tensor, nn

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.finished_sets import is_finished_set
from distill_bench.methods.formation import FormationConfig, shown_of
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import (
    MatchingConfig,
    Passes,
    as_it_is,
    augment_pair,
    chunk_of,
    has_batch_norm,
    images_at_once,
    initial_images,
)
from distill_bench.methods.run import Run, SynthesisResult
from distill_bench.networks import Network, activation_values
from distill_bench.runtime.device import send
from distill_bench.training.memory import GRADIENT_FACTOR, WITHOUT_GRAPH_FACTOR

Signals = Callable[[Tensor], list[Tensor]]
"""From images [n, c, h, w] to one or more tensors [n, d] of what is matched."""
Distance = Callable[[list[Tensor], list[Tensor]], Tensor]
"""From the class means [k, d] of the synthetic and of the real images' signals to a scalar."""


class Chunks(NamedTuple):
    """The most images in the network at once: real ones, without a graph, and synthetic ones, with theirs."""

    real: int
    synthetic: int


class MeanMatchingConfig(MatchingConfig, FormationConfig):
    """An iteration is one random network and one image update.

    Attributes:
        chunk: the most images that are in the network at once. 0: all if they take half a GB of activations at most
            (or a quarter of the memory limit, where that is less), else parts of half of that; with batch norm, whose
            statistics are over the whole batch, all, and no other number is allowed.
    """

    memory_fields: ClassVar[tuple[str, ...]] = ("chunk", "real_batch")
    values_factor: ClassVar[float] = 1.0

    chunk: NonNegativeInt = 0

    @property
    def begins_with_real_images(self) -> bool:
        """Whether they are not noise, or a finished set's."""
        return self.init != "noise" and not is_finished_set(self.init)

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError for a flip the dataset does not allow, and for chunks of a network with batch norm."""
        super().check(dataset)
        if self.chunk and has_batch_norm(self.network, dataset.train.shape, len(dataset.class_names)):
            raise UsageError(
                f"chunk = {self.chunk} with {self.network}: batch norm takes its statistics over all images of a step, "
                "which chunks would change. Use `chunk=0`, or a network without batch norm."
            )

    def chunks(self, shape: tuple[int, int, int], classes: int, real: int, synthetic: int) -> Chunks:
        """How many of a step's images go through the network at once.

        Args:
            shape: (channels, height, width) of the images.
            classes: of the dataset.
            real: how many a step has of all classes.
            synthetic: likewise, with their mirror images.

        Returns:
            The numbers; all if the network has batch norm.

        Raises:
            UsageError: there is no such network, or the memory limit is no amount.
        """
        if self.chunk:
            return Chunks(min(self.chunk, real), min(self.chunk, synthetic))
        if has_batch_norm(self.network, shape, classes):
            return Chunks(real, synthetic)
        most, most_with_graph = images_at_once(self.network, shape, classes)
        return Chunks(chunk_of(real, most), chunk_of(synthetic, most_with_graph))

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: the real images pass without a graph, the synthetic ones with all that their gradient needs."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        at_once, for_gradient = activation_values(self.network, shape, classes)
        sizes = [min(self.real_batch, len(indices)) for indices in dataset.train.class_indices]
        real, synthetic = sum(sizes), classes * ipc * self.formation**2 * (2 if self.flip else 1)
        chunks = self.chunks(shape, classes, real, synthetic)
        passed = max(chunks.real * at_once * WITHOUT_GRAPH_FACTOR, chunks.synthetic * for_gradient * GRADIENT_FACTOR)
        # a class as it is drawn and augmented, and the chunk it is collected in; every synthetic image four times
        pixels = (2 * max(sizes) + 2 * chunks.real + 4 * synthetic) * math.prod(shape)
        return int(4 * (passed * self.values_factor + pixels))

    def hint(self, names: Sequence[str]) -> str:
        """How to lower fields; batch norm knows no chunks, and without a number they hold what is of use."""
        grows = bool(self.memory_note)
        said = super().hint([name for name in names if not (grows and name == "chunk")])
        return said.replace("`chunk=…` (now all)", "`chunk=…` (now as many as half a GB holds)")

    @property
    def memory_note(self) -> str:
        """Why memory grows with the classes, if it does."""
        if self.chunk or "BN" not in self.network:
            return ""
        return "It grows with the classes: batch norm takes its statistics over all images of a step."


class MeanMatching(Objective):
    """Every network sees all classes before the images move.

    Norms that see each image alone let the real images pass chunk by chunk as they are drawn; batch norm takes all.

    Args:
        run: whose config is a ``MeanMatchingConfig``.
        images: the learnable.
        signals: from a network, as ``prepare`` gives it, and images [n, c, h, w] to what is matched: tensors [n, d], a
            row an image.
        distance: the loss, from the class means [k, d] of every signal of the synthetic and of the real images.
        prepare, networks: as for ``Passes``.
    """

    def __init__(
        self,
        run: Run[Any],
        images: Float[Tensor, "n c h w"],
        signals: Callable[[Any, Tensor], list[Tensor]],
        distance: Distance,
        prepare: Callable[[Network], nn.Module] = as_it_is,
        networks: Callable[[int], Network] | None = None,
    ) -> None:
        self._run_of, self._images = run, images
        self.signals, self.distance, self.prepare = signals, distance, prepare
        real = sum(min(run.config.real_batch, len(indices)) for indices in run.training.class_indices)
        synthetic = len(images) * run.config.formation**2 * (2 if run.config.flip else 1)
        self._chunks = run.config.chunks(run.training.shape, run.classes, real, synthetic)
        self._passes = Passes(run, signals, real + 3 * synthetic, prepare, networks)

    def signals_at(self, step: int) -> Signals:
        """The signals of a step's network, which is ``Passes.network`` from then on."""
        return self._passes.take(step)

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        run = self._run_of
        leaf = self._images.detach().requires_grad_()
        classes = leaf.split(run.ipc)
        signals, augmented = self.signals_at(step), list[Tensor]()
        self._passes.network.requires_grad_(False)

        def real_batches() -> Iterator[Tensor]:
            for label, own in enumerate(classes):
                draws = run.generator(f"match {label}", step)
                real = run.training.draw(label, run.config.real_batch, draws)
                with torch.enable_grad():
                    real, ours = augment_pair(run, real, shown_of(run, own), draws)
                augmented.append(ours)
                yield real

        target = mean_signals(signals, real_batches(), self._chunks.real)
        synthetic, sizes = torch.cat(augmented), [len(batch) for batch in augmented]
        loss, slope = distance_and_slope(signals, self.distance, synthetic, sizes, target, self._chunks.synthetic)
        (gradient,) = torch.autograd.grad(synthetic, leaf, slope)
        return loss, {"images": gradient}

    def result(self) -> SynthesisResult:
        """The set as it is now."""
        return SynthesisResult(self._images, self._run_of.labels, formation=self._run_of.config.formation)

    def state(self) -> dict[str, Any]:
        return self._passes.state()

    def restore(self, state: dict[str, Any]) -> None:
        self._passes.restore(state)


def match_means(
    run: Run[Any],
    signals: Callable[[Any, Tensor], list[Tensor]],
    distance: Distance,
    prepare: Callable[[Network], nn.Module] = as_it_is,
) -> SynthesisResult:
    """Bring the class means of signals together, from the recipe's initial images; arguments as ``MeanMatching``'s."""
    images = initial_images(run)
    optimizer = torch.optim.SGD([images], lr=run.config.image_lr, momentum=run.config.image_momentum)
    objective = MeanMatching(run, images, signals, distance, prepare)
    optimise(run, objective, {"images": images}, {"images": optimizer}, run.config.iterations)
    return objective.result()


@torch.no_grad()
def mean_signals(signals: Signals, batches: Iterable[Float[Tensor, "_ c h w"]], chunk: int) -> list[Tensor]:
    """The class means [k, d] of every signal, without a graph.

    Args:
        signals: from images to a list of tensors [n, d].
        batches: the images of every class; each is asked for when those before it have gone into a chunk.
        chunk: the most images that are in the network at once; 0: all.

    Returns:
        Means [k, d], one tensor for each signal.
    """
    means, rows, sizes = list[list[Tensor]](), list[Tensor](), list[int]()
    for images, own in _in_chunks(batches, chunk):
        sizes += own
        passed = signals(images)
        rows = [torch.cat(pair) for pair in zip(rows, passed, strict=True)] if rows else passed
        while sizes and len(rows[0]) >= sizes[0]:
            size = sizes.pop(0)
            means.append([signal[:size].mean(dim=0) for signal in rows])
            rows = [signal[size:] for signal in rows]
    return [torch.stack(column) for column in zip(*means, strict=True)]


def _in_chunks(batches: Iterable[Tensor], chunk: int) -> Iterator[tuple[Tensor, list[int]]]:
    """Images of consecutive batches, ``chunk`` at a time, with the sizes of the batches that were asked for since."""
    held, sizes = list[Tensor](), list[int]()
    for batch in batches:
        held, sizes = [*held, batch], [*sizes, len(batch)]
        while chunk and (count := sum(map(len, held))) >= chunk:
            images = torch.cat(held) if len(held) > 1 else held[0]
            held = [images[chunk:]] if count > chunk else []
            yield images[:chunk], sizes
            sizes = []
    if held:
        yield torch.cat(held), sizes


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
    means = [mean.requires_grad_() for mean in mean_signals(signals, images.detach().split(list(sizes)), chunk)]
    loss = distance(means, target)
    counts = send(torch.tensor(sizes), images.device)
    slopes = [
        (slope / counts[:, None]).repeat_interleave(counts, dim=0, output_size=len(images)).split(chunk)
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
