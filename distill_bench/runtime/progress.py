"""Progress of long work: a bar with the time left on a terminal, a line now and then elsewhere. Requests to stop."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Protocol, TextIO, runtime_checkable

from distill_bench.errors import Interrupted
from distill_bench.runtime.text import for_terminal

if TYPE_CHECKING:
    from rich.progress import Progress

_LINE_EVERY_SECONDS = 15.0


@runtime_checkable
class Stage(Protocol):
    """One piece of work of known length."""

    def advance(self, steps: int = 1) -> None: ...
    def note(self, text: str) -> None: ...


@runtime_checkable
class Monitor(Protocol):
    """What long work reports to, and asks whether it should stop.

    A stage is of ``total`` steps, of which earlier processes have ``done`` some: these say nothing of the time left.
    """

    @property
    def stop_requested(self) -> bool: ...

    def stage(self, title: str, total: int, done: int = 0) -> AbstractContextManager[Stage]: ...


class _SilentStage:
    def advance(self, steps: int = 1) -> None: ...
    def note(self, text: str) -> None: ...


class SilentMonitor:
    """Reports nothing."""

    stop_requested = False

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Stage]:
        yield _SilentStage()


SILENT = SilentMonitor()


class SubMonitor:
    """A monitor for parts of a stage that is under way: their steps are its own."""

    def __init__(self, monitor: Monitor, stage: Stage) -> None:
        self._monitor, self._stage = monitor, stage

    @property
    def stop_requested(self) -> bool:
        return self._monitor.stop_requested

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Stage]:
        if done:
            self._stage.advance(done)
        yield self._stage


class _Stage:
    def __init__(self, owner: StreamMonitor, title: str, total: int, done: int, bar: Progress | None) -> None:
        self._owner, self._title, self._total, self._bar = owner, title, total, bar
        self._task = bar.add_task(for_terminal(title), total=total, completed=done, note="") if bar else None
        self._first = self._done = done
        self._text = ""
        self._began = self._spoke = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, steps)
        elif time.monotonic() - self._spoke >= _LINE_EVERY_SECONDS:
            self._spoke = time.monotonic()
            spent = self._spoke - self._began
            left = spent * (self._total - self._done) / max(self._done - self._first, 1)
            self._owner.say(f"{self._title}: {self._done}/{self._total}, {clock(left)} left. {self._text}".rstrip())

    def note(self, text: str) -> None:
        self._text = text
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=for_terminal(text))


class StreamMonitor:
    """Writes to a stream, standard error unless given. ``Ctrl-C`` and SIGTERM ask to stop; a second one insists."""

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stop_requested = False
        self._stream = stream or sys.stderr
        self._quiet = quiet

    def say(self, *lines: str) -> None:
        """Write lines. A line break within one of them is part of a name, and shown as an escape."""
        if not self._quiet:
            self._stream.write("".join(f"{for_terminal(line)}\n" for line in lines))
            self._stream.flush()

    def listen(self) -> None:
        """Take the process's SIGINT and SIGTERM as requests to stop at the next checkpoint."""

        def stop(number: int, frame: FrameType | None) -> None:
            if self.stop_requested:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            self.stop_requested = True

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Stage]:
        if self._quiet or not self._stream.isatty():
            yield _Stage(self, title, total, done, None)
            return
        with _bar(self._stream) as bar:
            yield _Stage(self, title, total, done, bar)


def _bar(stream: TextIO) -> Progress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=stream),
    )


class StopBeforeStart(BaseException):
    """A request to stop before there was work to keep. No Exception, which something on the way may catch."""


def stop_at_once() -> None:
    """Take SIGINT and SIGTERM as ``StopBeforeStart``, until a monitor listens."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StopBeforeStart

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def stopped(where: str) -> Interrupted:
    """The error of work that stops on request, saying how far it came."""
    return Interrupted(f"stopped on request, {where}. Run the same command again to go on from there.")


def clock(seconds: float) -> str:
    """A time in the two units that matter.

    >>> clock(45.0), clock(750.0), clock(29079.0)
    ('45 s', '12 min 30 s', '8 h 04 min')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
