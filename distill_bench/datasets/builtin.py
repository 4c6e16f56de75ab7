"""The named datasets: MNIST, Fashion-MNIST, SVHN, CIFAR-10 and CIFAR-100, from local files or through torchvision.

Class names, their order, and the normalisation are constants, equal whichever way the images came.
"""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from jaxtyping import Int64
from torch import Tensor

from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.datasets.decode import Shape, resize_pixels
from distill_bench.datasets.folder import folder_dataset
from distill_bench.datasets.info import DatasetInfo, named
from distill_bench.datasets.parquet import parquet_dataset, split_files
from distill_bench.errors import DataError
from distill_bench.runtime.paths import cache_dir, offline

_MISSPELT = {"cra": "crab"}
"""Names as Hugging Face's cifar100 spells them."""


class TorchvisionDataset(DatasetInfo):
    """A dataset that torchvision can read and download.

    Attributes:
        class_names: in label order, whichever way the images come.
        shape: (channels, height, width).
        flip_invariant: whether a mirrored image keeps its label.
        constants: mean and standard deviation per channel, of pixels in [0, 1].
        torchvision: the name of the class in ``torchvision.datasets``.
        files: what that class reads, relative to its root.
        splits: the arguments by which that class gives the training split, and the test split.
        labels: its attribute that holds the labels.
    """

    class_names: tuple[str, ...]
    shape: Shape
    flip_invariant: bool
    constants: tuple[tuple[float, ...], tuple[float, ...]]
    torchvision: str
    files: str
    splits: tuple[Mapping[str, Any], Mapping[str, Any]] = ({"train": True}, {"train": False})
    labels: str = "targets"

    @property
    def class_count(self) -> int:
        return len(self.class_names)

    @property
    def folder(self) -> Path:
        """Where its files are looked for."""
        return cache_dir() / "sources" / self.name

    def load(self, size: int | None = None) -> Dataset:
        """From parquet files or class folders under ``cache_dir()/sources/<name>``, else through torchvision.

        Raises:
            DataError: local files are not what the name says. Missing files show when a split is asked for.
        """
        shape = (self.shape[0], size, size) if size else self.shape
        if split_files(self.folder)[0]:
            local = parquet_dataset(self.name, self.folder, size, shape)
        elif (self.folder / "train").is_dir():
            local = folder_dataset(self.name, self.folder, size, shape)
        else:
            return Dataset(
                self.name,
                self.class_names,
                lambda: _torchvision_split(self, True, size),
                lambda: _torchvision_split(self, False, size),
                self.flip_invariant,
                self.constants,
                size,
            )
        order = _label_order(local.class_names, self.class_names, self.folder)
        return replace(
            local,
            class_names=self.class_names,
            load_train=relabelled(local.load_train, order),
            load_test=local.load_test and relabelled(local.load_test, order),
            flip_invariant=self.flip_invariant,
            constants=self.constants,
        )


BUILT_IN = named(TorchvisionDataset, "torchvision")


def _label_order(names: Sequence[str], canonical: Sequence[str], folder: Path) -> Int64[Tensor, " k"]:
    """For every class found in files, its label in the canonical order; names made of digits are labels already.

    Raises:
        DataError: a name is not one of the dataset's classes.
    """
    known = {plain(name): label for label, name in enumerate(canonical)}
    known |= {str(label): label for label in range(len(canonical))}
    order = [known.get(plain(_MISSPELT.get(name, name)), -1) for name in names]
    wrong = [name for name, label in zip(names, order, strict=True) if label < 0 or order.count(label) > 1]
    if wrong:
        raise DataError(
            f"{folder} has the class {wrong[0]!r} where it should have {', '.join(canonical[:3])}, … ({len(canonical)} "
            "classes, each once). Move other data elsewhere and load it as folder:PATH or parquet:PATH."
        )
    return torch.tensor(order)


def plain(name: str) -> str:
    """The name's letters and digits: file systems and converters disagree about the rest."""
    return "".join(character for character in name.lower() if character.isalnum())


def relabelled(load: Callable[[], Split], order: Int64[Tensor, " k"]) -> Callable[[], Split]:
    def load_relabelled() -> Split:
        split = load()
        return split.relabelled(order[split.labels])

    return load if torch.equal(order, torch.arange(len(order))) else load_relabelled


def _torchvision_split(info: TorchvisionDataset, train: bool, size: int | None) -> Split:
    """A split as torchvision reads it, downloaded if it may be.

    Raises:
        DataError: the files are not there and cannot be had; says which were looked for, and where.
    """
    data = _torchvision_dataset(info, train)
    pixels = torch.as_tensor(data.data)  # [n, h, w]; in an array [n, h, w, c], or [n, c, h, w] where it is SVHN
    if pixels.shape[1:] != info.shape:
        pixels = pixels.reshape(*pixels.shape[:3], -1).permute(0, 3, 1, 2)
    labels = torch.as_tensor(getattr(data, info.labels), dtype=torch.int64)
    return Split(resize_pixels(pixels.contiguous(), size), labels)


def _torchvision_dataset(info: TorchvisionDataset, train: bool) -> Any:
    """The object of torchvision's class, which holds one split."""
    from torchvision import datasets

    root = info.folder / "torchvision"
    dataset = partial(getattr(datasets, info.torchvision), root, **info.splits[0 if train else 1])
    try:
        return dataset()
    except Exception as error:  # torchvision's readers raise errors of many types for damaged files.
        if offline():
            reason = f"DISTILL_BENCH_OFFLINE is set (torchvision: {_without_advice(error)})"
            raise DataError(missing(info, reason)) from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        # One process downloads, those beside it wait; what torchvision prints must not reach standard output.
        with FileLock(root / ".lock"), contextlib.redirect_stdout(sys.stderr):
            return dataset(download=True)
    except Exception as error:
        raise DataError(missing(info, f"the download failed ({_without_advice(error)})")) from error


def _without_advice(error: Exception) -> str:
    """torchvision's message on one line, without its advice for programmers."""
    return " ".join(str(error).split(" You can use download=True")[0].split()).rstrip(".")


def missing(info: TorchvisionDataset, reason: str) -> str:
    """What to do about files that are not there."""
    return (
        f"{info.name} is not in {info.folder}, and {reason}. Put one of these there: train.parquet and test.parquet "
        "(or train-*.parquet and test-*.parquet) with columns image and label; folders train/<class>/ and "
        f"test/<class>/ of images; or torchvision's files, torchvision/{info.files}."
    )
