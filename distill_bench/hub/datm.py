"""DATM and DD-Ranking's triple: images [n, c, h, w], soft labels [n, classes] and a learning rate.

Form, from evaluation.py of NUS-HPC-AI-Lab/DATM 97ae510: the labels are logits, float32, whose softmax the networks are
trained with; the rate is one number.
"""

from collections.abc import Sequence

from distill_bench.errors import UsageError
from distill_bench.hub.loose_tensors import are_loose_tensors, parts_of
from distill_bench.hub.released import Foreign, Options, Released, class_order

NAME = "datm"


def recognises(files: Sequence[Foreign]) -> bool:
    """Images with a label matrix."""
    return are_loose_tensors(files) and parts_of(files).matrix is not None


def read(files: Sequence[Foreign], classes: int, options: Options) -> list[Released]:
    """The one set. The class of an image is its place in class order, which the labels' largest may contradict.

    Raises:
        UsageError: it cannot be told whether the matrix holds logits.
    """
    parts = parts_of(files)
    assert parts.matrix is not None
    matrix = parts.matrix.float()
    kind = options.labels
    if kind is None and parts.rate is not None and bool((matrix < 0).any()):
        kind = "logits"
    if kind not in ("logits", "probabilities", "argmax"):
        raise UsageError(
            f"the labels are a matrix {tuple(matrix.shape)} with values from {matrix.min():.3g} to {matrix.max():.3g}. "
            "Say what they are: --labels logits (their softmax is the target), probabilities, or argmax (regression "
            "targets, of which only the largest counts)."
        )
    rate = options.learning_rate if options.learning_rate is not None else parts.rate
    if kind == "argmax":
        return [Released(parts.images, matrix.argmax(dim=1), "custom", "dsa-v1", learning_rate=rate)]
    if len(matrix) % classes:
        labels, assumed = matrix.argmax(dim=1), "classes by the largest soft label: images do not divide evenly"
    else:
        labels = class_order(parts.images, classes, files)
        differing = int((matrix.argmax(dim=1) != labels).sum())
        assumed = f"classes in order: no file has them; {differing} of {len(labels)} largest soft labels differ"
    assumptions = (assumed, *(("learning rate 0.01: no file has the learned one",) if rate is None else ()))
    return [
        Released(parts.images, labels, "datm", "datm-v1", matrix, kind, learning_rate=rate, assumptions=assumptions)
    ]
