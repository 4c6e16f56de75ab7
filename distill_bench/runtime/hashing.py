"""Content addresses."""

import hashlib
import json
from pathlib import Path
from typing import Any

from distill_bench.runtime.files import check_regular


def canonical_hash(content: Any) -> str:
    """32 hex digits of the sha256 over canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def sha256_of(path: Path) -> str:
    """The 64 hex digits of a file's sha256."""
    check_regular(path)
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
