"""Datasets by name: built in, or the user's own folders, parquet files and NumPy archives."""

import difflib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from distill_bench.datasets.builtin import BUILT_IN
from distill_bench.datasets.dataset import Dataset, is_own, readable
from distill_bench.datasets.digits import DIGITS
from distill_bench.datasets.folder import TEST_FOLDERS, folder_dataset
from distill_bench.datasets.hugging_face import hf_dataset
from distill_bench.datasets.imagenet import IMAGENET_VARIANTS
from distill_bench.datasets.info import DatasetInfo
from distill_bench.datasets.npz import npz_dataset
from distill_bench.datasets.parquet import parquet_dataset, split_files
from distill_bench.errors import DistillBenchError, UsageError, did_you_mean
from distill_bench.runtime.names import LONGEST_PATH, checked_name

_MAX_SIZE = 4096

NAMED: dict[str, DatasetInfo] = {**DIGITS, **BUILT_IN, **IMAGENET_VARIANTS}
_IMAGENET_SIDE = 224
"""Of ImageNet's images, which have to be given one: what papers have that tell it from smaller images."""
OWN: dict[str, Callable[[str, Path, int | None], Dataset]] = {
    "folder": folder_dataset,
    "parquet": parquet_dataset,
    "npz": npz_dataset,
    "hf": hf_dataset,
}


def list_datasets() -> list[str]:
    """The names of the built-in datasets."""
    return list(NAMED)


def usual_side(name: str) -> int | None:
    """The side in pixels of a named dataset's images where no other is asked for; None for the user's own data."""
    return NAMED[name].side or _IMAGENET_SIDE if name in NAMED else None


def dataset_info(name: str) -> DatasetInfo | None:
    """What is known of a named dataset; None for the user's own data."""
    return NAMED.get(name)


def paths_of(dataset: str | None) -> list[Path]:
    """Where a dataset of one's own lies: its file, or its folders of images.

    Args:
        dataset: a name; a built-in one, or none, has no such place.

    Returns:
        The paths, in order.
    """
    kind, _, path = (dataset or "").partition(":")
    root = Path(os.path.expanduser(path))
    split = kind == "folder" and (root / "train").is_dir()
    splits = [root / name for name in ("train", *TEST_FOLDERS)] if split else []
    return splits or [root] if path else []


def load_dataset(
    name: str,
    *,
    size: int | None = None,
    holdout: float | None = None,
    flip_invariant: bool | None = None,
    classes: Sequence[str | int] | None = None,
) -> Dataset:
    """A dataset by name. Its images are read when a split is first asked for.

    Args:
        name: one of ``list_datasets()``, or ``folder:PATH``, ``parquet:PATH``, ``npz:PATH`` for data of one's own, or
            ``hf:PATH`` and ``hf:OWNER/NAME`` for what Hugging Face's ``datasets`` reads.
        size: resize every image's shorter side to this many pixels and crop the centre to a square.
        holdout: replace the test split by this fraction of each class of the training split.
        flip_invariant: for data of one's own: whether a mirrored image keeps its label; it does by default.
        classes: take these classes alone, by name or label, and number them 0, 1, … in this order.

    Returns:
        The dataset.

    Raises:
        UsageError: an unknown name or class, a size or fraction out of range, or ``flip_invariant`` of a dataset that
            has its own.
        DataError: the data is not there or not in the layout it should have.
    """
    if size is not None and not 1 <= size <= _MAX_SIZE:
        raise UsageError(f"`size={size}` is out of range: give a number of pixels from 1 to {_MAX_SIZE}.")
    if not (name in NAMED or is_own(name)):
        raise UsageError(
            f"there is no dataset {name!r}.{_meant(name)} Give one of {', '.join(NAMED)}, or data of your own as "
            f"{', '.join(f'{kind}:PATH' for kind in OWN)} (or hf:OWNER/NAME, of the Hugging Face Hub)."
        )
    with readable(name):
        dataset = NAMED[name].load(size) if name in NAMED else _own(name, size)
    if flip_invariant is not None:
        if name in NAMED:
            keep = "keep" if dataset.flip_invariant else "do not keep"
            raise UsageError(
                f"flip_invariant is fixed for {name}: its mirrored images {keep} their label, in every result. It can "
                "be chosen for data of your own (folder:, parquet:, npz:, hf:); leave `flip_invariant` out."
            )
        dataset = replace(dataset, flip_invariant=flip_invariant, _cache={})
    if classes is not None:
        dataset = dataset.with_classes(classes)
    return dataset if holdout is None else dataset.with_holdout(holdout)


def _own(name: str, size: int | None) -> Dataset:
    kind, _, path = name.partition(":")
    try:
        checked_name(name, "the dataset's name", LONGEST_PATH)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    return OWN[kind](name, Path(os.path.expanduser(path)), size)


def _meant(name: str) -> str:
    """What was perhaps meant: a file or folder of that name, a kind of data of one's own, or a dataset."""
    try:
        path = Path(os.path.expanduser(name))
        if path.is_dir():
            kind = "parquet" if split_files(path)[0] else "folder"
            return f" There is a folder of that name: {kind}:{name}."
        if path.suffix in (".npz", ".parquet") and path.is_file():
            return f" There is a file of that name: {path.suffix[1:]}:{name}."
    except (OSError, ValueError, DistillBenchError):
        pass  # a name that can be none of a path, a shard missing
    kind, colon, rest = name.partition(":")
    close = difflib.get_close_matches(kind, OWN) if colon and rest else []
    return f" Did you mean {close[0]}:{rest}?" if close else did_you_mean(name, NAMED)
