"""DC-BENCH's selected real images: ``CIFAR10_IPC1_images.pt`` with class numbers as floats.

Form, from data_loader/ of justincui03/dc_benchmark 2a57711: normalised images; k-means has float32 labels, random none.
"""

from collections.abc import Sequence

from distill_bench.hub.loose_tensors import are_loose_tensors, parts_of, whole_numbers
from distill_bench.hub.released import Foreign, Options, Released

NAME = "dcbench"


def recognises(files: Sequence[Foreign]) -> bool:
    """Images with class numbers that are floats."""
    if not are_loose_tensors(files):
        return False
    numbers = parts_of(files).numbers
    return numbers is not None and numbers.is_floating_point()


def read(files: Sequence[Foreign], classes: int, options: Options) -> list[Released]:
    """The one set."""
    parts = parts_of(files)
    assert parts.numbers is not None
    labels = whole_numbers(parts.numbers, str(files[0].path))
    return [Released(parts.images, labels, "selection", "dsa-v1", learning_rate=options.learning_rate)]
