"""Content addresses."""

import hashlib
import json
from typing import Any


def canonical_hash(content: Any) -> str:
    """32 hex digits of the sha256 over canonical JSON."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
