"""A pool of pre-trained networks, and what lies between each one's first and last values (NCFM)."""

from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from distill_bench.methods.experts import experts_asked_for
from distill_bench.methods.run import Run
from distill_bench.networks import Network, build_network
from distill_bench.runtime.device import send

Mixture = Literal["uniform", "random", "trained"]


class Pool:
    """The experts of a run's recipe, of which a step takes one.

    Args:
        run: whose config is an ``ExpertConfig`` with a ``mixture``.
    """

    def __init__(self, run: Run[Any]) -> None:
        self._run, self._experts = run, experts_asked_for(run)

    def mixed(self, step: int) -> Network:
        """The network whose features a step matches, in training mode."""
        expert, share = self._drawn(step)
        return self._network(mix(self._experts.snapshot(expert, 0), self._experts.snapshot(expert, -1), share))

    def trained(self, step: int) -> Network:
        """The trained end of the same expert, in training mode."""
        return self._network(self._experts.snapshot(self._drawn(step)[0], -1))

    def _drawn(self, step: int) -> tuple[int, float]:
        """The expert of a step, and the share of its first values."""
        draws, mixture = self._run.generator("pool", step), self._run.config.mixture
        expert = int(torch.randint(len(self._experts), (), generator=draws))
        share = float(torch.rand((), generator=draws)) if mixture == "uniform" else float(mixture == "random")
        return expert, share

    def _network(self, values: Float[Tensor, " p"]) -> Network:
        run = self._run
        network = build_network(run.config.network, run.training.shape, run.classes, run.generator("shapes"))
        vector_to_parameters(values, network.parameters())
        return send(network, run.device)


def mix(first: Float[Tensor, " p"], last: Float[Tensor, " p"], share: float) -> Float[Tensor, " p"]:
    """ℓ·first + (1−ℓ)·last; at ℓ = 1 and 0 one of the two to the bit."""
    return share * first + (1 - share) * last
