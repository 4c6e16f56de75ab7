"""What the matching methods share: their common fields, how images begin, and siamese augmentation."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor

from distill_bench.augment import dsa
from distill_bench.networks import Network, build_network
from distill_bench.synthesizers.job import Fields, Job


class MatchingFields(Fields):
    """Fields of every matching method.

    Attributes:
        iterations: outer iterations; what one is, the method says.
        image_lr, image_momentum: of the SGD that updates the images.
        init: real images of the class, or noise N(0, 1) in the pixel space.
        real_batch: real images of a class a step.
        network: the network whose signals are matched.
        augment: siamese DSA, or none.
    """

    iterations: PositiveInt
    image_lr: PositiveFloat
    image_momentum: NonNegativeFloat = 0.5
    init: Literal["real", "noise"] = "real"
    real_batch: PositiveInt = 256
    network: str = "ConvNet"
    augment: Literal["none", "dsa"] = "none"


def initial_images(job: Job[Any]) -> Float[Tensor, "n c h w"]:
    """Where synthesis starts: ipc images a class, in class order, requiring no gradient yet."""
    if job.fields.init == "noise":
        shape = (job.classes * job.ipc, *job.training.shape)
        return torch.randn(shape, generator=job.generator("initial images")).to(job.device)
    draws = (job.training.draw(c, job.ipc, job.generator("initial images", c)) for c in range(job.classes))
    return torch.cat(list(draws)).clone()


def random_network(job: Job[Any], index: int) -> Network:
    """Network ``index`` of the job's stream of random networks, in training mode."""
    draws = job.generator("network", index)
    return build_network(job.fields.network, job.training.shape, job.classes, draws).to(job.device)


def augment_pair(
    job: Job[Any], real: Float[Tensor, "r c h w"], synthetic: Float[Tensor, "s c h w"], generator: Generator
) -> tuple[Float[Tensor, "r c h w"], Float[Tensor, "s c h w"]]:
    """Siamese DSA: one operation with one set of parameters on both batches; nothing where the recipe says none."""
    if job.fields.augment == "none":
        return real, synthetic
    operations = dsa.usual_operations(job.training.flip_invariant)
    drawn = dsa.sample(operations, 1, job.training.shape, generator)
    return dsa.apply(drawn, real), dsa.apply(drawn, synthetic)
