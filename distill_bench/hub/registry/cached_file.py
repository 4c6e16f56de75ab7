"""The files of published sets in the cache: where each lies, what sum it must have, and those fetched by hand."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from distill_bench.errors import DataError, UsageError
from distill_bench.hub.registry.registry import Entry, RemoteFile
from distill_bench.runtime.files import cannot_write, write_atomically
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import SILENT, Monitor

PIN = ".sha256"
"""The ending of the file that keeps the sum that a file had when it first came."""


class CachedFile:
    """A file of a published set and its place in the cache."""

    def __init__(self, file: RemoteFile, entry: Entry) -> None:
        """Looks nothing up. Where the sum is not known, page and path say which file it is."""
        key = file.sha256 or hashlib.sha256(json.dumps([entry.page, file.path]).encode()).hexdigest()
        self.remote = file
        self.path = cache_dir() / "published" / "files" / key[:16] / file.name
        self.pin = self.path.with_name(file.name + PIN)

    @property
    def sum(self) -> str | None:
        """The sum that the file must have: the registry's, else that of the first one that came; None before that."""
        return self.remote.sha256 or (self.pin.read_text(errors="replace").strip() if self.pin.exists() else None)

    def accept(self, digest: str) -> bool:
        """Whether a file with this sum is the right one. Of a file without a known sum, the first is, and pins it."""
        if self.sum is None:  # pinned before the file is in its place, so that none lies there without
            write_atomically(self.pin, digest + "\n")
            log.warning(
                "the registry has no sum for %s. That of this one, sha256 %s, is kept; a later file must have it.",
                self.remote.path,
                digest,
            )
        return digest == self.sum

    def set_aside(self, path: Path) -> str:
        """Rename a wrong file to end with ``.bad``, and say what is wrong with it."""
        bad, digest = self.path.with_name(self.path.name + ".bad"), sha256_of(path)
        os.replace(path, bad)
        return f"{self.differs(digest)} It was set aside as {bad}."

    def differs(self, digest: str) -> str:
        """What a wrong sum is, and should be, in words."""
        replaced = f" That is the sum of the first one; if the authors have replaced it, delete {self.pin}."
        return f"Its sha256 is {digest}; it must be {self.sum}.{'' if self.remote.sha256 else replaced}"

    def lock(self, monitor: Monitor = SILENT) -> AbstractContextManager[None]:
        """Held by whoever writes it."""
        return file_lock(self.path.parent / ".lock", monitor, "fetches the same file")


def take(given: Sequence[Path], name: str, entry: Entry) -> None:
    """Copy files that the user has fetched by hand into the cache. They themselves stay as they are.

    Args:
        given: their paths, whatever they are called.
        name: the set's id, for errors.
        entry: the set.

    Raises:
        UsageError: one is not among the set's files, or one too many; nothing was copied.
        DataError: one cannot be read or kept, or has another sum than it should.
    """
    for path in given:
        if not os.path.isfile(path):
            raise DataError(f"`file={path}`: no such file.")
    for path, (file, digest) in _assigned(given, name, entry).items():
        if file.sum not in (None, digest):
            what = f"{path} is not the {file.path.name} of {name}."
            raise DataError(f"{what} {file.differs(digest)} It was left as it is.")
        with file.lock():
            beside = file.path.with_name(file.path.name + ".copy")
            try:
                shutil.copyfile(path, beside)
                file.accept(digest)
                os.replace(beside, file.path)
            except OSError as error:
                raise cannot_write(file.path, error) from error


def _assigned(given: Sequence[Path], name: str, entry: Entry) -> dict[Path, tuple[CachedFile, str]]:
    """Which file of the set each given one is, with its sum: first by sums, then by names; one for one is the one."""
    sums = {path: sha256_of(path) for path in given}
    free = [CachedFile(file, entry) for file in entry.files]
    assigned: dict[Path, tuple[CachedFile, str]] = {}
    fits: tuple[Callable[[CachedFile, Path], bool], ...] = (
        lambda file, path: file.sum == sums[path],
        lambda file, path: file.path.name == path.name,
        lambda file, path: len(entry.files) == len(sums) == 1,
    )
    for fit in fits:
        for path in sums:
            match = next((file for file in free if path not in assigned and fit(file, path)), None)
            if match:
                free.remove(match)
                assigned[path] = match, sums[path]
    if surplus := [str(path) for path in sums if path not in assigned]:
        known = {file.path.name: f" ({path})" for path, (file, _) in assigned.items()}
        files = ", ".join(file.name + known.get(file.name, "") for file in entry.files)
        raise UsageError(
            f"`file={surplus[0]}`: not one of the files of {name}, which are {files}. Leave it out; nothing was taken."
        )
    return assigned
