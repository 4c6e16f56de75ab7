"""Progress of a call from Python: shown where a person looks, a terminal or a notebook, and nowhere else."""

import html
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distill_bench.runtime.progress import SILENT, Monitor, Stage, StreamMonitor, clock
from distill_bench.runtime.settings import is_on

_EVERY_SECONDS = 0.2


def monitor_of(progress: bool | None = None, monitor: Monitor | None = None) -> Monitor:
    """What hears of progress.

    Args:
        progress: whether a person is shown it; None: where one looks, unless the setting ``progress``
            (``DISTILL_BENCH_PROGRESS=no``) says otherwise. Not in pipes, and not in tests.
        monitor: hears of it instead.

    Returns:
        The monitor.

    Raises:
        UsageError: the setting is neither yes nor no.
    """
    if monitor is not None:
        return monitor
    if progress is None:
        watched = in_notebook() or sys.stderr.isatty()
        progress = watched and "PYTEST_CURRENT_TEST" not in os.environ and is_on("progress", True)
    if not progress:
        return SILENT
    return NotebookMonitor() if in_notebook() else StreamMonitor()


def in_notebook() -> bool:
    """Whether this is the process of a notebook's cells."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class NotebookMonitor(StreamMonitor):
    """A bar below the cell, beside lines. An interrupted cell ends in KeyboardInterrupt."""

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Stage]:
        bar = _Bar(title, total, done)
        try:
            yield bar
        finally:
            bar.show()


class _Bar:
    """Drawn by the browser, so that it needs no widgets."""

    def __init__(self, title: str, total: int, done: int) -> None:
        from IPython.display import HTML, display

        self._html = HTML
        self._title, self._total, self._text = title, total, ""
        self._first = self._done = done
        self._began = self._drawn = time.monotonic()
        self._handle = display(HTML(self._markup()), display_id=True)

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if time.monotonic() - self._drawn >= _EVERY_SECONDS:
            self.show()

    def note(self, text: str) -> None:
        self._text = text

    def show(self) -> None:
        self._drawn = time.monotonic()
        self._handle.update(self._html(self._markup()))

    def _markup(self) -> str:
        spent = time.monotonic() - self._began
        left = spent * (self._total - self._done) / max(self._done - self._first, 1)
        clocked = f"{clock(left)} left" if self._done < self._total else clock(spent)
        said = f"{self._done}/{self._total}, {clocked} {self._text}".strip()
        bar = f'<progress max="{self._total}" value="{self._done}"></progress>'
        return f"<div>{html.escape(self._title)} {bar} {html.escape(said)}</div>"
