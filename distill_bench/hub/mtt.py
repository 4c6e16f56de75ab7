"""MTT, TESLA and FTD: ``images_*.pt`` [n, c, h, w], ``labels_*.pt`` [n], and sometimes the learned rate.

Form, from distill.py of GeorgeCazenavette/mtt-distillation 50dccea: plain tensors; the learned rate was only logged.
DC-BENCH's real images come the same way, with class numbers as floats, or without labels: see ``dcbench``.
"""

from collections.abc import Sequence

import torch

from distill_bench.hub.loose_tensors import are_loose_tensors, parts_of
from distill_bench.hub.released import Foreign, Options, Released, class_order

NAME = "mtt"
ASSUMED_RATE = "learning rate 0.01: no file has the learned one"
ASSUMED_ORDER = "labels in class order: no file has them"


def recognises(files: Sequence[Foreign]) -> bool:
    """Images and whole class numbers, or images alone."""
    if not are_loose_tensors(files):
        return False
    parts = parts_of(files)
    return parts.matrix is None and (parts.numbers is None or parts.numbers.dtype == torch.int64)


def read(files: Sequence[Foreign], classes: int, options: Options) -> list[Released]:
    """The one set."""
    parts = parts_of(files)
    rate = options.learning_rate if options.learning_rate is not None else parts.rate
    ordered = parts.numbers is None
    labels = class_order(parts.images, classes, files) if parts.numbers is None else parts.numbers.long()
    assumed = [ASSUMED_RATE] * (rate is None) + [ASSUMED_ORDER] * (ordered and options.labels != "order")
    return [
        Released(parts.images, labels, "mtt", "mtt-v1", learning_rate=rate, assumptions=tuple(assumed)),
    ]
