"""DC-BENCH's selected real images: ``CIFAR10_IPC1_images.pt`` with class numbers as floats.

Form, from data_loader/ of justincui03/dc_benchmark 2a57711: normalised images; k-means has float32 labels, random none.
"""

from collections.abc import Sequence

from distill_bench.hub.formats.loose_tensors import are_loose_tensors, parts_of, read_loose
from distill_bench.hub.formats.released import ImportedTensors, Options, ReleasedFile

NAME = "dcbench"


def recognises(files: Sequence[ReleasedFile]) -> bool:
    """Images with class numbers that are floats."""
    labels = parts_of(files).labels if are_loose_tensors(files) else None
    return labels is not None and labels.is_floating_point() and (labels.ndim == 1 or labels.shape[1] == 1)


def read(files: Sequence[ReleasedFile], classes: int, options: Options) -> list[ImportedTensors]:
    """The one set."""
    return [read_loose(files, classes, options, "selection", "dsa-v1")]
