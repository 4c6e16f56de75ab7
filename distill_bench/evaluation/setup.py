"""What an evaluation is but for what is trained on: equal for all sets of one table."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from distill_bench.datasets import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, Transform
from distill_bench.errors import UsageError
from distill_bench.evaluation.protocol import Protocol
from distill_bench.networks import check_trainable, is_library, is_outside, resolve_network
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.progress import SILENT, Monitor

MOST_NETWORKS = 100_000


@dataclass(frozen=True)
class EvalSetup:
    """An evaluation.

    Attributes:
        dataset: where it tests.
        rules: the protocol, with this dataset's values.
        space: the pixel space of the images that are trained on.
        transform: into it.
        network: its name.
        numbers: of the networks.
        device: where they are trained.
        monitor: hears of every epoch, and may ask to stop.
        compiled: whether networks run compiled.
    """

    dataset: Dataset
    rules: Protocol
    space: PixelSpace
    transform: Transform
    network: str
    numbers: Sequence[int]
    device: torch.device
    monitor: Monitor
    compiled: bool = False


def setup_evaluation(
    dataset: Dataset,
    rules: Protocol,
    space: PixelSpace,
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    device: str = "auto",
    monitor: Monitor = SILENT,
) -> EvalSetup:
    """An evaluation of what these names say.

    Args:
        dataset: where it tests.
        rules: the protocol.
        space: the pixel space of the images that are trained on.
        network, networks, device, monitor: as for ``evaluate``.

    Returns:
        The evaluation, not compiled.

    Raises:
        UsageError: unknown names, or no or too many networks.
    """
    rules = rules.for_dataset(dataset.name)
    name, shape = rules.network if network is None else network, dataset.train.shape
    if rules.probe is not None and (is_outside(name) or is_library(name)):
        raise UsageError(f"{rules.id} probes the features of networks of this project; {name} is none of them.")
    check_trainable(name, shape, len(dataset.class_names))
    asked = rules.networks if networks is None else networks
    if isinstance(asked, int) and asked > MOST_NETWORKS:
        raise UsageError(f"`networks={asked}` are too many: give at most {MOST_NETWORKS:,}.")
    numbers = range(asked) if isinstance(asked, int) else asked
    if not numbers:
        raise UsageError(f"`networks={asked}`: at least one network must be trained.")
    if len({*numbers}) < len(numbers) or min(numbers) < 0:
        raise UsageError(f"`networks={asked}`: the numbers of networks are 0, 1 and so on, each once.")
    return EvalSetup(
        dataset=dataset,
        rules=rules,
        space=space,
        transform=Transform(space, dataset.train),
        network=resolve_network(name, shape),
        numbers=numbers,
        device=resolve_device(device),
        monitor=monitor,
    )
