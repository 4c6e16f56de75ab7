"""DATM and DD-Ranking's triple: images [n, c, h, w], soft labels [n, classes] and a learning rate.

Form, from evaluation.py of NUS-HPC-AI-Lab/DATM 97ae510: the labels are logits, float32, whose softmax the networks are
trained with; the rate is one number. Images come in class order, which the largest of their labels may contradict.
"""

from collections.abc import Sequence

from distill_bench.hub.formats.loose_tensors import are_loose_tensors, parts_of, read_loose
from distill_bench.hub.formats.released import ImportedTensors, Options, ReleasedFile

NAME = "datm"


def recognises(files: Sequence[ReleasedFile]) -> bool:
    """Images with a label matrix."""
    return are_loose_tensors(files) and parts_of(files).is_matrix


def read(files: Sequence[ReleasedFile], classes: int, options: Options) -> list[ImportedTensors]:
    """The one set.

    Raises:
        UsageError: it cannot be told whether the matrix holds logits.
    """
    if options.labels == "argmax" and parts_of(files).is_matrix:
        return [read_loose(files, classes, options, "custom", "dsa-v1")]
    return [read_loose(files, classes, options, "datm", "datm-v1", ordered=True)]
