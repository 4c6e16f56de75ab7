"""What a folder of results says: rows, a Markdown board, CSV, a figure and a page."""

from distill_bench.benchmark.leaderboard.board import board, boards, published, render, render_page
from distill_bench.benchmark.leaderboard.collect import ROW_KEYS
from distill_bench.benchmark.leaderboard.tables import markdown

__all__ = ["ROW_KEYS", "board", "boards", "markdown", "published", "render", "render_page"]
