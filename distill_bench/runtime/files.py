"""How files are written and read: whole or not at all."""

import contextlib
import errno
import os
import stat
import sys
import tempfile
import tomllib
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from distill_bench.errors import DataError, UsageError, brief
from distill_bench.runtime.names import LONGEST

if sys.platform != "win32":
    import fcntl

# a file of this ending, beside the one that it becomes, is being written
UNFINISHED = ".unfinished"


def write_atomically(path: Path, content: bytes | memoryview | str) -> None:
    """Write ``content`` to ``path`` through a temporary file beside it and a rename: readers see all of it or none.

    What a killed process left of such a file, the next one to write the same path takes over.

    Raises:
        DataError: the folder cannot be created or written; what was there before is intact.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(path) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                if sys.platform == "win32":
                    file.close()  # an open file is not renamed there
                os.replace(file.name, path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(file.name)
                raise
    except OSError as error:
        raise cannot_write(path, error) from error


def check_ending(path: Path, *endings: str) -> None:
    """Raises UsageError if a file's name has none of the endings, and would say what the content is not."""
    if path.suffix not in endings:
        raise UsageError(f"{path}: the file's name must end in {' or '.join(endings)}.")


def check_place(path: Path) -> None:
    """Find out before any work whether a file can be written, by writing one without a name where it would come to lie.

    Raises:
        DataError: it cannot; as ``write_atomically`` would say at the end.
    """
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(parent for parent in path.parents if os.path.lexists(parent))
        names = *path.relative_to(folder).parts[:-1], path.name + UNFINISHED
        if any(len(os.fsencode(name)) > LONGEST for name in names):
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(path, error) from error


def check_regular(path: Path) -> None:
    """Raises OSError for a pipe, socket or device, which might be waited for, or never end; and for what is not there.

    A folder passes: opening it says what it is.
    """
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "it is a pipe, socket or device, and no regular file", str(path))


def check_no_input(out: Path, inputs: Iterable[Path], called: str = "out", given_as: Path | None = None) -> None:
    """Raises UsageError if writing ``out`` would replace one of ``inputs``, or add a folder to one that is read.

    Args:
        out: a file that is to be written.
        inputs: files and folders that are read.
        called: the option that says where it is.
        given_as: what that option is, if not the file.
    """
    shown = f"`{called}={out if given_as is None else given_as}`"
    target = os.path.realpath(out)
    for path in inputs:
        given = os.path.realpath(path)
        there = os.path.exists(target) and os.path.exists(given)  # two links may be one file
        if target == given or (there and os.path.samefile(target, given)):
            raise UsageError(f"{shown} is {path}, which is read: it would be replaced. Give another name.")
        if os.path.isdir(given) and Path(given) in Path(target).parent.parents:
            raise UsageError(f"{shown} lies in a folder of {path}, which is read: give a place outside of it.")


def cannot_write(path: Path, error: OSError) -> DataError:
    """What is said where a file cannot be written: the disk is full, or may not be written."""
    return DataError(
        f"cannot write {path}: {error.strerror or error}. Nothing there was changed. Make room or allow writing there, "
        "or choose another place (DISTILL_BENCH_HOME is the cache's; `out`, `results`), and run the same command again."
    )


def _temporary(path: Path) -> BinaryIO:
    """The empty file that becomes ``path``. Its lock is held by whoever writes it, others wait; the dead hold none."""
    name = path.with_name(path.name + UNFINISHED)
    while sys.platform != "win32":
        file = open(name, "ab")  # noqa: SIM115 (returned)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            file.close()
            break
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(name)):
                file.truncate(0)
                return file
        file.close()  # whoever wrote it has renamed it meanwhile
    return open(name.with_stem(f"{name.stem}.{uuid.uuid4().hex}"), "xb")


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        check_regular(path)
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:  # numbers and lists without end are neither a TOMLDecodeError
        raise UsageError(f"{path}: not valid TOML: {brief(error)}.") from error
