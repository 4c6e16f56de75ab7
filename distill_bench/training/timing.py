"""How long training takes here: a step or two are timed, and scaled."""

import time
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Generator
from torch.nn import functional as F

from distill_bench.networks import build_network

_TIMED = 2


class Training(NamedTuple):
    """A network's training.

    Attributes:
        network: its name.
        shape: of an image, [channels, height, width].
        classes: how many.
        batch: images of a step.
        images: that it is shown, every epoch's counted.
    """

    network: str
    shape: tuple[int, int, int]
    classes: int
    batch: int
    images: int

    @property
    def seconds(self) -> float:
        """About how long it takes on this machine's processor; augmentation is not counted."""
        return seconds_per_image(*self[:4]) * self.images


@lru_cache(maxsize=64)
def seconds_per_image(network: str, shape: tuple[int, int, int], classes: int, batch: int) -> float:
    """Seconds of a training step for each of its images, timed now, after one that is not counted.

    Args:
        network: its name.
        shape: of an image, [channels, height, width].
        classes: how many.
        batch: images of a step.

    Returns:
        The seconds.
    """
    module = build_network(network, shape, classes, Generator())
    images, labels = torch.zeros(batch, *shape), torch.zeros(batch, dtype=torch.int64)
    began = 0.0
    for step in range(1 + _TIMED):
        began = time.perf_counter() if step == 1 else began
        F.cross_entropy(module(images), labels).backward()
    return (time.perf_counter() - began) / _TIMED / batch
