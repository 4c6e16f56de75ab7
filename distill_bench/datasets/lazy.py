"""Splits too large for the memory: image files, decoded when asked for.

Their fingerprint is over the files as they lie on disk, because decoding ImageNet takes hours: sha256 over the shape
that images are decoded to, then every file's sha256, then the int64 labels. A file that is turned by EXIF data or has
transparent parts counts with a mark before its content: earlier versions saw other pixels in it. The sums are kept,
4,096 files at a time, under a key of the files' paths, inodes, sizes and times of change, of which the user cannot set
the last; a file that changes is read again.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from distill_bench.datasets.dataset import Split
from distill_bench.datasets.picture import is_shown_as_it_lies
from distill_bench.errors import DataError
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.stored import Damaged, read_bytes, write_bytes

GROUP = 4096
_AS_SHOWN = b"as shown: "

Shape = tuple[int, int, int]


class LazyFileSplit(Split):
    """Images and labels of one split, decoded from files.

    Args:
        files: one an image.
        labels: int64 [n], each in 0 … classes - 1.
        shape: (channels, height, width) of every image.
        decode: from files to uint8 [k, channels, height, width]; raises DataError if one cannot be read.
    """

    def __init__(
        self,
        files: Sequence[Path],
        labels: Int64[Tensor, " n"],
        shape: Shape,
        decode: Callable[[Sequence[Path]], UInt8[Tensor, "k c h w"]],
    ) -> None:
        self._files, self._shape, self._decode = files, shape, decode
        self.labels = labels

    @property
    def shape(self) -> Shape:
        return self._shape

    def images(self, indices: Int64[Tensor, " k"]) -> UInt8[Tensor, "k c h w"]:
        """The images at ``indices``, in that order, decoded by as many threads as torch has."""
        files = [self._files[index] for index in indices.tolist()]
        parts = [part for part in _parts(files, torch.get_num_threads()) if part]
        if not parts:
            return torch.empty((0, *self._shape), dtype=torch.uint8)
        if len(parts) == 1:
            return self._decode(files)
        with ThreadPoolExecutor(len(parts)) as pool:
            return torch.cat(list(pool.map(self._decode, parts)))

    def subset(self, indices: Int64[Tensor, " k"]) -> "LazyFileSplit":
        files = [self._files[index] for index in indices.tolist()]
        return LazyFileSplit(files, self.labels[indices], self._shape, self._decode)

    def relabelled(self, labels: Int64[Tensor, " n"]) -> "LazyFileSplit":
        return LazyFileSplit(self._files, labels, self._shape, self._decode)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the shape, every file's sha256 and the labels, in source order.

        Raises:
            DataError: a file cannot be read.
        """
        digest = hashlib.sha256(repr(self._shape).encode())
        for start in range(0, len(self._files), GROUP):
            digest.update(file_digests(self._files[start : start + GROUP]))
        digest.update(self.labels.contiguous().numpy().tobytes())
        return digest.hexdigest()


def file_digests(files: Sequence[Path]) -> bytes:
    """The sha256 of every file, one after another; from the cache where none of the files has changed since.

    Raises:
        DataError: a file cannot be read.
    """
    try:
        facts = [(str(file.absolute()), *_state(file)) for file in files]
        path = cache_dir() / "digests" / hashlib.sha256(_AS_SHOWN + repr(facts).encode()).hexdigest()
        if (known := _known(path)) is not None:
            return known
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            digests = b"".join(pool.map(_digest, files))
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}. Replace it or take it out.") from error
    write_bytes(path, digests)
    return digests


def _state(file: Path) -> tuple[int, ...]:
    """What differs where a file was changed or replaced, whatever time of modification it was given."""
    facts = file.stat()
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _known(path: Path) -> bytes | None:
    try:
        return bytes(read_bytes(path))
    except FileNotFoundError:
        return None
    except (OSError, Damaged) as error:
        log.warning("%s cannot be read (%s): its files are read again.", path, error)
        return None


def _digest(file: Path) -> bytes:
    content = file.read_bytes()
    return hashlib.sha256(content if is_shown_as_it_lies(content) else _AS_SHOWN + content).digest()


def _parts(files: Sequence[Path], count: int) -> Iterable[Sequence[Path]]:
    """``files`` in ``count`` consecutive parts of nearly equal length."""
    ends = [len(files) * k // count for k in range(count + 1)]
    return (files[start:end] for start, end in pairwise(ends))
