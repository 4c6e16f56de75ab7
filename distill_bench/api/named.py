"""Datasets and sets by name: what the public functions are given."""

from pathlib import Path
from typing import Any

from distill_bench.datasets import Dataset, load_dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.distilled.distilled_set import DistilledSet, check_same_classes
from distill_bench.errors import UsageError
from distill_bench.hub.registry.published import CachedSet, is_id, load_distilled, obtain
from distill_bench.hub.registry.registry import published

Set = DistilledSet | str | Path
"""A set, its file, or the id of a published one that was downloaded."""
Data = Dataset | str
"""A dataset, or its name: ``"digits"``, ``"folder:photos"``."""


def dataset_named(data: Data) -> Dataset:
    """The dataset itself. Errors as ``load_dataset``."""
    return load_dataset(data) if isinstance(data, str) else data


def set_named(distilled: Set) -> DistilledSet:
    """The set itself. Errors as ``load_distilled``."""
    return distilled if isinstance(distilled, DistilledSet) else load_distilled(distilled)


def downloaded(name: str, registry: Path | None = None) -> CachedSet | None:
    """The published set of an id; None where a file is named, with which no registry goes."""
    if is_id(name):
        return obtain(name, may_download=False, registry=registry)
    if registry is not None:
        raise UsageError(f"`registry={registry}`: {name} is a file; a registry is for the ids of published sets.")
    return None


def set_files(name: str, registry: Path | None = None) -> tuple[Path, ...]:
    """The file that is named; or, of a published set's id, those of all independent sets that it stands for."""
    cached = downloaded(name, registry)
    return cached.paths if cached else (Path(name),)


def protocol_of(distilled: Set, protocol: str | None, registry: Path | None = None) -> str | None:
    """What a set is evaluated under: what is asked for, else that of a published set's entry; None: as its card says.

    Args:
        distilled: the set, its file, or the id of a published one.
        protocol: that is asked for.
        registry: of one's own, besides the package's.

    Returns:
        The protocol's name.

    Raises:
        UsageError: no published set has that id.
    """
    if protocol is None and isinstance(distilled, str) and is_id(distilled):
        return published(distilled, registry).protocol
    return protocol


def source_of(distilled: DistilledSet, holdout: float | None = None, **asked: Any) -> Dataset:
    """The source on a set's card, but for what was asked for instead.

    Args:
        distilled: the set.
        holdout: a fraction of the training split that is held out and tested on; None: the source's own test split.
        asked: arguments of ``load_dataset``; those that are None are as on the card.

    Returns:
        The dataset.

    Raises:
        UsageError, DataError: as ``dataset_of``, or the set has other classes.
    """
    card = distilled.card.source
    data = dataset_of(card, holdout=None, **{name: value for name, value in asked.items() if value is not None})
    check_same_classes(distilled, data)  # before a folder that a stranger's card names is gone through
    if holdout is None and card.holdout is not None:
        return data.with_holdout(card.holdout, own_test=True)
    return data if holdout is None else data.with_holdout(holdout)


def data_of(distilled: DistilledSet, data: Data | None) -> Dataset:
    """The source on a set's card, or where a name says it lies; or the dataset given. Errors as ``source_of``."""
    if data is None or isinstance(data, str):
        return source_of(distilled, distilled.card.source.holdout, name=data)
    return data
