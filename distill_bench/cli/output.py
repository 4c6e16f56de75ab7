"""What commands print as their result: the one way to standard output, on which names from outside do nothing."""

from collections.abc import Iterable
from typing import Any

import typer

from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation import Result
from distill_bench.runtime.text import for_json, for_terminal


def show(*lines: object, err: bool = False) -> None:
    """Print lines. A line break within one of them is part of a name, and shown as an escape.

    Args:
        err: to standard error instead.
    """
    for line in lines:
        typer.echo(for_terminal(str(line)), err=err)


def show_json(content: Any) -> None:
    """Print JSON."""
    typer.echo(for_json(content, indent=1))


def protocol_named(result: Result, made: DistilledSet | None) -> str:
    """A result's protocol, and whether it is the one on the set's card."""
    return f"protocol {result.protocol}" + (" (the card's)" if made and made.card.protocol == result.protocol else "")


def notes_shown(notes: Iterable[str]) -> list[str]:
    """A line a note."""
    return [f"note: {note}" for note in notes]
