"""The named datasets: MNIST, Fashion-MNIST, SVHN, CIFAR-10 and CIFAR-100, from local files or through torchvision.

Class names, their order, and the normalisation are constants, equal whichever way the images came.
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from distill_bench.datasets.parquet import parquet_dataset, split_files
from distill_bench.errors import DataError
from distill_bench.runtime.paths import home, offline

CIFAR100_CLASSES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
FASHION_CLASSES = "T-shirt/top,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Ankle boot"
IDX_FILES = "{}/raw/train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
MISSPELT = {"cra": "crab"}
"""Names as Hugging Face's cifar100 spells them."""


@dataclass(frozen=True)
class BuiltIn:
    """What is known of a dataset before its files are opened.

    Attributes:
        shape: (channels, height, width).
        constants: mean and standard deviation per channel, of pixels in [0, 1].
        torchvision: the name of the class in ``torchvision.datasets``.
        files: what that class reads, relative to its root.
    """

    class_names: tuple[str, ...]
    shape: Shape
    flip_invariant: bool
    constants: tuple[Sequence[float], Sequence[float]]
    torchvision: str
    files: str


BUILT_IN = {
    "mnist": BuiltIn(
        tuple("0123456789"), (1, 28, 28), False, ((0.1307,), (0.3081,)), "MNIST", IDX_FILES.format("MNIST")
    ),
    "fashion_mnist": BuiltIn(
        tuple(FASHION_CLASSES.split(",")),
        (1, 28, 28),
        True,
        ((0.2861,), (0.3530,)),
        "FashionMNIST",
        IDX_FILES.format("FashionMNIST"),
    ),
    "svhn": BuiltIn(
        tuple("0123456789"),
        (3, 32, 32),
        False,
        ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
        "SVHN",
        "train_32x32.mat and test_32x32.mat",
    ),
    "cifar10": BuiltIn(
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        (3, 32, 32),
        True,
        ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
        "CIFAR10",
        "cifar-10-batches-py/data_batch_1 to data_batch_5, test_batch and batches.meta",
    ),
    "cifar100": BuiltIn(
        tuple(CIFAR100_CLASSES.split()),
        (3, 32, 32),
        True,
        ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
        "CIFAR100",
        "cifar-100-python/train, test and meta",
    ),
}


def builtin_dataset(name: str, size: int | None = None) -> Dataset:
    """A named dataset: from parquet files or class folders under ``home()/sources/<name>``, else through torchvision.

    Raises:
        DataError: local files are not what the name says. That files are missing shows when a split is asked for.
    """
    facts = BUILT_IN[name]
    folder = home() / "sources" / name
    shape = (facts.shape[0], size, size) if size else facts.shape
    if split_files(folder)[0]:
        local = parquet_dataset(name, folder, size, shape)
    elif (folder / "train").is_dir():
        local = folder_dataset(name, folder, size, shape)
    else:
        return Dataset(
            name,
            facts.class_names,
            lambda: torchvision_split(name, facts, True, size),
            lambda: torchvision_split(name, facts, False, size),
            facts.flip_invariant,
            facts.constants,
            size,
        )
    order = label_order(local.class_names, facts.class_names, folder)
    return replace(
        local,
        class_names=facts.class_names,
        load_train=relabelled(local.load_train, order),
        load_test=local.load_test and relabelled(local.load_test, order),
        flip_invariant=facts.flip_invariant,
        constants=facts.constants,
    )


def label_order(found: Sequence[str], canonical: Sequence[str], folder: Path) -> Int64[Tensor, " k"]:
    """For every class found in files, its label in the canonical order; names made of digits are labels already.

    Raises:
        DataError: a name is not one of the dataset's classes.
    """
    known = {plain(name): label for label, name in enumerate(canonical)}
    known |= {str(label): label for label in range(len(canonical))}
    order = [known.get(plain(MISSPELT.get(name, name)), -1) for name in found]
    wrong = [name for name, label in zip(found, order, strict=True) if label < 0 or order.count(label) > 1]
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


def torchvision_split(name: str, facts: BuiltIn, train: bool, size: int | None) -> Split:
    """A split as torchvision reads it, downloaded if it may be.

    Raises:
        DataError: the files are not there and cannot be had; says which were looked for, and where.
    """
    data = torchvision_dataset(name, facts, train)
    pixels = torch.as_tensor(data.data)  # [n, h, w]; in an array [n, h, w, c], or [n, c, h, w] where it is SVHN
    if pixels.shape[1:] != facts.shape:
        pixels = pixels.reshape(*pixels.shape[:3], -1).permute(0, 3, 1, 2)
    labels = data.labels if name == "svhn" else data.targets
    return Split(resize_pixels(pixels.contiguous(), size), torch.as_tensor(labels, dtype=torch.int64))


def torchvision_dataset(name: str, facts: BuiltIn, train: bool) -> Any:
    from torchvision import datasets

    folder = home() / "sources" / name
    root = folder / "torchvision"
    dataset = partial(getattr(datasets, facts.torchvision), root)
    split: dict[str, Any] = {"train": train}
    if name == "svhn":
        split = {"split": "train" if train else "test"}  # "extra" is not used in the field
    try:
        return dataset(**split)
    except Exception as error:  # torchvision's readers raise errors of many types for damaged files.
        if offline():
            reason = f"DISTILL_BENCH_OFFLINE is set (torchvision: {without_advice(error)})"
            raise DataError(missing(name, facts, folder, reason)) from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        # One process downloads, those beside it wait; what torchvision prints must not reach standard output.
        with FileLock(root / ".lock"), contextlib.redirect_stdout(sys.stderr):
            return dataset(**split, download=True)
    except Exception as error:
        raise DataError(missing(name, facts, folder, f"the download failed ({without_advice(error)})")) from error


def without_advice(error: Exception) -> str:
    """torchvision's message on one line, without its advice for programmers."""
    return " ".join(str(error).split(" You can use download=True")[0].split()).rstrip(".")


def missing(name: str, facts: BuiltIn, folder: Path, reason: str) -> str:
    return (
        f"{name} is not in {folder}, and {reason}. Put one of these there: train.parquet and test.parquet "
        "(or train-*.parquet and test-*.parquet) with columns image and label; folders train/<class>/ and "
        f"test/<class>/ of images; or torchvision's files, torchvision/{facts.files}."
    )
