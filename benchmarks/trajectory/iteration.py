"""One gradient of trajectory matching at CIFAR-10 shape, eager: what memory.py measures."""

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from distill_bench.augmentations import dsa
from distill_bench.methods.trajectory_matching.gradient import trajectory_gradient
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.student import Batch, Student
from distill_bench.training.window import GradientKind

SHAPE, CLASSES, NETWORK, RATE = (3, 32, 32), 10, "ConvNetD3", 0.01


def batches(count: int, steps: int) -> list[Batch]:
    """The whole set at every step, with a DSA operation each."""

    def batch(step: int) -> Batch:
        drawn = dsa.sample(dsa.OPERATIONS, count, SHAPE, generator("benchmark", "augmentation", step))
        return lambda images, labels: (dsa.apply(drawn, images), labels)

    return [batch(step) for step in range(steps)]


def ends() -> tuple[Tensor, Tensor]:
    """A start and a target near it."""
    network = build_network(NETWORK, SHAPE, CLASSES, generator("benchmark", "network"))
    start = parameters_to_vector(network.parameters()).detach()
    return start, start + 0.01 * torch.randn(len(start), generator=generator("benchmark", "target"))


def take(kind: GradientKind, count: int, steps: int) -> None:
    """One gradient."""
    images = torch.randn(count, *SHAPE, generator=generator("benchmark", "images"))
    student = Student(build_network(NETWORK, SHAPE, CLASSES, generator("shapes")))
    given = (*ends(), images, torch.arange(count) % CLASSES, torch.tensor(RATE))
    trajectory_gradient(student, *given, batches(count, steps), kind)
