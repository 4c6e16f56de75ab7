"""What a pre-trained network is worth: few labelled images, a linear probe on its features or fine-tuning, one test.

Labels are those of training images. Which ones are drawn depends on the dataset and the network's number alone, so that
all sets and lines are compared on the same. Sources: the fine-tuning of db-Lee/selfsup_dd 4beb4b1 (test.py), and the
logistic regression on few labels of jiayini1119/MKDT eaf200e.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.networks import Network, initialise
from distill_bench.pretrained.barlow_twins import EncoderRecipe
from distill_bench.runtime.device import send
from distill_bench.training.train import TEST_BATCH, Augment, ImageLoader, Plan, accuracy, table_batches, train

_MOST_ITERATIONS = 200
_CENTRED_ON = 2000


class Probe(BaseModel):
    """What follows the pre-training of a protocol on targets.

    Attributes:
        way: logistic regression on the features (``linear``), or training of the whole network with a new classifier.
        labels: images of every class whose labels are used; 0: all.
        draws: how often these are drawn for a network, whose accuracy is the mean; once where all are used.
        penalty: of the regression: half of it times the sum of squared weights, of features of mean square 1.
        steps, batch_size, learning_rate, weight_decay: of fine-tuning by SGD with momentum 0.9; the rate falls along a
            cosine, step by step. Steps are at least so many, in whole passes over the images.
        encoder: how the line of all data is pre-trained; its network is the protocol's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    way: Literal["linear", "finetune"]
    labels: NonNegativeInt
    draws: PositiveInt = 3
    penalty: PositiveFloat = 1e-3
    steps: PositiveInt = 100
    batch_size: PositiveInt = 128
    learning_rate: PositiveFloat = 0.01
    weight_decay: NonNegativeFloat = 5e-4
    encoder: EncoderRecipe = EncoderRecipe.model_validate({})

    def plan(self, images: int) -> Plan:
        """The plan of fine-tuning on so many images."""
        return Plan(
            epochs=math.ceil(self.steps / math.ceil(images / self.batch_size)),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=0.9,
            weight_decay=self.weight_decay,
            annealing=1.0,
            anneal_every="step",
        )


@dataclass(frozen=True)
class Task:
    """The labelled images of a dataset, as networks see them.

    Attributes:
        load, labels: the training split.
        test, test_labels: the test split.
        classes: how many.
        augment: what is done to a batch in fine-tuning.
        device: of images and networks.
    """

    load: ImageLoader
    labels: Int64[Tensor, " n"]
    test: ImageLoader
    test_labels: Int64[Tensor, " m"]
    classes: int
    augment: Augment | None
    device: torch.device


def probed(network: Network, probe: Probe, task: Task, draws_of: Callable[[int], Generator]) -> float:
    """Percent of test images right, the mean over the draws of labels.

    Args:
        network: pre-trained; it is left as it is.
        probe: what is done with it.
        task: labels and images.
        draws_of: the generator of a draw by its number.

    Returns:
        Percent.

    Raises:
        RunFailed: fine-tuning diverged.
    """
    generators = [draws_of(number) for number in range(probe.draws if probe.labels else 1)]
    chosen = [(labelled(task.labels, task.classes, probe.labels, draws), draws) for draws in generators]
    if probe.way == "linear":
        return _linear(network.eval(), probe, task, [indices for indices, _ in chosen])
    return fmean(_fine_tuned(network, probe, task, *each) for each in chosen)


def labelled(labels: Int64[Tensor, " n"], classes: int, count: int, draws: Generator) -> Int64[Tensor, " k"]:
    """Indices of ``count`` different images of every class, in class order; all of a smaller class; 0: all images."""
    if not count:
        return torch.arange(len(labels))
    of_class = [(labels.cpu() == label).nonzero().flatten() for label in range(classes)]
    return torch.cat([own[torch.randperm(len(own), generator=draws)[:count]] for own in of_class])


def _linear(network: Network, probe: Probe, task: Task, chosen: list[Tensor]) -> float:
    """The mean accuracy of a classifier for each choice of labelled images, on features centred and scaled alike."""
    spread = torch.arange(min(len(task.labels), _CENTRED_ON)) * len(task.labels) // min(len(task.labels), _CENTRED_ON)
    some = features_of(network, task.load, spread, task.device)
    centre = some.mean(dim=0)
    size = (some - centre).square().mean().sqrt().clamp_min(1e-12)
    tested = (features_of(network, task.test, torch.arange(len(task.test_labels)), task.device) - centre) / size
    truth, found = task.test_labels.cpu(), list[float]()
    for indices in chosen:
        features = (features_of(network, task.load, indices, task.device) - centre) / size
        weights, bias = logistic_regression(features, task.labels.cpu()[indices], task.classes, probe.penalty)
        found.append(100 * float(((tested @ weights.mT + bias).argmax(dim=1) == truth).double().mean()))
    return fmean(found)


def features_of(
    network: Network, load: ImageLoader, indices: Int64[Tensor, " k"], device: torch.device
) -> Float[Tensor, "k d"]:
    """The inputs of the network's classifier for images, in float64 on the CPU."""
    with torch.inference_mode():
        parts = [network.embed(send(load(some), device)).cpu() for some in indices.split(TEST_BATCH)]
    return torch.cat(parts).double().clone()


def logistic_regression(
    features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"], classes: int, penalty: float
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """The least mean cross-entropy + ½ · penalty · Σ weights², by L-BFGS from zero; offsets are not penalised.

    Args:
        features: float64.
        labels: of the images.
        classes: how many there are, those without an image included.
        penalty: of the weights.

    Returns:
        Weights and offsets: logits are ``features @ weights.mT + offsets``.
    """
    weights = torch.zeros(classes, features.shape[1], dtype=features.dtype, requires_grad=True)
    offsets = torch.zeros(classes, dtype=features.dtype, requires_grad=True)
    solver = torch.optim.LBFGS(
        [weights, offsets], max_iter=_MOST_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(features @ weights.mT + offsets, labels) + penalty / 2 * weights.square().sum()
        value.backward()
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weights.detach(), offsets.detach()


def _fine_tuned(network: Network, probe: Probe, task: Task, indices: Tensor, draws: Generator) -> float:
    """The accuracy of a copy of the network, trained with a new classifier on labelled images."""
    copied = copy.deepcopy(network)
    copied.classifier = _classifier(network.classifier.in_features, task, draws)
    own = task.labels.cpu()[indices].to(task.device)
    batches = table_batches(lambda at: task.load(indices[at]), own, task.augment)
    train(copied, batches, len(indices), probe.plan(len(indices)), draws)
    return accuracy(copied, task.test, task.test_labels)


def _classifier(features: int, task: Task, draws: Generator) -> nn.Linear:
    with torch.device("meta"):
        blank = nn.Linear(features, task.classes)
    return send(initialise(blank.to_empty(device="cpu"), draws), task.device)
