"""Sets that come as a file a tensor: which file holds images, labels and the learning rate is told from the shapes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.card import LabelKind
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import training_images
from distill_bench.errors import DataError
from distill_bench.hub.convert.format import Format
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile
from distill_bench.hub.convert.targets import read_targets
from distill_bench.hub.convert.writing import saved
from distill_bench.runtime.tensors import is_zeros_and_ones

ASSUMED_RATE = "learning rate 0.01: no file has the learned one"


@dataclass(frozen=True)
class Parts:
    """Images [n, c, h, w]; labels [n] or [n, k], or None; a learning rate, or None; the file that has the labels."""

    images: Tensor
    labels: Tensor | None = None
    rate: float | None = None
    where: str = ""

    @property
    def is_matrix(self) -> bool:
        """Whether the labels are a matrix of other numbers than 0 and 1, which would be one-hot rows."""
        labels = self.labels
        return labels is not None and labels.ndim == 2 and labels.shape[1] > 1 and not is_zeros_and_ones(labels)

    @property
    def has_float_classes(self) -> bool:
        """Whether the labels are floats, one an image."""
        labels = self.labels
        return labels is not None and labels.is_floating_point() and (labels.ndim == 1 or labels.shape[1] == 1)

    @property
    def logits(self) -> LabelKind | None:
        """``logits`` where a matrix can be nothing else: some are negative, and a rate was learned with them."""
        return "logits" if self.labels is not None and self.rate is not None and bool((self.labels < 0).any()) else None


class LooseTensors(Format):
    """A format of a file a tensor, exactly one of which holds images."""

    def accepts(self, files: Sequence[ReleasedFile]) -> bool:
        """Whether the files are such tensors. A single .npy file is for ``arrays``."""
        if len(files) == 1 and files[0].path.suffix.lower() == ".npy":
            return False
        tensors = [file.tensor for file in files]
        return sum(item.ndim in (3, 4) for item in tensors if item is not None) == 1 and all(
            item is not None for item in tensors
        )


def parts_of(files: Sequence[ReleasedFile]) -> Parts:
    """The role of each file.

    Raises:
        DataError: two files have the same role, or one has none.
    """
    roles: dict[str, tuple[ReleasedFile, Tensor]] = {}
    for file in files:
        tensor = file.tensor
        assert tensor is not None
        role = {4: "images", 3: "images", 2: "labels", 1: "labels", 0: "rate"}.get(tensor.ndim)
        if tensor.ndim == 1 and len(tensor) == 1 and tensor.is_floating_point():
            role = "rate"
        if role is None or role in roles:
            also = f" {roles[role][0].path} has the {role} already." if role in roles else ""
            raise DataError(
                f"{file.path}: a tensor of shape {tuple(tensor.shape)}.{also} A set is one tensor of images "
                "[n, c, h, w], at most one of labels [n] or [n, classes], and at most one learning rate."
            )
        roles[role] = file, tensor
    file, labels = roles.get("labels", (files[0], None))
    rate = float(roles["rate"][1]) if "rate" in roles else None
    return Parts(roles["images"][1], labels, rate, str(file.path))


def read_loose(
    files: Sequence[ReleasedFile],
    dataset: Dataset,
    options: ImportOptions,
    method: str,
    protocol: str,
    *,
    ordered: bool = False,
) -> ImportedTensors:
    """The one set, whose method and protocol its format suggests; ``ordered`` as for ``read_targets``."""
    parts, classes = parts_of(files), len(dataset.class_names)
    usual = parts.logits if ordered else None
    targets = read_targets(parts.labels, len(parts.images), classes, options, parts.where, usual=usual, ordered=ordered)
    rate = options.learning_rate if options.learning_rate is not None else parts.rate
    assumed = (ASSUMED_RATE,) if rate is None else ()
    assumptions = (*targets.assumptions, *assumed) if ordered else (*assumed, *targets.assumptions)
    return ImportedTensors(parts.images, targets, method, protocol, learning_rate=rate, assumptions=assumptions)


def write_loose(
    distilled: DistilledSet, labels: Tensor, out: Path, dataset: Dataset | None
) -> Iterator[tuple[Path, bytes]]:
    """``images_best.pt`` and ``labels_best.pt``, with ``lr_best.pt`` where there is a learned rate."""
    yield out / "images_best.pt", saved(training_images(distilled, dataset))
    yield out / "labels_best.pt", saved(labels)
    if distilled.learning_rate is not None:
        rate = torch.tensor(distilled.learning_rate)
        exact = float(rate) == distilled.learning_rate
        yield out / "lr_best.pt", saved(rate if exact else torch.tensor(distilled.learning_rate, dtype=torch.float64))
