"""Where things are kept, and whether the network may be used."""

import os
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """The cache folder: ``$DISTILL_BENCH_HOME``, or the user's cache directory."""
    configured = os.environ.get("DISTILL_BENCH_HOME")
    return Path(configured) if configured else Path(platformdirs.user_cache_dir("distill_bench"))


def offline() -> bool:
    """Whether ``DISTILL_BENCH_OFFLINE=1`` forbids the network."""
    return os.environ.get("DISTILL_BENCH_OFFLINE", "") not in ("", "0")
