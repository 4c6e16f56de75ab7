"""What commands print: the one way to standard output, on which names from outside do nothing.

The library's messages speak of arguments, as `` `labels=hard` ``; here they become the options of the command.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.text import for_json, for_terminal

if TYPE_CHECKING:
    from distill_bench.distilled.distilled_set import DistilledSet
    from distill_bench.evaluation import Result


def show(*lines: object, err: bool = False) -> None:
    """Print lines. A line break within one of them is part of a name, and shown as an escape.

    Args:
        lines: to print.
        err: to standard error instead.
    """
    for line in lines:
        _print(for_terminal(as_flags(str(line))), sys.stderr if err else sys.stdout)


def show_json(content: Any) -> None:
    """Print JSON."""
    _print(for_json(content, indent=1), sys.stdout)


def show_styled(text: str) -> None:
    """Print text with a terminal's own codes in it: names from outside were made harmless before."""
    _print(text.rstrip("\n"), sys.stdout)


def _print(text: str, stream: Any) -> None:
    """Not by click, which looks for another stream below ``sys.stdout`` in some locales."""
    stream.write(text + "\n")
    stream.flush()


def protocol_named(result: Result, distilled: DistilledSet | None) -> str:
    """A result's protocol, and whether it is the one on the set's card."""
    return f"protocol {result.protocol}" + (
        " (the card's)" if distilled and distilled.card.protocol == result.protocol else ""
    )


def notes_shown(notes: Iterable[str]) -> list[str]:
    """A line a note."""
    return [f"note: {note}" for note in notes]


_ARGUMENT = re.compile(r"`(?P<name>[a-z_][a-z_.]*)(?:=(?P<value>[^`]*))?`")
WORDS = {"True": "", "False": "no"}


def as_flags(text: str) -> str:
    """A message of the library with its arguments as options; a hyper-parameter is one of ``--set``.

    >>> as_flags("Give `size=32`, `allow_leak=True` or `real_batch=…`.")
    'Give --size 32, --allow-leak or --set real_batch=….'
    """

    def option(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if name not in _options():
            return match[0] if value is None else f"--set {name}={value}"
        value = "" if value is None else WORDS.get(value, value).strip("'")
        return f"--{name.replace('_', '-')} {value}".rstrip()

    return _ARGUMENT.sub(option, text)


@cache
def _options() -> frozenset[str]:
    """The arguments that some command has an option for."""
    from distill_bench.cli.commands import app  # here, because the commands print through this module

    def names(command: Any) -> set[str]:
        below = getattr(command, "commands", {}).values()
        own = {flag[2:].replace("-", "_") for each in command.params for flag in each.opts if flag.startswith("--")}
        return own.union(*map(names, below))

    return frozenset(names(typer.main.get_command(app)))


class CommandMonitor(StreamMonitor):
    """Says a command's progress, with the library's arguments as options."""

    def say(self, *lines: str) -> None:
        super().say(*map(as_flags, lines))
