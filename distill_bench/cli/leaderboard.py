"""leaderboard: the boards of a folder of results."""

import os
from pathlib import Path
from typing import Annotated

import typer

from distill_bench.benchmark import leaderboard as boards
from distill_bench.cli import options
from distill_bench.cli.output import show, show_json
from distill_bench.errors import UsageError
from distill_bench.runtime.files import check_ending, check_place
from distill_bench.runtime.paths import cache_dir


def leaderboard_command(
    results: options.Results = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write all boards as one page to this file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Render the board of every suite in a folder of results, and print them."""
    if html and as_json:
        raise UsageError("--html writes a page and --json prints the rows: give one of them.")
    if html:
        check_ending(html, ".html", ".htm")
        check_place(html)
    folder = results or cache_dir() / "results"
    rows = boards.board(folder) if os.path.isdir(folder) else []
    if not rows:
        raise UsageError(
            f"{folder} has no results. Run distill-bench bench digits first, or give --results DIR. Looked for are "
            "results of bench and of evaluate --results: DIR/<suite>.jsonl and DIR/<suite>/<dataset>/<method>/*.json."
        )
    if html:
        boards.render_page(folder, html)
        show(html)
    elif as_json:
        show_json(rows)
    else:
        for suite, of_suite in boards.boards(folder).items():
            boards.render(of_suite, folder / suite)
            show_board(of_suite)


def show_board(rows: list[dict]) -> None:
    show(*boards.markdown(rows, boards.published()).split("\n"))
