"""A monitor that asks to stop."""

from distill_bench.runtime.progress import SilentMonitor


class StopsAfter(SilentMonitor):
    """Asks to stop when it was looked at so many times: methods look after every step."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    @property
    def stop_requested(self) -> bool:  # type: ignore[override]
        self._left -= 1
        return self._left <= 0
