"""Archives of published sets: a member by its exact name, or all pictures; never outside the folder they go to."""

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distill_bench.datasets.npz import MOST_UNFOLDED, UNFOLDED_ANYWAY
from distill_bench.errors import DataError, brief
from distill_bench.hub.registry.registry import EVERYTHING, checked_path
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.stored import read_json, sum_of, write_json

_MOST_BYTES = 1 << 36
"""Of what an archive holds, unpacked: 64 GiB."""
_CLUTTER = "__MACOSX/"
SUMS = ".sums.json"
"""The ending of the file beside a folder that was unpacked, with the sums of what is in it."""


def unpack(archive: Path, member: str, folder: Path, most: int = _MOST_BYTES) -> Path:
    """Unpack a member of an archive, or all of it, unless that was done before and is still as it was.

    Args:
        archive: a zip file, or a tar file of any compression.
        member: an exact name, or ``.`` for everything.
        folder: where it goes; whole or not at all, and first beside it the sums of its files.
        most: bytes that may come out.

    Returns:
        The member's file; of everything, the first folder downwards that holds more than one folder.

    Raises:
        DataError: it is no zip or tar archive, damaged, too large, lacks the member, or a name leads out of the folder.
    """
    with file_lock(folder.with_name(folder.name + ".lock"), SILENT, "unpacks the same archive"):
        if not is_unpacked(folder):
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                inside = Path(scratch) / "unpacked"
                inside.mkdir()
                try:
                    _write(archive, member, inside, most)
                except DataError:
                    raise
                except Exception as error:  # damaged archives raise errors of many types
                    raise DataError(f"{archive}: cannot be unpacked ({brief(error)}).") from error
                write_json(_sums_of(folder), _sums(inside))
                shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
                os.replace(inside, folder)
    return _innermost(folder) if member == EVERYTHING else folder / checked_path(member)


# Python 3.11 has filters from 3.11.4 on; names and kinds of members are checked here in any case
_DATA_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def _sums_of(folder: Path) -> Path:
    return folder.with_name(folder.name + SUMS)


def _sums(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sum_of(path) for path in folder.rglob("*") if path.is_file()}


def is_unpacked(folder: Path) -> bool:
    """Whether a folder holds what ``unpack`` wrote; a line in the log says that one is damaged."""
    if not folder.exists():
        return False
    if read_json(_sums_of(folder)) == _sums(folder):
        return True
    log.warning("%s is damaged; its archive is unpacked again.", folder)
    return False


def _write(archive: Path, member: str, folder: Path, most: int) -> None:
    names, total = [], 0
    most = min(most, UNFOLDED_ANYWAY + MOST_UNFOLDED * archive.stat().st_size)
    for name, size, extract in _members(archive, folder):
        names.append(name)
        if member not in (EVERYTHING, name) or name.startswith(_CLUTTER):
            continue
        total += size
        if total > most:
            raise DataError(f"{archive}: unfolds to more than {most:,} bytes, which no archive of its size should.")
        try:
            checked_path(name)  # zipfile and tarfile would mend some such names and extract them
        except ValueError as error:
            raise DataError(f"{archive}: a member's name leads elsewhere: {error}.") from error
        extract()
    if member not in (EVERYTHING, *names):
        raise DataError(f"{archive}: has no {member}; it has {', '.join(names[:8]) or 'nothing'}.")


def _members(archive: Path, folder: Path) -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Every regular file: its name, its size, and what extracts it. Links and devices are refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for item in packed.infolist():
                if stat.S_ISLNK(item.external_attr >> 16):
                    raise DataError(f"{archive}: {item.filename} is a link, which is refused.")
                if not item.is_dir():
                    yield item.filename, item.file_size, partial(packed.extract, item, folder)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tape:
            for entry in tape:
                if entry.isfile():
                    extract = partial(tape.extract, entry, folder, **_DATA_FILTER)
                    yield entry.name.removeprefix("./"), entry.size, extract
                elif not entry.isdir():
                    raise DataError(f"{archive}: {entry.name} is a link or a device, which is refused.")
            while tape.fileobj and tape.fileobj.read(1 << 20):
                pass  # to the end of the stream, where its checksum is
    else:
        raise DataError(f"{archive}: neither a zip nor a tar archive.")


def _innermost(folder: Path) -> Path:
    while len(inside := list(folder.iterdir())) == 1 and inside[0].is_dir():
        folder = inside[0]
    return folder
