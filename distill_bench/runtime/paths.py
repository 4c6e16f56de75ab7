"""Where things are kept, and whether the network may be used."""

import os
from pathlib import Path

import platformdirs

from distill_bench.runtime.settings import is_on, setting


def cache_dir() -> Path:
    """The cache folder: the setting ``home`` (``$DISTILL_BENCH_HOME``), or the user's cache directory."""
    configured = setting("home")
    return Path(os.path.expanduser(configured)) if configured else Path(platformdirs.user_cache_dir("distill_bench"))


def offline() -> bool:
    """Whether the setting ``offline`` (``DISTILL_BENCH_OFFLINE=1``) forbids the network."""
    return is_on("offline", False)
