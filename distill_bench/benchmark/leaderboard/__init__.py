"""What a folder of results says: rows, a Markdown board, CSV, a figure and a page."""

from distill_bench.benchmark.leaderboard.board import (
    board,
    boards,
    render,
    render_page,
    rows_of,
    sources_of,
)
from distill_bench.benchmark.leaderboard.claims import published
from distill_bench.benchmark.leaderboard.collect import ROW_KEYS
from distill_bench.benchmark.leaderboard.merged import Source, merged_rows
from distill_bench.benchmark.leaderboard.tables import markdown, sections

__all__ = [
    "ROW_KEYS", "Source", "board", "boards", "markdown", "merged_rows", "published", "render", "render_page", "rows_of",
    "sections", "sources_of",
]  # fmt: skip
