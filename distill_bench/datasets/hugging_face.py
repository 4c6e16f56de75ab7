"""What Hugging Face's ``datasets`` reads: a folder here, or a repository of the Hub. No code in either is run.

A folder is one that ``load_dataset`` takes (a repository's clone, parquet files, class folders) or that
``save_to_disk`` wrote. Images are taken as encoded files and decoded as all others are.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from distill_bench.datasets.classes import numbered_classes
from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.decode import UndecodedSplit, decoded_source
from distill_bench.datasets.picture import EncodedImage
from distill_bench.errors import DataError, UsageError, brief
from distill_bench.runtime import reading
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir, offline
from distill_bench.runtime.text import counted, listed

_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
_TRAIN_SPLITS = ("train", "training")
_TEST_SPLITS = ("test", "validation", "valid", "val")
_IMAGE_COLUMNS = ("image", "img")
_LABEL_COLUMNS = ("label", "labels", "fine_label")
_SAVED = ("dataset_dict.json", "state.json")
"""Files that ``save_to_disk`` writes."""


def hf_dataset(name: str, path: Path, size: int | None = None) -> Dataset:
    """A dataset of a folder, or of a repository of the Hub where there is no such folder.

    Args:
        name: the dataset's, as the user gave it.
        path: the folder; else an owner and a name.
        size: the side to resize and crop images to, or None to take them as they are.

    Returns:
        The dataset.

    Raises:
        UsageError: ``datasets`` is not installed.
        DataError: it cannot be had or read, or has no training split, or no column of images or labels.
    """
    splits = _splits(name, path)
    train = next((splits[each] for each in _TRAIN_SPLITS if each in splits), None)
    test = next((splits[each] for each in _TEST_SPLITS if each in splits), None)
    if others := [each for each, split in splits.items() if split is not train and split is not test]:
        log.warning("%s: left out %s: %s.", name, counted(len(others), "split"), listed(others))
    if train is None:
        raise DataError(f"{name} has no split train; it has {listed(splits) or 'none'}. Give data with one.")
    image, label = _columns(name, train)
    if test is not None and _columns(name, test) != (image, label):
        raise DataError(f"{name}: its test split has other columns than its training split. Give both the same.")
    names = getattr(train.features[label], "names", None) or numbered_classes(
        [_labels(name, split, label) for split in (train, test) if split is not None], name
    )
    roots = [path] if path.is_dir() else [_prepared(), _hub_cache()]

    def read(split: Any) -> UndecodedSplit:
        return UndecodedSplit(_labels(name, split, label), _images(name, split, image, roots), skipped=None)

    return decoded_source(name, names, lambda: read(train), (lambda: read(test)) if test is not None else None, size)


def _splits(name: str, path: Path) -> Mapping[str, Any]:
    """The splits by name, not decoded."""
    local = path.is_dir()
    if not local and not _REPOSITORY.fullmatch(str(path)):
        raise DataError(f"{name}: there is no folder {path}, and no repository has that name. Give hf:OWNER/NAME.")
    library = _library()
    if not local and offline() and not library.config.HF_HUB_OFFLINE:
        raise DataError(
            f"{name} is no folder here, and DISTILL_BENCH_OFFLINE is set. Give hf:PATH of a local copy; or set "
            "HF_HUB_OFFLINE=1 as well, where `datasets` has fetched it before."
        )
    bars = library.are_progress_bars_disabled()
    try:
        if not (reading.is_heard() and sys.stderr.isatty()):
            library.disable_progress_bars()
        if local and any((path / saved).is_file() for saved in _SAVED):
            found = library.load_from_disk(str(path))
        else:
            found = library.load_dataset(str(path), cache_dir=str(_prepared()))
    except Exception as error:  # the library raises errors of many types, its HTTP client's among them
        advice = (
            "Give a folder that load_dataset or load_from_disk takes"
            if local
            else "Give hf:OWNER/NAME of a repository that load_dataset takes"
        )
        raise DataError(f"{name} cannot be loaded ({type(error).__name__}: {brief(error)}). {advice}.") from error
    finally:
        if not bars:
            library.enable_progress_bars()
    return found if isinstance(found, Mapping) else {"train": found}


def _library() -> Any:
    try:
        import datasets  # here, because importing it takes seconds, and it is an extra
        from datasets import load_dataset  # noqa: F401 (a mere folder of that name can be imported too)
    except ImportError:
        raise UsageError("hf: needs Hugging Face's datasets: pip install 'distill_bench[hf]'.") from None
    return datasets


def _prepared() -> Path:
    """Where the library keeps its tables."""
    return cache_dir() / "huggingface"


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _columns(name: str, split: Any) -> tuple[str, str]:
    """The names of the columns of images and of labels: by type, by the usual names where several have it."""
    kinds = {column: type(feature).__name__ for column, feature in split.features.items()}
    numbers = [column for column in _LABEL_COLUMNS if _is_integer(split.features.get(column))]
    images = [column for column, kind in kinds.items() if kind == "Image"]
    labels = [column for column, kind in kinds.items() if kind == "ClassLabel"] or numbers
    found = list[str]()
    for what, columns, usual in (("images", images, _IMAGE_COLUMNS), ("class labels", labels, _LABEL_COLUMNS)):
        chosen = columns if len(columns) == 1 else [each for each in usual if each in columns][:1]
        if not chosen:
            there = listed(f"{column} ({kind})" for column, kind in kinds.items())
            raise DataError(
                f"{name}: no column, or no single one, holds {what}. There are {there}. Needed are one of the type "
                "Image, and one of the type ClassLabel or integers called label."
            )
        found += chosen
    return found[0], found[1]


def _is_integer(feature: Any) -> bool:
    return str(getattr(feature, "dtype", "")).startswith(("int", "uint"))


def _labels(name: str, split: Any, column: str) -> torch.Tensor:
    """int64 [n]. Raises DataError where a row has none."""
    values = split.with_format(None)[column][:]
    if (row := next((index for index, value in enumerate(values) if value is None or value < 0), None)) is not None:
        raise DataError(f"{name}: row {row} has the label {values[row]}; labels are 0 or above. Take such rows out.")
    return torch.tensor(values, dtype=torch.int64)


def _images(name: str, split: Any, column: str, roots: Sequence[Path]) -> Iterator[EncodedImage]:
    """The encoded images, row by row. A file that a row names is read where it lies below ``roots`` alone."""
    encoded = split.select_columns([column]).cast_column(column, _library().Image(decode=False)).with_format(None)
    allowed = [os.path.realpath(root) for root in roots]
    for row, cells in enumerate(encoded):
        value, where = cells[column] or {}, f"row {row} of {name}"
        if value.get("bytes") is not None:
            yield where, value["bytes"]
        elif value.get("path") and any(_lies_below(value["path"], root) for root in allowed):
            yield where, Path(value["path"])
        else:
            raise DataError(
                f"{where} has no image, or names a file elsewhere, which is not followed. Write the data with images "
                "embedded."
            )


def _lies_below(path: str, root: str) -> bool:
    return os.path.realpath(path).startswith(root + os.sep)
