"""Work done by one process at a time."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from distill_bench.runtime.files import cannot_write
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import Monitor, stopped

LOCK_POLL_SECONDS = 1.0
_SAY_AFTER_SECONDS = 5.0
T = TypeVar("T")


@contextlib.contextmanager
def file_lock(path: Path, monitor: Monitor, what: str) -> Iterator[None]:
    """Hold a lock, which the system releases when the process ends, however it does.

    Args:
        path: the lock's file.
        monitor: may ask to stop while another process has the lock.
        what: another process does that has it; requests to stop are heard while it does.

    Raises:
        DataError: the lock's file cannot be written.
        Interrupted: the monitor was asked to stop.
    """
    lock, began, said = FileLock(path), time.time(), False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=LOCK_POLL_SECONDS)
            break
        except Timeout:
            if monitor.stop_requested:
                raise stopped(f"waiting for another process that {what}") from None
            if not said and time.time() - began >= _SAY_AFTER_SECONDS:
                since = time.strftime("%H:%M:%S", time.localtime(began))
                log.warning("waiting since %s for %s that %s (it holds %s).", since, _holder(path), what, path)
                said = True
        except OSError as error:
            raise cannot_write(path, error) from error
    try:
        yield
    finally:
        lock.release()


def get_or_make(path: Path, read: Callable[[], T | None], make: Callable[[], T], monitor: Monitor, what: str) -> T:
    """What ``read`` finds, or else what ``make`` makes and stores. Of several processes that need it, one makes it.

    Args:
        path: of its file; the lock's lies beside it.
        read: from the store; None if it is not there, or damaged.
        make: the work.
        monitor: may ask to stop while another process does the work.
        what: that other process does.

    Returns:
        The result of ``read`` or ``make``.

    Raises:
        DataError: the lock's file cannot be written.
        Interrupted: the monitor was asked to stop.
    """
    with file_lock(path.with_suffix(".lock"), monitor, what):
        stored = read()
        return make() if stored is None else stored


def _holder(path: Path) -> str:
    """Who holds a lock, as far as the system says."""
    inode = path.stat().st_ino
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "->" not in words and words[5].rpartition(":")[2] == str(inode):
                return f"the process {words[4]}"
    return "another process"


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock now."""
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False
