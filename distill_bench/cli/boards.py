"""Boards as they are printed: tables in a terminal, Markdown where the output goes elsewhere."""

import io
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill_bench.benchmark import leaderboard
from distill_bench.benchmark.leaderboard import tables
from distill_bench.cli import options
from distill_bench.cli.output import show, show_styled
from distill_bench.runtime.text import for_terminal

_ACCURACY = tables.COLUMNS.index("accuracy (%)")
_TEXT = ("method", "labels")
_LESS = ("peak memory", "published (%)")
_WIDE = 120
"""Columns of a terminal in which all of a board's stand side by side."""


def as_tables(chosen: str | None) -> bool:
    """Whether boards are printed as tables: what ``--format`` says, else whether this is a terminal.

    Raises:
        UsageError: there is no such format.
    """
    return (options.choice("--format", chosen, options.FORMATS) or ("table" if _is_terminal() else "md")) == "table"


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def show_markdown(rows: Sequence[dict[str, Any]]) -> None:
    """Print a suite's board as Markdown."""
    show(*leaderboard.markdown(rows, leaderboard.published()).split("\n"))


def show_tables(sources: Sequence[leaderboard.Source]) -> None:
    """Print the boards of all datasets as tables as wide as the terminal; what may be best is bold."""
    width = shutil.get_terminal_size().columns
    colours = _is_terminal() and not os.environ.get("NO_COLOR")
    written = io.StringIO()
    console = Console(file=written, width=width, force_terminal=colours, no_color=not colours, highlight=False)
    rows = leaderboard.merged_rows(sources, leaderboard.published())
    if len(sources) == 1:
        rows = [{**row, "origin": None} for row in rows]
    shown = leaderboard.sections(rows, leaderboard.published())
    for section in shown:
        console.print(_plain(section.title), style="bold underline")
        for line in section.references:
            console.print(_plain(line))
        for each in section.tables:
            console.print(_table(each, width))
            console.print(_plain(each.note), style="dim")
        console.print()
    for note in tables.notes(shown):
        console.print(_plain(note), style="dim")
    if judged := tables.judged_claims(rows, leaderboard.published()):
        console.print(_claims(judged))
        console.print(_plain(tables.CLAIMS), style="dim")
    show_styled(written.getvalue())


def _table(board: tables.Table, width: int) -> Table:
    left_out = () if width >= _WIDE else _LESS
    shown = [index for index, name in enumerate(board.columns) if name not in left_out]
    table = Table(title=_plain(board.heading), title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for index in shown:
        name = board.columns[index]
        table.add_column(name, justify="left" if name in _TEXT else "right", no_wrap=name != "published (%)")
    for line, following in zip(board.lines, [*board.lines[1:], None], strict=True):
        cells = [
            Text(for_terminal(line.cells[index]), "bold" if line.best and index == _ACCURACY else "") for index in shown
        ]
        table.add_row(*cells, end_section=following is not None and following.cells[0] != line.cells[0])
    return table


def _claims(judged: Sequence[Sequence[str]]) -> Table:
    table = Table(title="Claims", title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in tables.CLAIM_COLUMNS:
        table.add_column(name)
    for cells in judged:
        table.add_row(*map(_plain, cells))
    return table


def _plain(text: str) -> Text:
    """Text that is shown as it is: no markup of rich's, no control characters."""
    return Text(for_terminal(text))
