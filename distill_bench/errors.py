"""The errors of the package, each with the exit code the command returns for it, and what they say."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, SupportsIndex

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


class DistillBenchError(Exception):
    """Base class of every error raised on purpose (exit code 1 unless said otherwise).

    Args:
        message: one line.
        further: lines below it, as of a table. A line break within a line is no break where errors are printed.
    """

    exit_code = 1

    def __init__(self, message: str = "", *further: str) -> None:
        super().__init__(message, *further)

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))


class RunFailed(DistillBenchError):
    """A computation went wrong: a loss is no longer finite, training diverged (exit code 1)."""


class UsageError(DistillBenchError):
    """A request or a recipe is invalid: unknown name, wrong value, impossible combination (exit code 2)."""

    exit_code = 2


class DataError(DistillBenchError):
    """Data is missing, unreadable, or not what it claims to be (exit code 3)."""

    exit_code = 3


class Interrupted(DistillBenchError):
    """The run was asked to stop and did, after writing a checkpoint (exit code 130)."""

    exit_code = 130


_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")
"""How the allocators of CPU, MPS and CUDA say it, where torch raises a plain RuntimeError."""

_MOST_SHOWN = 300
"""Characters of what others said that an error repeats."""

MEMORY_ADVICE = (
    "ran out of memory ({}). Lower a batch size of the method, the images' `size` or `ipc`; of a suite, run fewer "
    "cells at a time (`jobs`)."
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory, the machine's or the device's, was not enough."""
    plain = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)
    return plain or isinstance(error, MemoryError)


def first_line(error: BaseException) -> str:
    """What an error says, without what allocators add; its type where it says nothing."""
    return _cut((str(error).splitlines() or [type(error).__name__])[0])


def brief(error: BaseException) -> str:
    """What an error of another library says, in one line without a full stop; its type where it says nothing."""
    said = " ".join(str(error).split()).rstrip(".: ")
    return _cut(f"there is no {said}" if isinstance(error, KeyError) else said or type(error).__name__)


def whole_number(value: object, name: str) -> int:
    """The number itself, numpy's too; no fraction, truth value or text, which would pass for one and be another.

    Args:
        value: what was given.
        name: of the argument, for the error.

    Returns:
        The number.

    Raises:
        UsageError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise UsageError(f"`{name}={value!r}`: give a whole number.")
    return operator.index(value)


def did_you_mean(name: str, known: Iterable[str], least: float = 0.6) -> str:
    """`` Did you mean dm?``, with up to three of the known names that a wrong one is close to; nothing where none is.

    ``least`` is how close, from 0 to 1.

    >>> did_you_mean("MNSIT", ["digits", "mnist"])
    ' Did you mean mnist?'
    """
    by_case = {other.casefold(): other for other in known}
    close = difflib.get_close_matches(name[:_MOST_SHOWN].casefold(), by_case, cutoff=least)
    return f" Did you mean {' or '.join(by_case[other] for other in close)}?" if close else ""


def unknown(what: str, name: str, known: Iterable[str], more: str = "") -> str:
    """The message for a name that is none of the known ones.

    Args:
        what: the name should be of, such as ``"method"``.
        name: that is not known.
        known: the names that are.
        more: what is allowed besides.

    Returns:
        One or more sentences.
    """
    names = list(known)
    return f"unknown {what} {_cut(name)!r}.{did_you_mean(name, names)} Known: {', '.join(names)}{more}."


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"


def describe(error: ValidationError, known: Iterable[str] = ()) -> str:
    """A validation error in one line: every field with what is wrong about it.

    Args:
        error: pydantic's.
        known: names of fields, of which those are named that an unknown one comes close to.

    Returns:
        The line.
    """
    names = list(known)

    def hint(item: ErrorDetails) -> str:
        close = did_you_mean(str(item["loc"][-1]), names) if item["type"] == "extra_forbidden" else ""
        return f" ({close.strip()})" if close else ""

    def place(item: ErrorDetails) -> str:
        return f"{'.'.join(map(str, item['loc']))}: " if item["loc"] else ""

    return "; ".join(f"{place(item)}{item['msg'].removeprefix('Value error, ')}{hint(item)}" for item in error.errors())
