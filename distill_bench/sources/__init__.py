"""Datasets by name: built in, or the user's own folders, parquet files and NumPy archives."""

import difflib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from distill_bench.errors import UsageError, did_you_mean
from distill_bench.sources.builtin import BUILT_IN, builtin_source
from distill_bench.sources.digits import digits_source
from distill_bench.sources.folder import folder_source
from distill_bench.sources.imagenet import FAMILY, imagenet_source
from distill_bench.sources.npz import npz_source
from distill_bench.sources.parquet import parquet_source
from distill_bench.sources.source import Source, Split

__all__ = ["Source", "Split", "list_sources", "load_source"]

MAX_SIZE = 4096

NAMED: dict[str, Callable[[int | None], Source]] = {
    "digits": digits_source,
    **{name: partial(builtin_source, name) for name in BUILT_IN},
    **{name: partial(imagenet_source, name) for name in FAMILY},
}
OWN: dict[str, Callable[[str, Path, int | None], Source]] = {
    "folder": folder_source,
    "parquet": parquet_source,
    "npz": npz_source,
}


def list_sources() -> list[str]:
    """The names of the built-in datasets."""
    return list(NAMED)


def load_source(name: str, *, size: int | None = None, holdout: float | None = None) -> Source:
    """A dataset by name. Its images are read when a split is first asked for.

    Args:
        name: one of ``list_sources()``, or ``folder:PATH``, ``parquet:PATH``, ``npz:PATH`` for data of one's own.
        size: resize every image's shorter side to this many pixels and crop the centre to a square.
        holdout: replace the test split by this fraction of each class of the training split.

    Raises:
        UsageError: an unknown name, or a size or fraction out of range.
        DataError: the data is not there or not in the layout it should have.
    """
    if size is not None and not 1 <= size <= MAX_SIZE:
        raise UsageError(f"--size {size} is out of range: give a number of pixels from 1 to {MAX_SIZE}.")
    kind, _, path = name.partition(":")
    if name in NAMED:
        source = NAMED[name](size)
    elif kind in OWN and path:
        source = OWN[kind](name, Path(path).expanduser(), size)
    else:
        raise UsageError(
            f"there is no dataset {name!r}.{_meant(name)} Give one of {', '.join(NAMED)}, or data of your own as "
            f"{', '.join(f'{kind}:PATH' for kind in OWN)}."
        )
    return source if holdout is None else source.with_holdout(holdout)


def _meant(name: str) -> str:
    """What was perhaps meant: a file or folder of that name, a kind of data of one's own, or a dataset."""
    path = Path(name).expanduser()
    try:
        if path.is_dir():
            return f" Did you mean {'parquet' if any(path.glob('*.parquet')) else 'folder'}:{name}?"
        if path.is_file() and path.suffix in (".npz", ".parquet"):
            return f" Did you mean {path.suffix[1:]}:{name}?"
    except (OSError, ValueError):
        pass  # a name that can be none of a path
    kind, colon, rest = name.partition(":")
    close = difflib.get_close_matches(kind, OWN) if colon else []
    return f" Did you mean {close[0]}:{rest}?" if close else did_you_mean(name, NAMED)
