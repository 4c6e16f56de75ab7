"""Waiting for other processes, never without a deadline."""

import subprocess
import time
from collections.abc import Callable


def until(condition: Callable[[], object], process: subprocess.Popen | None = None, seconds: float = 60.0) -> None:
    """Return once the condition holds. Fails where the process ends before, or the seconds are over."""
    end = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, f"it ended before: {process.communicate(timeout=10)}"
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.02)
