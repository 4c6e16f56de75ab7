"""Progress of long work: a bar with the time left on a terminal, a line now and then elsewhere. Requests to stop."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Protocol, TextIO, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from distill_bench.errors import Interrupted
from distill_bench.runtime.text import for_terminal

LINE_EVERY_SECONDS = 15.0
PROBE_SECONDS = 0.5


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


class Within:
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
    def __init__(self, owner: "StreamMonitor", title: str, total: int, done: int, bar: Progress | None) -> None:
        self._owner, self._title, self._total, self._bar = owner, title, total, bar
        self._task = bar.add_task(for_terminal(title), total=total, completed=done, note="") if bar else None
        self._first = self._done = done
        self._text = ""
        self._began = self._spoke = time.monotonic()

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, steps)
        elif time.monotonic() - self._spoke >= LINE_EVERY_SECONDS:
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
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with Progress(*columns, console=Console(file=self._stream)) as bar:
            yield _Stage(self, title, total, done, bar)


class StoppedEarly(BaseException):
    """A request to stop before there was work to keep. No Exception, which something on the way may catch."""


def stop_at_once() -> None:
    """Take SIGINT and SIGTERM as ``StoppedEarly``, until a monitor listens."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedEarly

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


class Enough(Exception):
    """Raised out of work that was only to be timed."""


class Stopwatch:
    """Called at the end of every step of some work; raises ``Enough`` when the steps after the first took long enough.

    Args:
        most: seconds. A first step longer than that is the only one.
    """

    def __init__(self, most: float = PROBE_SECONDS) -> None:
        self._most, self._ends = most, [time.perf_counter()]

    def __call__(self) -> None:
        self._ends.append(time.perf_counter())
        first_too_long = self._ends[1] - self._ends[0] >= self._most
        if first_too_long or self._ends[-1] - self._ends[1] >= self._most:
            raise Enough

    @property
    def seconds(self) -> float:
        """Of a step: the mean of those after the first, which warms up, where there are any; 0 before any step."""
        steps = len(self._ends) - 1
        first = min(1, max(steps - 1, 0))
        return (self._ends[-1] - self._ends[first]) / (steps - first) if steps else 0.0


class Probe:
    """A monitor that times the steps of a piece of work and cuts it off. Is its own stage.

    Args:
        own: how titles of stages begin that are timed. Work ends at any other, which is what it needs first.

    Attributes:
        seconds: predicted of the stage that was cut off; spent on all, where none was; 0 where others come first.
        first: the title of the stage that has to come first, or ``""``.
    """

    stop_requested = False

    def __init__(self, own: str) -> None:
        self.first, self._own = "", own
        self._began = time.perf_counter()
        self._predicted: float | None = None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began if self._predicted is None else self._predicted

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator["Probe"]:
        if not title.startswith(self._own):
            self.first, self._predicted = title, 0.0
            raise Enough
        self._watch = watch = Stopwatch()
        try:
            yield self
        except Enough:
            self._predicted = watch.seconds * (total - done)
            raise

    def advance(self, steps: int = 1) -> None:
        self._watch()

    def note(self, text: str) -> None: ...


def stopped(where: str) -> Interrupted:
    """The error of work that stops on request, saying how far it came."""
    return Interrupted(f"stopped on request, {where}. Run the same command again to go on from there.")


def clock(seconds: float) -> str:
    """A time in the two units that matter.

    >>> clock(45), clock(750), clock(29079)
    ('45 s', '12 min 30 s', '8 h 04 min')
    """
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
