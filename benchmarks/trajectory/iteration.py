"""One gradient of trajectory matching at CIFAR-10 shape, ours or the reference's: what memory.py and speed.py time."""

import time

import torch
from reference import Iteration
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from distill_bench.augment import dsa
from distill_bench.networks import build_network
from distill_bench.randomness import generator
from distill_bench.synthesizers.trajectory_gradient import Batch, Student, trajectory_gradient

SHAPE, CLASSES, NETWORK, RATE = (3, 32, 32), 10, "ConvNetD3", 0.01
OURS, REFERENCE = ("exact", "tesla", "unrolled"), ("reference-tesla", "reference-mtt")


def ends() -> tuple[Tensor, Tensor]:
    """A start and a target, the second as far off as an epoch of training goes."""
    network = build_network(NETWORK, SHAPE, CLASSES, generator("benchmark", "network"))
    start = parameters_to_vector(network.parameters()).detach()
    return start, start + 0.01 * torch.randn(len(start), generator=generator("benchmark", "target"))


def batches(count: int, steps: int) -> list[Batch]:
    """The whole set at every step, with a DSA operation each."""

    def batch(step: int) -> Batch:
        drawn = dsa.sample(dsa.OPERATIONS, count, SHAPE, generator("benchmark", "augmentation", step))
        return lambda images, labels: (dsa.apply(drawn, images), labels)

    return [batch(step) for step in range(steps)]


def timed(kind: str, count: int, steps: int, *, compiled: bool = False, repetitions: int = 1) -> list[float]:
    """Seconds of each of ``repetitions`` gradients; compiling is done before."""
    images = torch.randn(count, *SHAPE, generator=generator("benchmark", "images"))
    labels = torch.arange(count) % CLASSES
    start, target = ends()
    if kind in REFERENCE:
        iteration, name = Iteration(images, labels, CLASSES), kind.removeprefix("reference-")

        def run(length: int) -> None:
            getattr(iteration, name)(start, target, length)

    else:
        student = Student(build_network(NETWORK, SHAPE, CLASSES, generator("shapes")), compiled=compiled)

        def run(length: int) -> None:
            rate = torch.tensor(RATE)
            trajectory_gradient(student, start, target, images, labels, rate, batches(count, length), kind)  # type: ignore[arg-type]

    run(1)
    seconds = []
    for _ in range(repetitions):
        began = time.perf_counter()
        run(steps)
        seconds.append(time.perf_counter() - began)
    return seconds
