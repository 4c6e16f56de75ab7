"""leaderboard: the boards of a folder of results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.output import show, show_json
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.files import check_ending, check_place
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.text import counted

if TYPE_CHECKING:
    from distill_bench.benchmark import leaderboard as boards


def leaderboard_command(
    results: options.Results = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", help="Another folder of results to show with it, such as the checkout's results."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write all boards as one page to this file.")] = None,
    as_json: options.Json = False,
    format: options.Format = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 if a result is wrong, or was changed since it was written.")
    ] = False,
) -> None:
    """Render the board of every suite in a folder of results, and print them.

    A result that is wrong is named and left out.
    """
    from distill_bench.api.boards import leaderboard
    from distill_bench.cli.boards import as_tables

    if html and as_json:
        raise UsageError("--html writes a page and --json prints the rows: give one of them.")
    if format and (html or as_json):
        raise UsageError("--format is of the boards that are printed: leave out --html and --json, or --format.")
    tabular = as_tables(format)
    if html:
        check_ending(html, ".html", ".htm")
        check_place(html)
    folder = results or cache_dir() / "results"
    board = leaderboard(folder, beside or ())
    sources, wrong = board.sources, board.wrong
    if html:
        board.save_html(html)
        show(html)
    elif as_json:
        show_json(board.rows)
    else:
        _print_and_render(sources, folder, tabular)
    if wrong:
        said = f"{counted(len(wrong), 'result')} left out, or changed since written, as said above."
        if strict:
            raise DataError(said)
        show(f"note: {said}", err=True)


def _print_and_render(sources: Sequence[boards.Source], folder: Path, tabular: bool) -> None:
    """Print all sources' boards, and write those of the folder, which is the first of them, into it."""
    from distill_bench.benchmark import leaderboard as boards
    from distill_bench.cli.boards import show_markdown, show_tables

    own = boards.boards(_of_one_folder(sources[:1]))
    for suite, rows in own.items():
        boards.render(rows, folder / suite)
    if tabular:
        show_tables(sources)
        return
    for rows in (own if len(sources) == 1 else boards.boards(boards.rows_of(sources))).values():
        show_markdown(rows)


def _of_one_folder(sources: Sequence[boards.Source]) -> list[dict[str, Any]]:
    """Its rows, which need not say where they come from."""
    from distill_bench.benchmark import leaderboard as boards

    return [{**row, "origin": None} for row in boards.rows_of(sources)]
