"""Files that know their content: a sum stands with it, and is compared as it is read.

JSON has it as its field ``sum``, other content as its last bytes, and a ``.safetensors`` file in the ``.run.json``
beside it, which is written first: where the file exists, so does its sum. What differs from its sum is damaged: it
counts as missing, a line in the log names the file, and what needs it makes it again.
"""

import hashlib
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.hashing import canonical_hash, sha256_of
from distill_bench.runtime.log import log

SUM = "sum"
FILE_SUM = "sha256"
"""The field of a ``.run.json`` with the sum of the file that it is about."""
_SUM_BEFORE = "sha256_before"
"""That of the file it replaces, which lies there whole until then."""
BESIDE = ".run.json"
_DIGEST_BYTES = hashlib.sha256().digest_size
_SAME_TICK_SECONDS = 2.0
"""Within so much time two writes may have one time of change."""


class Damaged(ValueError):
    """A file is not what was written."""


def with_sum(content: dict[str, Any], place: str = "") -> dict[str, Any]:
    """The same object, of JSON values, with its sum, which is also that of the place where it alone means something."""
    plain = json.loads(json.dumps(content))
    plain.pop(SUM, None)
    return plain | {SUM: _sum(plain, place)}


def is_whole(content: dict[str, Any], place: str = "") -> bool:
    """Whether an object read from JSON has a sum, and it is that of the rest. ``place`` as for ``with_sum``."""
    return content.get(SUM) == _sum({name: value for name, value in content.items() if name != SUM}, place)


def _sum(content: dict[str, Any], place: str) -> str:
    return canonical_hash([place, content] if place else content)


def _place(path: Path, bound: bool) -> str:
    return "/".join(path.parts[-2:]) if bound else ""


def write_json(path: Path, content: dict[str, Any], *, bound: bool = False) -> None:
    """Write an object of JSON values with its sum, whole or not at all. Raises DataError if it cannot be written.

    Args:
        path: its file.
        content: the object.
        bound: whether its name and folder are part of the sum: those of an address, of which nothing in it speaks.
    """
    write_atomically(path, json.dumps(with_sum(content, _place(path, bound)), sort_keys=True) + "\n")


def read_json(path: Path, *required: str, bound: bool = False) -> dict[str, Any] | None:
    """The object that ``write_json`` wrote, ``bound`` as here, without its sum, or None if there is none.

    One that cannot be read, lacks a required key or differs from its sum counts as none, and stays as it is; a line in
    the log says so.
    """
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s cannot be read (%s) and counts as missing.", path, error)
        return None
    if not isinstance(content, dict) or not set(required) <= set(content):
        log.warning("%s is not what it should be (%s) and counts as missing.", path, ", ".join(required) or "an object")
        return None
    if not is_whole(content, _place(path, bound)):
        reason = (
            "its sum is not that of its content" if SUM in content else "it has no sum; earlier versions wrote none"
        )
        log.warning("%s is damaged (%s) and counts as missing.", path, reason)
        return None
    del content[SUM]
    return content


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write content followed by its sum, whole or not at all. Raises DataError if it cannot be written.

    The sum is the sha256 of the file's name, which is its address, and the content.
    """
    write_atomically(path, b"".join([content, _digest(path, content)]))


def _digest(path: Path, content: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(path.name.encode() + b"\0")
    digest.update(content)
    return digest.digest()


def read_bytes(path: Path) -> memoryview:
    """The content that ``write_bytes`` wrote.

    Raises:
        OSError: it cannot be read.
        Damaged: it is not what was written.
    """
    content = memoryview(path.read_bytes())
    if _digest(path, content[:-_DIGEST_BYTES]) != content[-_DIGEST_BYTES:]:
        raise Damaged("its sum is not that of its content")
    return content[:-_DIGEST_BYTES]


def sum_of(path: Path) -> str:
    """The sha256 of a file in hexadecimal, computed once a process as long as the file stays the same."""
    facts = path.stat()
    stamp = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
    if time.time() - max(facts.st_mtime, facts.st_ctime) < _SAME_TICK_SECONDS:
        return sha256_of(path)
    return _sum_of(path, *stamp)


@lru_cache(maxsize=4096)
def _sum_of(path: Path, *_stamp: int) -> str:
    return sha256_of(path)


def beside(path: Path) -> Path:
    """The file with a file's sum and what is known of its making."""
    return path.with_suffix(BESIDE)


def write_with_sum(path: Path, content: bytes, about: dict[str, Any]) -> None:
    """Write a file, and first beside it its sum with ``about``, of JSON values. Raises DataError as ``write_json``."""
    sums = {FILE_SUM: hashlib.sha256(content).hexdigest()}
    if path.exists() and is_unchanged(path):
        sums[_SUM_BEFORE] = sum_of(path)
    write_json(beside(path), about | sums)
    write_atomically(path, content)


def is_unchanged(path: Path) -> bool | None:
    """Whether a file that is there is what ``write_with_sum`` wrote; None if no sum of it lies beside it.

    Raises:
        OSError: it cannot be read.
    """
    about = read_json(beside(path), FILE_SUM) if beside(path).exists() else None
    return None if about is None else sum_of(path) in (about[FILE_SUM], about.get(_SUM_BEFORE))


def is_intact(path: Path) -> bool:
    """Whether the store's file is there and what was written; a line in the log says that one is damaged."""
    if not path.exists():
        return False
    try:
        intact = is_unchanged(path)
    except OSError as error:
        log.warning("%s cannot be read (%s) and counts as missing.", path, error.strerror or error)
        return False
    if not intact:
        sum_beside = f"its sum is not the one in {beside(path).name}" if intact is False else "its sum is gone"
        log.warning("%s is damaged (%s) and counts as missing.", path, sum_beside)
    return bool(intact)
