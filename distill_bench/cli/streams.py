"""Standard streams that may be full or closed: progress that cannot be said is lost, a result that cannot be printed is
an error, and neither ends work."""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import Any

from distill_bench.errors import DataError

_FULL = (
    "cannot write to standard output ({}). What the command made is kept. Make room, or let the output go elsewhere, "
    "and run the same command again."
)


class _Guarded:
    """A stream like the one it stands for; ``lost`` is called where that cannot be written."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._broken = False

    def lost(self, error: Exception) -> None:
        """What cannot be said is not said."""

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, what: str, *arguments: str) -> None:
        if self._broken:
            return
        try:
            getattr(self._stream, what)(*arguments)
        except (OSError, ValueError) as error:
            self._broken = True
            self._forget()
            self.lost(error)

    def _forget(self) -> None:
        """Python writes what is left in the buffer at the end: it goes nowhere then."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Output(_Guarded):
    def lost(self, error: Exception) -> None:
        """Raises DataError; BrokenPipeError where nobody reads any more, which is no fault."""
        if isinstance(error, BrokenPipeError):
            raise error
        raise DataError(_FULL.format(getattr(error, "strerror", None) or error)) from error


class _Closed(_Output):
    """Where there is no standard output at all."""

    def write(self, text: str) -> int:
        raise DataError(_FULL.format(os.strerror(errno.EBADF)))


@contextlib.contextmanager
def guarded_streams() -> Iterator[None]:
    """Standard output and error as described above, for as long as a command runs."""
    closed = _open_closed()
    before = sys.stdout, sys.stderr
    nowhere = open(os.devnull, "w") if None in before else None  # noqa: SIM115 (closed below)
    output, error = (stream or nowhere for stream in before)
    assert output is not None and error is not None
    for stream in (output, error):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal has no letter for
    guarded: Any = _Closed(output) if 1 in closed else _Output(output)
    sys.stdout, sys.stderr = guarded, _Guarded(error)  # type: ignore[assignment]
    try:
        yield
        sys.stdout.flush()
    finally:
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
        if nowhere is not None:
            nowhere.close()


def _open_closed() -> set[int]:
    """Open the null device in place of closed standard streams, so that no file that is opened later is one of them."""
    closed = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            closed.add(number)
    return closed
