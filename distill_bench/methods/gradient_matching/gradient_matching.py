"""Gradient matching: DC, and DSA with siamese augmentation.

Sources: Zhao, Mopuri & Bilen, "Dataset Condensation with Gradient Matching" (ICLR 2021), Alg. 1 and Eq. 9–10;
Zhao & Bilen, "Dataset Condensation with Differentiable Siamese Augmentation" (ICML 2021), Eq. 7. Where those leave a
detail open, main.py of VICO-UoE/DatasetCondensation 53f63a6.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import flipped
from distill_bench.datasets.dataset import Dataset
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.matching import (
    MatchingConfig,
    Passes,
    augment_pair,
    chunk_of,
    has_batch_norm,
    images_at_once,
    initial_images,
)
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.networks import activation_values
from distill_bench.runtime.device import take
from distill_bench.training import compilation
from distill_bench.training.memory import GRADIENT_FACTOR, WITHOUT_GRAPH_FACTOR
from distill_bench.training.train import Plan, epochs

_NORM_GUARD = 1e-6
_BATCH_NORM_IMAGES = 16
_SECOND_FACTOR = 4.5
"""What the derivative of a gradient holds at most, as a multiple of a network's activations."""


class GradientMatchingConfig(MatchingConfig):
    """Fields of DC and DSA. An iteration is one random network with ``outer_loop`` image updates.

    Attributes:
        outer_loop: image updates for a network.
        inner_loop: epochs the network is trained on the synthetic set between two of them.
        network_lr: of that training (SGD without momentum).
        distance: the layer-wise cosine distance of the paper, or over all gradients at once.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "network_lr")
    memory_fields: ClassVar[tuple[str, ...]] = ("real_batch", "train_batch")

    outer_loop: PositiveInt
    inner_loop: PositiveInt
    network_lr: PositiveFloat = 0.01
    train_batch: PositiveInt = 256
    distance: Literal["layerwise", "cosine", "mse"] = "layerwise"

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: a class's images, real ones a gradient's graph, synthetic ones that of its derivative too."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        at_once, values = activation_values(self.network, shape, classes)
        _, most = images_at_once(self.network, shape, classes)
        mirrored, largest = 2 if self.flip else 1, max(len(indices) for indices in dataset.train.class_indices)
        trained = min(self.train_batch, classes * ipc) * mirrored
        statistics = 0.0
        if has_batch_norm(self.network, shape, classes):
            statistics = _BATCH_NORM_IMAGES * classes * at_once * WITHOUT_GRAPH_FACTOR
        else:
            trained = chunk_of(trained, most)
        real = chunk_of(min(self.real_batch, largest), most)
        images = max(real * GRADIENT_FACTOR, ipc * mirrored * _SECOND_FACTOR, trained * GRADIENT_FACTOR)
        pixels = (2 * self.real_batch + 2 * self.train_batch * mirrored + 3 * classes * ipc) * math.prod(shape)
        return int(4 * (max(images * values, statistics) + pixels))


@method(GradientMatchingConfig)
def gradient_matching(run: Run[GradientMatchingConfig]) -> SynthesisResult:
    """DC and DSA: synthetic images whose network gradients match those of real images."""
    images = initial_images(run)
    config = run.config
    optimizer = torch.optim.SGD([images], lr=config.image_lr, momentum=config.image_momentum)
    objective = GradientMatching(run, images)
    optimise(run, objective, {"images": images}, {"images": optimizer}, config.iterations * config.outer_loop)
    return objective.result()


class GradientMatching(Objective):
    """One step is one image update. Every ``outer_loop`` steps a new network begins."""

    def __init__(self, run: Run[GradientMatchingConfig], images: Float[Tensor, "n c h w"]) -> None:
        self._run_of, self._images = run, images
        self._labels = run.labels.to(run.device)
        shown = 2 * run.classes * run.ipc if run.config.flip else run.classes * run.ipc
        real = sum(min(run.config.real_batch, len(indices)) for indices in run.training.class_indices)
        trained = 3 * shown * run.config.inner_loop
        batch_norm = has_batch_norm(run.config.network, run.training.shape, run.classes)
        # the running statistics that ``freeze_batch_norm`` holds must not be moved by what is compiled
        passed = 0 if batch_norm else (3 * real + trained) * run.config.outer_loop
        self._passes = Passes(run, compilation.logits, passed)
        self._passes.take(0)
        self._at_once = images_at_once(run.config.network, run.training.shape, run.classes)[1]
        self._chunked_training = not batch_norm

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        run, outer = self._run_of, self._run_of.config.outer_loop
        if step % outer == 0:
            self._passes.take(step // outer)
        freeze_batch_norm(self._passes.network, run, step)
        losses, gradients = [], []
        # class by class: the gradient of the sum is theirs side by side, and one class's graph lives at a time
        for label, own in enumerate(self._images.split(run.ipc)):
            draws = run.generator(f"match {label}", step)
            real = run.training.draw(label, run.config.real_batch, draws)
            loss, gradient = self._match(label, real, own, draws)
            losses.append(loss)
            gradients.append(gradient)
        return torch.stack(losses).sum(), {"images": torch.cat(gradients)}

    def _match(self, label: int, real: Tensor, synthetic: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        leaf = synthetic.detach().requires_grad_()
        real, augmented = augment_pair(self._run_of, real, leaf, draws)
        parameters = list(self._passes.network.parameters())
        chunk = chunk_of(len(real), self._at_once)
        target = gradients_in_chunks(self._passes.function, parameters, real, label, chunk)
        ours = parameter_gradients(self._passes.network, parameters, augmented, label, keep_graph=True)
        loss = gradient_distance(ours, target, self._run_of.config.distance)
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient

    def after_step(self, step: int) -> None:
        """Train the network on the images as they are now, unless it was the last step with this network.

        With FYI's flip every batch is followed by its mirror images here too. Losses are not read: a network that has
        diverged makes the next step's loss NaN.
        """
        run, config = self._run_of, self._run_of.config
        if step % config.outer_loop == config.outer_loop - 1:
            return
        augment = dsa.augmentation(run.training.flip_invariant, config.always_flip) if config.augment == "dsa" else None
        whole = self._images.detach()

        def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
            images, labels = take(whole, indices), take(self._labels, indices)
            if config.flip:
                images, labels = flipped(images, labels)
            return images if augment is None else augment(images, draws), labels

        plan = Plan(epochs=config.inner_loop, batch_size=config.train_batch, learning_rate=config.network_lr)
        draws, shown = (
            run.generator("inner loop", step),
            min(config.train_batch, len(whole)) * (2 if config.flip else 1),
        )
        most = chunk_of(shown, self._at_once) if self._chunked_training else 0
        compiled = bool(run.checkpoint.compiled)
        for _ in epochs(self._passes.network, batches, len(whole), plan, draws, compiled=compiled, chunk=most):
            pass

    def result(self) -> SynthesisResult:
        """The set as it is now."""
        return SynthesisResult(self._images, self._run_of.labels)

    def state(self) -> dict[str, Any]:
        return {**self._passes.state(), "network": self._passes.network.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        self._passes.restore(state)
        self._passes.network.load_state_dict(state["network"])


def parameter_gradients(
    network: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    images: Float[Tensor, "b c h w"],
    label: int,
    *,
    keep_graph: bool,
) -> tuple[Tensor, ...]:
    """∇_θ of the mean cross-entropy of images of one class; differentiable again where ``keep_graph``.

    ``network`` is from images to logits, of the parameters θ.
    """
    labels = torch.full((len(images),), label, device=images.device)
    loss = F.cross_entropy(network(images), labels)
    return torch.autograd.grad(loss, parameters, create_graph=keep_graph)


def gradients_in_chunks(
    network: Callable[[Tensor], Tensor],
    parameters: Sequence[Tensor],
    images: Float[Tensor, "b c h w"],
    label: int,
    chunk: int,
) -> tuple[Tensor, ...]:
    """As ``parameter_gradients`` without a graph: a mean over equal parts of up to ``chunk`` images, one at a time.

    Each image must be seen alone: batch norm in evaluation mode.
    """
    total: tuple[Tensor, ...] = ()
    for part in images.chunk(-(-len(images) // chunk)):
        own = parameter_gradients(network, parameters, part, label, keep_graph=False)
        if len(part) == len(images):
            return own
        own = tuple(gradient * (len(part) / len(images)) for gradient in own)
        total = tuple(map(torch.add, total, own)) if total else own
    return total


def gradient_distance(
    synthetic: Sequence[Tensor],
    real: Sequence[Tensor],
    kind: Literal["layerwise", "cosine", "mse"] = "layerwise",
) -> Float[Tensor, ""]:
    """How far two sets of parameter gradients are apart (DC, Eq. 9–10, with the code's treatment of each layer).

    ``layerwise``: Σ over weight tensors and their output rows i of 1 − ⟨s_i, r_i⟩ / (‖s_i‖‖r_i‖ + 1e-6); convolution
    weights are flattened to [out, in·h·w], LayerNorm's [c, h, w] to [c, h·w]; vectors (biases, norm scales) count
    nothing. ``cosine`` and ``mse``: 1 − cosine, and squared difference, of all gradients as one vector with biases.
    """
    if kind == "layerwise":
        return torch.stack([_row_distance(s, r) for s, r in zip(synthetic, real, strict=True) if s.ndim > 1]).sum()
    ours, theirs = (torch.cat([gradient.flatten() for gradient in side]) for side in (synthetic, real))
    if kind == "mse":
        return (ours - theirs).square().sum()
    return 1 - (ours @ theirs) / (ours.norm() * theirs.norm() + _NORM_GUARD)


def _row_distance(synthetic: Float[Tensor, "rows ..."], real: Float[Tensor, "rows ..."]) -> Float[Tensor, ""]:
    """Σ over rows of 1 − cosine, for one weight tensor's gradients."""
    ours, theirs = synthetic.flatten(1), real.flatten(1)
    norms = ours.norm(dim=1) * theirs.norm(dim=1)
    return (1 - (ours * theirs).sum(dim=1) / (norms + _NORM_GUARD)).sum()


def freeze_batch_norm(network: nn.Module, run: Run[GradientMatchingConfig], step: int) -> None:
    """Bring batch-norm layers' running statistics nearer those of 16 real images a class, then hold them.

    As in main.py it is one pass in training mode, which moves them by the layers' momentum: a tenth of the way.
    """
    layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not layers:
        return
    draws = run.generator("batch norm", step)
    batch = [run.training.draw(label, _BATCH_NORM_IMAGES, draws) for label in range(run.classes)]
    network.train()
    with torch.no_grad():
        network(torch.cat(batch))
    for layer in layers:
        layer.eval()
