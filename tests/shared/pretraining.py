"""What tests of pretrained work share."""

from contextlib import contextmanager

import torch

from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.runtime.progress import SilentMonitor

CPU = torch.device("cpu")


def data(source, kind="normalized"):
    return TrainingData(source, pixel_space_of(source, kind), CPU)


class StopsAfter(SilentMonitor):
    """Asks to stop once its stages have advanced so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self.stop_requested = steps == 0

    @contextmanager
    def stage(self, title, total, done=0):
        yield self

    def advance(self, steps: int = 1) -> None:
        self._left -= steps
        self.stop_requested = self._left <= 0

    def note(self, text: str) -> None: ...
