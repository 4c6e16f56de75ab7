"""Boards as they are printed: tables in a terminal, Markdown where the output goes elsewhere."""

import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distill_bench.benchmark import leaderboard
from distill_bench.benchmark.leaderboard import tables
from distill_bench.cli import options
from distill_bench.cli.output import show, show_styled
from distill_bench.runtime.text import for_terminal

_ACCURACY = tables.COLUMNS.index("accuracy (%)")
_PROSE = 20
"""The least width of columns of sentences; of other columns of text it is the longest word."""
_WORDS = {"dataset": 0, "method": 0, "labels": 0, "protocol": 0, "pixels": 0, "claimed (%)": 0, "verdict": 0,
          "needs": _PROSE, "published (%)": _PROSE, "what must be known": _PROSE}  # fmt: skip
"""Columns whose text may go on in a next line, with their least width. A number is never broken."""
_FIRST_OUT = ("published (%)", "peak memory", "synthesis", "needs", "size", "gap to full", "vs random")
_FIRST_OUT_OF_CLAIMS = ("standard errors", "what must be known", "protocol", "pixels")
_NARROWEST = 60
"""A terminal of fewer columns breaks the lines itself."""
_BEST = "* "


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
    """Print the boards of all datasets as tables as wide as the terminal; what may be best has a mark and is bold."""
    width = max(_NARROWEST, shutil.get_terminal_size().columns)
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
            _print(console, _grid(each), _FIRST_OUT)
            console.print(_plain(each.note), style="dim")
        console.print()
    for note in tables.notes(shown, "*"):
        console.print(_plain(note), style="dim")
    if judged := tables.judged_claims(rows, leaderboard.published()):
        claims = [[_plain(cell) for cell in cells] for cells in judged]
        _print(console, _Grid("Claims", tables.CLAIM_COLUMNS, claims), _FIRST_OUT_OF_CLAIMS)
        console.print(_plain(tables.CLAIMS), style="dim")
    show_styled(written.getvalue())


@dataclass(frozen=True)
class _Grid:
    """A table's texts; one ``by_budget`` has a rule between budgets."""

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[Text]]
    by_budget: bool = False


def _grid(board: tables.Table) -> _Grid:
    return _Grid(board.heading, board.columns, [_marked(line) for line in board.lines], by_budget=True)


def _marked(line: tables.Line) -> list[Text]:
    """A line's cells, its accuracy with the mark of the best where it is."""
    cells = [_plain(cell) for cell in line.cells]
    if line.best:
        cells[_ACCURACY] = Text(f"{_BEST}{cells[_ACCURACY].plain}", "bold")
    return cells


def _print(console: Console, grid: _Grid, first_out: Sequence[str]) -> None:
    """Print those columns that there is room for, and which there is none for."""
    left_out = _left_out(grid, console.width, first_out)
    console.print(_table(grid, [index for index, name in enumerate(grid.columns) if name not in left_out]))
    if left_out:
        said = f"No room at {console.width} columns for: {', '.join(left_out)}. A wider terminal has them."
        console.print(_plain(said), style="dim")


def _left_out(grid: _Grid, width: int, first_out: Sequence[str]) -> list[str]:
    """The columns that must go, in the order of ``first_out``, for the others to fit."""
    least = {name: _least_width(name, [line[i] for line in grid.lines]) for i, name in enumerate(grid.columns)}
    left_out: list[str] = []
    for name in (name for name in first_out if name in least):
        if sum(least.values()) + len(least) + 1 <= width:
            break
        del least[name]
        left_out.append(name)
    return left_out


def _least_width(name: str, cells: Sequence[Text]) -> int:
    texts = [name, *(cell.plain for cell in cells)]
    if name not in _WORDS:
        return max(map(cell_len, texts))
    return _WORDS[name] or max(cell_len(word) for text in texts for word in text.split())


def _table(grid: _Grid, shown: Sequence[int]) -> Table:
    table = Table(title=_plain(grid.title), title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for name in (grid.columns[index] for index in shown):
        words = name in _WORDS
        table.add_column(name, justify="left" if words else "right", no_wrap=not words, overflow="fold")
    for line, following in zip(grid.lines, [*grid.lines[1:], None], strict=True):
        ends = grid.by_budget and following is not None and following[0] != line[0]
        table.add_row(*(line[index] for index in shown), end_section=ends)
    return table


def _plain(text: str) -> Text:
    """Text that is shown as it is: no markup of rich's, no control characters."""
    return Text(for_terminal(text))
