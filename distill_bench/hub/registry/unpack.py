"""Archives of published sets: a member by its exact name, or all pictures; never outside the folder they go to."""

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from distill_bench.datasets.npz import MOST_UNFOLDED, UNFOLDED_ANYWAY
from distill_bench.errors import DataError, brief
from distill_bench.hub.registry.registry import EVERYTHING, checked_path
from distill_bench.runtime.locks import alone
from distill_bench.runtime.progress import SILENT

MOST_BYTES = 1 << 36
"""Of what an archive holds, unpacked: 64 GiB."""
CLUTTER = "__MACOSX/"

Opener = Callable[[], IO[bytes]]


def unpack(archive: Path, member: str, folder: Path, most: int = MOST_BYTES) -> Path:
    """A member of an archive as a file, or all of it as a folder: the one that has more than one folder in it.

    Done before, nothing is done.

    Args:
        member: an exact name, or ``.`` for everything.
        folder: where it goes; whole or not at all.
        most: bytes that may come out.

    Raises:
        DataError: it is no zip or tar archive, damaged, too large, lacks the member, or a name leads out of the folder.
    """
    with alone(folder.with_name(folder.name + ".lock"), SILENT, "unpacks the same archive"):
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                inside = Path(scratch) / "unpacked"
                inside.mkdir()
                try:
                    _write(archive, member, inside, most)
                except DataError:
                    raise
                except Exception as error:  # damaged archives raise errors of many types
                    raise DataError(f"{archive}: cannot be unpacked ({brief(error)}).") from error
                os.replace(inside, folder)
    return _innermost(folder) if member == EVERYTHING else folder / checked_path(member)


def _write(archive: Path, member: str, folder: Path, most: int) -> None:
    written, total = [], 0
    most = min(most, UNFOLDED_ANYWAY + MOST_UNFOLDED * archive.stat().st_size)
    for name, size, content in _members(archive):
        written.append(name)
        if member not in (EVERYTHING, name) or name.startswith(CLUTTER):
            continue
        total += size
        if total > most:
            raise DataError(f"{archive}: unfolds to more than {most:,} bytes, which no archive of its size should.")
        try:
            target = folder / checked_path(name)
        except ValueError as error:
            raise DataError(f"{archive}: a member's name leads elsewhere: {error}.") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        with content() as dataset, target.open("xb") as out:
            shutil.copyfileobj(dataset, out)
    if member not in (EVERYTHING, *written):
        raise DataError(f"{archive}: has no {member}; it has {', '.join(written[:8]) or 'nothing'}.")


def _members(archive: Path) -> Iterator[tuple[str, int, Opener]]:
    """Name, size and content of every regular file. Links and devices are refused; folders come with their files."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for item in packed.infolist():
                if (item.external_attr >> 16) & 0o170000 == 0o120000:
                    raise DataError(f"{archive}: {item.filename} is a link, which is refused.")
                if not item.is_dir():
                    yield item.filename, item.file_size, lambda item=item: packed.open(item)  # type: ignore[misc]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tape:
            for entry in tape:
                if entry.isfile():
                    yield entry.name.removeprefix("./"), entry.size, lambda entry=entry: tape.extractfile(entry)  # type: ignore[misc]
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
