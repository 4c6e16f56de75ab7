"""leaderboard: the boards of a folder of results."""

import os
from pathlib import Path
from typing import Annotated

import typer

from distill_bench.benchmark import leaderboard as boards
from distill_bench.cli import options
from distill_bench.cli.output import show, show_json
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.files import check_ending, check_place
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.text import counted


def leaderboard_command(
    results: options.Results = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write all boards as one page to this file.")] = None,
    as_json: options.Json = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 3 if a result is wrong, or was changed since it was written.")
    ] = False,
) -> None:
    """Render the board of every suite in a folder of results, and print them.

    A result that is wrong is named and left out.
    """
    if html and as_json:
        raise UsageError("--html writes a page and --json prints the rows: give one of them.")
    if html:
        check_ending(html, ".html", ".htm")
        check_place(html)
    folder = results or cache_dir() / "results"
    wrong: list[str] = []
    rows = boards.board(folder, wrong) if os.path.isdir(folder) else []
    if not rows and wrong:
        raise DataError(f"{folder}: no result there is as it should be; {counted(len(wrong), 'line')} above say why.")
    if not rows:
        raise UsageError(
            f"{folder} has no results. Run distill-bench bench digits first, or give --results DIR. Looked for are "
            "results of bench and of evaluate --results: DIR/<suite>.jsonl and DIR/<suite>/<dataset>/<method>/*.json."
        )
    if html:
        boards.render_page(rows, html)
        show(html)
    elif as_json:
        show_json(rows)
    else:
        for suite, of_suite in boards.boards(rows).items():
            boards.render(of_suite, folder / suite)
            show_board(of_suite)
    if wrong:
        said = f"{counted(len(wrong), 'result')} left out, or changed since written, as said above."
        if strict:
            raise DataError(said)
        show(f"note: {said}", err=True)


def show_board(rows: list[dict]) -> None:
    show(*boards.markdown(rows, boards.published()).split("\n"))
