"""What importers read and what they hand on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy
import torch
from torch import Tensor

from distill_bench.distilled_set import LabelKind
from distill_bench.errors import DataError, brief
from distill_bench.hub.unpickle import load_pickled
from distill_bench.sources.npz import check_unfolded

TORCH_SUFFIXES = (".pt", ".pth", ".tar")
LABELS = ("logits", "probabilities", "argmax", "order")
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class Options:
    """What the user says about files that do not say it.

    Attributes:
        labels: the meaning of a label matrix: ``logits``, ``probabilities``, or ``argmax`` for real-valued targets of
            which only the largest counts; ``order`` where there is no label file and classes come in order.
        layout: of image arrays.
        learning_rate: that networks are to be trained with.
        images_key, labels_key: of arrays in an .npz file or a dictionary.
    """

    labels: Literal["logits", "probabilities", "argmax", "order"] | None = None
    layout: Literal["nchw", "nhwc"] = "nchw"
    learning_rate: float | None = None
    images_key: str | None = None
    labels_key: str | None = None


@dataclass(frozen=True)
class Released:
    """One set as it was found, before it is known what its pixels mean.

    Attributes:
        images: [n, c, h, w]; uint8 where they are pictures.
        labels: int64 [n].
        space: the pixel space that the form itself settles, or None.
        assumptions: what the files do not say and was taken for granted, in words.
        stored_accuracies: as the file has them, by network.
    """

    images: Tensor
    labels: Tensor
    method: str
    protocol: str = "standard-v1"
    soft_labels: Tensor | None = None
    label_kind: LabelKind = "hard"
    learning_rate: float | None = None
    space: Literal["unit", "normalized"] | None = None
    assumptions: tuple[str, ...] = ()
    stored_accuracies: dict[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Foreign:
    """A file (or a folder of pictures) that somebody released."""

    path: Path

    @cached_property
    def content(self) -> Any:
        """What the file holds; None for a folder.

        Raises:
            DataError: it cannot be read, or would run code.
        """
        suffix = self.path.suffix.lower()
        if self.path.is_dir():
            return None
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file.")
        if suffix in TORCH_SUFFIXES:
            return load_pickled(self.path)
        if suffix in (".npz", ".npy"):
            return _load_arrays(self.path)
        raise DataError(
            f"{self.path}: {suffix or 'a file without an ending'} is not read. Give {', '.join(TORCH_SUFFIXES)}, .npz, "
            ".npy, or a folder of pictures. A .safetensors file of this project needs no import."
        )

    @cached_property
    def sha256(self) -> str:
        """Of the file; of a folder: of the names and hashes of its files."""
        if self.path.is_dir():
            files = sorted(file for file in self.path.rglob("*") if file.is_file())
            text = "".join(f"{file.relative_to(self.path)} {_sha256(file)}\n" for file in files)
            return hashlib.sha256(text.encode()).hexdigest()
        return _sha256(self.path)


def class_order(images: Tensor, classes: int, files: Sequence[Foreign]) -> Tensor:
    """The labels of a set without any: classes in order, equally many images of each.

    Raises:
        DataError: the images do not divide evenly among the classes.
    """
    if len(images) % classes:
        raise DataError(
            f"{files[0].path}: {len(images)} images without labels do not divide among {classes} classes. Give the "
            "file of labels also, or the dataset that the set was made for."
        )
    return torch.arange(classes).repeat_interleave(len(images) // classes)


def _load_arrays(path: Path) -> dict[str, Tensor]:
    check_unfolded(path)
    try:
        loaded = numpy.load(path, allow_pickle=False)
        arrays = (
            {"array": loaded} if isinstance(loaded, numpy.ndarray) else {name: loaded[name] for name in loaded.files}
        )
        return {name: torch.from_numpy(array) for name, array in arrays.items() if array.dtype.kind in "uif"}
    except Exception as error:  # damaged files raise errors of many types
        raise DataError(f"{path}: not a NumPy file that can be read ({brief(error)}).") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
