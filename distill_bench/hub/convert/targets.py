"""What the labels of a release mean: class numbers of any type, one-hot rows, soft labels, or none."""

import torch
from jaxtyping import Int64
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.imagenet import folder_names
from distill_bench.distilled.card import LabelKind
from distill_bench.errors import DataError, UsageError
from distill_bench.hub.convert.released_file import ImportOptions, Targets
from distill_bench.runtime.tensors import as_classes, one_hot_classes

_ASSUMED_ORDER = "labels in class order: no file has them"
_KINDS = ("logits", "probabilities", "weights")
_MOST_DIFFERING = 0.1
"""The fraction of images whose largest soft label may contradict class order for it to be taken for granted."""


def read_targets(
    given: Tensor | None,
    count: int,
    classes: int,
    options: ImportOptions,
    where: str,
    *,
    usual: LabelKind | None = None,
    ordered: bool = False,
) -> Targets:
    """The labels of so many images.

    Args:
        given: as a file has them; None if none does.
        count: how many images there are.
        classes: how many the dataset has.
        options: what the user says of labels.
        where: they stand, for errors.
        usual: what a label matrix of this format holds, if nothing is said; None: that is asked.
        ordered: whether images of this format come in class order, so that the largest of an image's soft labels may
            be another class than its own.

    Returns:
        The labels, with what was assumed.

    Raises:
        DataError: they do not fit the images or the classes.
        UsageError: what a matrix means has to be said, or was said of something else.
    """
    if given is None:
        order = class_order(count, classes, where)
        return Targets(order, assumptions=() if options.labels == "order" else (_ASSUMED_ORDER,))
    if options.labels == "order":
        raise UsageError(f"`labels=order` is for images without labels, but {where} has them: leave one of them out.")
    if len(given) != count:
        raise DataError(f"{where}: {count} images, but {len(given)} labels: they are not of one set.")
    advice = " Or the set was made for another dataset: `dataset`."
    soft = options.labels in _KINDS
    if given.ndim == 1 or given.shape[1] == 1:
        if soft:
            raise UsageError(
                f"`labels={options.labels}`: {where} has class numbers {tuple(given.shape)}. Leave it out."
            )
        return Targets(as_classes(given, classes, f"{where}: labels", advice))
    if given.shape[1] != classes:
        raise DataError(f"{where}: labels {tuple(given.shape)}, but {classes} classes need as many columns.{advice}")
    hot = None if soft else one_hot_classes(given, f"{where}: labels")
    if hot is not None:
        return Targets(hot, remarks=(f"the labels of {where} are one-hot rows: read as classes",))
    return _soft(given.float(), classes, options.labels or usual, where, ordered)


def class_order(count: int, classes: int, where: str) -> Int64[Tensor, " n"]:
    """The labels of a set without any: classes in order, equally many images of each.

    Raises:
        DataError: the images do not divide evenly among the classes.
    """
    if count % classes:
        raise DataError(
            f"{where}: {count} images without labels do not divide among {classes} classes. Give the "
            "file of labels also, or the dataset that the set was made for."
        )
    return torch.arange(classes).repeat_interleave(count // classes)


def _soft(matrix: Tensor, classes: int, kind: str | None, where: str, ordered: bool) -> Targets:
    if not bool(matrix.isfinite().all()):
        raise DataError(f"{where}: some soft labels are NaN or infinite; all must be finite.")
    if kind not in (*_KINDS, "argmax"):
        raise UsageError(
            f"the labels of {where} are a matrix {tuple(matrix.shape)} with values from {matrix.min():.3g} to "
            f"{matrix.max():.3g}. Say what they are: `labels=logits`, probabilities, weights (targets "
            "of cross-entropy of any sum), or argmax (regression targets, as KIP, RCIG and RFAD have them: only the "
            "largest counts)."
        )
    largest = matrix.argmax(dim=1)
    if kind == "argmax":
        return Targets(largest, learned=True)
    labels, assumptions = _classes_of(largest, classes) if ordered else (largest, ())
    return Targets(labels, matrix, kind, assumptions, learned=True)  # type: ignore[arg-type]


def _classes_of(largest: Tensor, classes: int) -> tuple[Tensor, tuple[str, ...]]:
    """The class of every image of a form that has soft labels and comes in class order, unless they contradict that."""
    if len(largest) % classes:
        return largest, ("classes by the largest soft label: images do not divide evenly",)
    order = torch.arange(classes).repeat_interleave(len(largest) // classes)
    differing = int((largest != order).sum())
    if differing > _MOST_DIFFERING * len(order):
        return largest, (f"classes by the largest soft label: class order contradicts {differing} of {len(order)}",)
    return order, (f"classes in order: no file has them; {differing} of {len(order)} largest soft labels differ",)


def sorted_classes(dataset: Dataset) -> list[int]:
    """The labels of the classes in the order of their folders' names: the place in it is what ImageFolder numbers."""
    folders = folder_names(dataset.name, dataset.class_names)
    return sorted(range(len(folders)), key=folders.__getitem__)
