"""Sets in a repository of the Hugging Face Hub, as ``publish`` writes one: by owner and name."""

import os
import re
import tomllib
from pathlib import Path

from distill_bench.errors import DataError, UsageError, brief
from distill_bench.hub.publish import ENTRY
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.paths import offline

_SUFFIX = ".safetensors"
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def is_repository(name: str | Path) -> bool:
    """Whether a name is ``owner/name`` rather than that of a file or of a folder here."""
    if not isinstance(name, str) or not _REPOSITORY.fullmatch(name) or name.endswith(_SUFFIX):
        return False
    return not os.path.exists(name) and not os.path.isdir(name.partition("/")[0])


def repository_set(name: str, *, may_download: bool = True) -> Path:
    """The one set of a dataset repository: fetched, or as Hugging Face's own cache has it. Nothing in it is run.

    Args:
        name: owner and name.
        may_download: whether the network may be asked.

    Returns:
        The set's file.

    Raises:
        UsageError: huggingface_hub is not installed.
        DataError: it cannot be had, holds no set or several, or another one than its registry entry says.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(f"{name}: a repository needs huggingface_hub: pip install 'distill_bench[hub]'.") from None
    cached = offline() or not may_download
    try:
        folder = huggingface_hub.snapshot_download(
            name, repo_type="dataset", allow_patterns=[f"*{_SUFFIX}", ENTRY], local_files_only=cached
        )
    except Exception as error:  # the client raises errors of many types, its HTTP library's among them
        why = "is not in Hugging Face's cache, and may not be fetched" if cached else "cannot be fetched"
        raise DataError(
            f"{name} is no file here, and the dataset repository of that name {why} ({type(error).__name__}: "
            f"{brief(error)}). Check the name, or give a {_SUFFIX} file."
        ) from error
    sets = sorted(Path(folder).rglob(f"*{_SUFFIX}"))
    if len(sets) != 1:
        raise DataError(f"{name} holds {len(sets)} {_SUFFIX} files; a published set is one. Fetch the one you mean.")
    _check_sum(name, sets[0], Path(folder) / ENTRY)
    return sets[0]


def _check_sum(name: str, file: Path, entry: Path) -> None:
    """Raises DataError if a repository's registry entry names another file than it holds."""
    if not entry.is_file():
        return
    try:
        tables = tomllib.loads(entry.read_text(encoding="utf-8")).values()
        sums = [each["sha256"] for table in tables for each in table["files"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{name}: its {ENTRY} cannot be read ({brief(error)}). Ask who published it.") from error
    if sha256_of(file) not in sums:
        raise DataError(f"{name}: {file.name} is not the file that its {ENTRY} is about. Ask who published it.")
