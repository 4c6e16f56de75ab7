"""What importers read and what they hand on."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy
from jaxtyping import Int64
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from distill_bench.datasets.npz import check_unfolded
from distill_bench.distilled.card import LabelKind
from distill_bench.errors import DataError, brief
from distill_bench.hub.convert.unpickle import load_pickled
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.tensors import as_tensor
from distill_bench.runtime.text import listed

TORCH_SUFFIXES = (".pt", ".pth", ".tar")
PARQUET = ".parquet"
LABELS = ("logits", "probabilities", "weights", "argmax", "order")
LAYOUTS = ("nchw", "nhwc")
CLASS_ORDERS = ("dataset", "sorted")
_CLASS_NAMES = ("class_names", "classes", "label_names")
"""What a list of class names is called in a dictionary."""


class ImportOptions(BaseModel):
    """What the user says about files that do not say it.

    Attributes:
        labels: the meaning of a label matrix: ``logits``, ``probabilities``, ``weights`` (targets of cross-entropy of
            any sum), or ``argmax`` for real-valued targets of which only the largest counts; ``order`` where there is
            no label file and classes come in order.
        layout: of image arrays.
        learning_rate: that networks are to be trained with.
        images_key, labels_key: of arrays in an .npz file or a dictionary.
        class_order: what class numbers count: the classes as the ``dataset`` has them, or its class folders ``sorted``
            by name, as torchvision's ImageFolder has them.
        factor: each image holds so many smaller ones in a row and in a column, as IDC's and DREAM's; 1: it is one.
        fraction: of the training split, that the set was made for; None for a number of images per class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: Literal["logits", "probabilities", "weights", "argmax", "order"] | None = None
    layout: Literal["nchw", "nhwc"] = "nchw"
    learning_rate: float | None = None
    images_key: str | None = None
    labels_key: str | None = None
    class_order: Literal["dataset", "sorted"] | None = None
    factor: int | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None


@dataclass(frozen=True)
class Targets:
    """The labels of a set: the class of every image, and soft labels where there are some.

    Attributes:
        assumptions: what was taken for granted, in words.
        remarks: what was seen in the files, in words.
        learned: whether classes were learned with the images, so that one may have none.
        numbered: whether classes are numbers whose order the files do not say.
    """

    labels: Int64[Tensor, " n"]
    soft: Tensor | None = None
    kind: LabelKind = "hard"
    assumptions: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    learned: bool = False
    numbered: bool = True


@dataclass(frozen=True)
class ImportedTensors:
    """One set as it was found, before it is known what its pixels mean.

    Attributes:
        images: [n, c, h, w], of any type of number.
        method, protocol: as the format suggests them.
        space: the pixel space that the format itself settles, or None.
        assumptions: what the files do not say and was taken for granted, in words.
        stored_accuracies: as the file has them, by network.
        remarks: what was seen in the files, in words.
        pair: whether the file is a bare list of images and labels, as IDC's and DREAM's are.
    """

    images: Tensor
    targets: Targets
    method: str
    protocol: str = "standard-v1"
    learning_rate: float | None = None
    space: Literal["unit", "normalized"] | None = None
    assumptions: tuple[str, ...] = ()
    stored_accuracies: dict[str, tuple[float, ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    pair: bool = False


@dataclass(frozen=True)
class ReleasedFile:
    """A file (or a folder of pictures) that somebody released."""

    path: Path

    @cached_property
    def content(self) -> Any:
        """What the file holds; None for a folder, and for a table, which its format reads.

        Raises:
            DataError: it cannot be read, or would run code.
        """
        suffix = self.path.suffix.lower()
        if self.path.is_dir():
            return None
        if not os.path.exists(self.path):
            raise DataError(f"{self.path}: no such file.")
        if suffix == PARQUET:
            return None
        if suffix in TORCH_SUFFIXES:
            return load_pickled(self.path)
        if suffix in (".npz", ".npy"):
            return _load_arrays(self.path)
        raise DataError(
            f"{self.path}: {suffix or 'a file without an ending'} is not read. Give {', '.join(TORCH_SUFFIXES)}, .npz, "
            ".npy, .parquet, or a folder of pictures. A .safetensors file of this project needs no import."
        )

    @property
    def tensor(self) -> Tensor | None:
        """The one tensor that a .pt or .npy file holds; None if it holds something else."""
        content = self.content
        if self.path.suffix.lower() == ".npy":
            content = content["array"]
        return content.detach() if isinstance(content, Tensor) else None

    @cached_property
    def sha256(self) -> str:
        """Of the file; of a folder: of the names and hashes of its files."""
        if self.path.is_dir():
            files = sorted(file for file in self.path.rglob("*") if file.is_file())
            text = "".join(f"{file.relative_to(self.path)} {sha256_of(file)}\n" for file in files)
            return hashlib.sha256(text.encode()).hexdigest()
        return sha256_of(self.path)


def not_read(content: Any, read: Sequence[str | None]) -> tuple[str, ...]:
    """A remark on what else a dictionary or list holds."""
    names = content if isinstance(content, dict) else range(len(content))
    left = [str(name) for name in names if str(name) not in (*read, *_CLASS_NAMES)]
    return (f"not read, of what the file holds: {listed(left, 8)}",) if left else ()


def class_names_in(content: Any) -> tuple[str, ...] | None:
    """The class names that a dictionary has, in label order; numbers count as names.

    Raises:
        DataError: they are something else.
    """
    stored = content if isinstance(content, dict) else {}
    names = next((stored[name] for name in _CLASS_NAMES if name in stored), None)
    if isinstance(names, numpy.ndarray):
        names = names.tolist()
    if names is None:
        return None
    if isinstance(names, (list, tuple)) and names and all(isinstance(name, str | int) for name in names):
        return tuple(map(str, names))
    raise DataError(f"its class names are {type(names).__name__}; they are a list of texts or numbers, a class each.")


def _load_arrays(path: Path) -> dict[str, Tensor | numpy.ndarray]:
    """Arrays of numbers as tensors; others, such as text, as they are."""
    check_unfolded(path)
    try:
        loaded = numpy.load(path, allow_pickle=False)
        arrays = (
            {"array": loaded} if isinstance(loaded, numpy.ndarray) else {name: loaded[name] for name in loaded.files}
        )
        return {
            name: as_tensor(array, name) if array.dtype.kind in "buifc" else array for name, array in arrays.items()
        }
    except Exception as error:  # damaged files raise errors of many types
        raise DataError(f"{path}: not a NumPy file that can be read ({brief(error)}).") from error
