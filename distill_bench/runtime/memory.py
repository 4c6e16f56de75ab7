"""How much memory this process may take, which limit says so, and how much it holds."""

import contextlib
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from distill_bench.errors import UsageError
from distill_bench.runtime.settings import setting

VARIABLE = "DISTILL_BENCH_MEMORY_LIMIT"
_UNITS = {"": 1, "B": 1} | {
    name + ending: base**power for power, name in enumerate("KMGT", 1) for ending, base in (("B", 1000), ("IB", 1024))
}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_OWN_CGROUPS, _CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


class MemoryLimit(NamedTuple):
    """A limit of this process's memory.

    Attributes:
        bytes: how much; infinite where nothing says.
        holder: who allows no more, with its verb, such as ``"this machine has"``.
        held: bytes that this process holds already of what is limited: resident memory, address space or data.
    """

    bytes: float
    holder: str
    held: float

    @property
    def room(self) -> float:
        """Bytes left."""
        return self.bytes - self.held

    def __str__(self) -> str:
        return f"{self.holder} {self.bytes / 1e9:.1f} GB"


def memory_limit() -> MemoryLimit:
    """The limit that leaves this process the least room.

    Of the machine's memory, that of the control groups it is in (v1 and v2, and those above), RLIMIT_AS and
    RLIMIT_DATA, and ``DISTILL_BENCH_MEMORY_LIMIT``.

    Raises:
        UsageError: that variable is no amount of memory.
    """
    return min(_limits(), key=lambda limit: limit.room, default=MemoryLimit(math.inf, "this machine has", 0.0))


def memory_of_text(text: str, where: str = VARIABLE) -> int:
    """Bytes of an amount such as ``2GB``, ``512MiB`` or ``2000000000``; GB are 10⁹ bytes, GiB 2³⁰.

    Args:
        text: the amount.
        where: it was given, for the error.

    Returns:
        How many bytes, at least one.

    Raises:
        UsageError: it is none.

    >>> memory_of_text("2GB"), memory_of_text("1.5 GiB")
    (2000000000, 1610612736)
    """
    match = _AMOUNT.fullmatch(text.strip())
    unit = None if match is None else _UNITS.get(match[2].upper())
    amount = 0.0 if match is None or unit is None else float(match[1]) * unit
    if not 1 <= amount < math.inf:
        raise UsageError(f"{where} {text!r} is no amount of memory: give one such as 2GB, 512MiB or 2000000000.")
    return int(amount)


def set_memory_limit(text: str | None) -> None:
    """Limit this process and those it starts to an amount such as ``2GB``; None leaves the limit as it is.

    Raises:
        UsageError: it is no amount of memory.
    """
    if text is not None:
        memory_of_text(text, "`memory_limit`")
        os.environ[VARIABLE] = text


def resident_bytes() -> float:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    return _status("VmRSS")


def _limits() -> Iterator[MemoryLimit]:
    resident = resident_bytes()
    if text := setting("memory_limit"):
        yield MemoryLimit(memory_of_text(text), f"{VARIABLE} allows", resident)
    with contextlib.suppress(AttributeError, ValueError, OSError):
        yield MemoryLimit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "this machine has", resident)
    for path in _cgroup_files():
        try:
            yield MemoryLimit(int(path.read_text()), f"the control group ({path}) allows", resident)
        except (OSError, ValueError):  # not there, or "max"
            continue
    if sys.platform != "win32":
        import resource

        for name, field in (("RLIMIT_AS", "VmSize"), ("RLIMIT_DATA", "VmData")):
            kind = getattr(resource, name, None)
            if kind is not None and (most := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY:
                yield MemoryLimit(most, f"{name} (ulimit) allows", _status(field))


def _cgroup_files() -> list[Path]:
    """Where the limits of this process's groups, and of those above, may stand."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:
        return []
    files = []
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and not controllers:
            root, file = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, file = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = Path(name.lstrip("/"))
        files += [root / each / file for each in (group, *group.parents)]
    return list(dict.fromkeys(files))


def _status(name: str) -> float:
    """A line of this process's status in bytes; 0 where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0.0)


def peak_line(needed: float) -> str:
    """What to know of memory before long work that needs so many bytes besides what this process holds."""
    return f"about {(resident_bytes() + needed) / 1e9:.1f} GB of memory at its peak; {memory_limit()}"
