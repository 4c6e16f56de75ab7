"""What a folder of results says: rows, a Markdown board, CSV, a figure and a page."""

from pathlib import Path

from distill_bench.benchmark.leaderboard import tables
from distill_bench.benchmark.leaderboard.claims import Claim, load_claims
from distill_bench.benchmark.leaderboard.collect import Row, leaderboard_rows, of_suite
from distill_bench.benchmark.leaderboard.tables import markdown
from distill_bench.benchmark.results import read_results
from distill_bench.runtime.files import write_atomically

_PUBLISHED = Path(__file__).with_name("published.csv")


def published() -> list[Claim]:
    """The papers' accuracies that come with the package."""
    return load_claims(_PUBLISHED)


def board(folder: Path) -> list[Row]:
    """The leaderboard rows of a results folder, JSON-safe, with the keys of ``ROW_KEYS``.

    Raises:
        DataError: the folder or the published accuracies cannot be read, or a result lacks a field.
    """
    return leaderboard_rows(read_results(folder), published())


def boards(folder: Path) -> dict[str, list[Row]]:
    """The rows of every suite's board, see ``of_suite``. Errors as ``board``."""
    rows = board(folder)
    return {suite: selected for suite in sorted({row["suite"] for row in rows}) if (selected := of_suite(rows, suite))}


def render(rows: list[Row], out: Path) -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.csv`` and ``accuracy.png`` of rows.

    Args:
        rows: of a board.
        out: the folder to write into.

    Returns:
        The files.

    Raises:
        DataError: ``out`` cannot be written.
    """
    files: dict[Path, str | bytes] = {
        out / "leaderboard.md": markdown(rows, published()),
        out / "leaderboard.csv": tables.csv(rows),
        out / "accuracy.png": _figure(rows),
    }
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def render_page(folder: Path, path: Path) -> None:
    """Write the board of a results folder as one HTML file.

    Raises:
        DataError: as ``board``, or the file cannot be written.
    """
    from distill_bench.benchmark.leaderboard.page import page  # here, because importing Jinja2 takes a moment

    rows = board(folder)
    write_atomically(path, page(rows, published(), _figure(rows)))


def _figure(rows: list[Row]) -> bytes:
    from distill_bench.benchmark.leaderboard.figures import accuracy_figure  # here: importing matplotlib takes a second

    return accuracy_figure(rows)
