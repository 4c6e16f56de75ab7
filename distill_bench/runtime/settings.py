"""What the user has set once and for all: environment variables ``DISTILL_BENCH_…``, then a TOML file.

Settings of the whole package are ``SETTINGS``; the command's options can be set too, see ``cli/settings.py``.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import platformdirs

from distill_bench.errors import UsageError
from distill_bench.runtime.files import read_toml

PREFIX = "DISTILL_BENCH_"
CONFIG = PREFIX + "CONFIG"
ON, OFF = ("1", "yes", "true", "on"), ("0", "no", "false", "off")
SETTINGS = {
    "home": "the folder of everything that is kept",
    "offline": "whether the network may not be used",
    "registry": "a registry of published sets, besides the package's",
    "memory_limit": "the most memory of a process, such as 2GB",
    "progress": "whether Python shows progress where a person looks",
}


def config_file() -> Path:
    """The file: ``$DISTILL_BENCH_CONFIG``, else ``config.toml`` in the user's configuration folder; may be missing."""
    named = os.environ.get(CONFIG)
    return (
        Path(os.path.expanduser(named))
        if named
        else Path(platformdirs.user_config_dir("distill_bench")) / "config.toml"
    )


def read_config() -> dict[str, Any]:
    """What the file says; nothing where there is none.

    Raises:
        UsageError: it cannot be read or is no TOML, or ``$DISTILL_BENCH_CONFIG`` names none that is there.
    """
    path = config_file()
    if not os.path.exists(path):
        if os.environ.get(CONFIG):
            raise UsageError(f"{CONFIG} names {path}, and there is no such file.")
        return {}
    return _read(path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> dict[str, Any]:
    return read_toml(path)


def setting(name: str) -> str | None:
    """A setting of the package, as text; None where it is set nowhere, or to nothing.

    ``name`` is one of ``SETTINGS``. Raises UsageError as ``read_config``.
    """
    value = os.environ.get(PREFIX + name.upper()) or read_config().get(name)
    return None if value is None or value == "" else str(value)


def is_on(name: str, usual: bool) -> bool:
    """Whether a setting that is yes or no is on.

    ``name`` is one of ``SETTINGS``, and ``usual`` what counts where it is not set. Raises UsageError for neither.
    """
    text = setting(name)
    if text is None:
        return usual
    if text.lower() not in (*ON, *OFF):
        raise UsageError(f"{PREFIX}{name.upper()} (or {name} in {config_file()}) is {text!r}: give yes or no.")
    return text.lower() in ON
