"""Who hears of data that are read: that happens when a split is first asked for, deep in other work.

Whoever begins the work says so; nobody hears of it otherwise.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from distill_bench.runtime.progress import SILENT, Monitor, Stage, StreamMonitor

_LISTENER: ContextVar[StreamMonitor | None] = ContextVar("listener", default=None)


@contextmanager
def reported_to(monitor: StreamMonitor) -> Iterator[None]:
    """Inside the block, what is read is said to ``monitor``."""
    token = _LISTENER.set(monitor)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def is_heard() -> bool:
    """Whether anybody hears of it."""
    return _LISTENER.get() is not None


def stage(title: str, total: int) -> AbstractContextManager[Stage]:
    """The progress of reading ``total`` pieces."""
    monitor: Monitor = _LISTENER.get() or SILENT
    return monitor.stage(title, total)


def say(line: str) -> None:
    """What was read, in a line."""
    if monitor := _LISTENER.get():
        monitor.say(line)
