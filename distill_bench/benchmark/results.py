"""Results as files: one a score or a failure, found again by its address."""

import json
from pathlib import Path
from typing import Any

from distill_bench.runtime.files import read_json, write_atomically

FAILED = "failed"


def find_result(path: Path, address: dict[str, str]) -> dict[str, Any] | None:
    """The result or failure in a file, if it is of an address.

    Args:
        path: see ``CellTasks.result_path``.
        address: the field that has it, and its value.
    """
    content = read_json(path) or {}
    return content if all(content.get(name) == value for name, value in address.items()) else None


def file_result(path: Path, content: dict[str, Any]) -> None:
    """Write a result. Raises DataError where that is not possible."""
    _write(path, {"kind": "score", **content})


def file_failure(path: Path, content: dict[str, Any]) -> None:
    """Write why a cell failed. Raises DataError where that is not possible."""
    _write(path, {"kind": "failure", **content})


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
