"""What a folder of results says: rows, a Markdown board, CSV and a figure."""

from pathlib import Path

from distill_bench.leaderboard import tables
from distill_bench.leaderboard.claims import Claim, load_claims
from distill_bench.leaderboard.collect import ROW_KEYS, leaderboard_rows, read_results
from distill_bench.leaderboard.tables import markdown
from distill_bench.package_data import package_data
from distill_bench.storage import write_atomically

__all__ = ["ROW_KEYS", "board", "markdown", "published", "render"]

PUBLISHED = "baselines/published.csv"


def published() -> list[Claim]:
    """The papers' accuracies that come with the package."""
    return load_claims(package_data(PUBLISHED))


def board(folder: Path) -> list[dict]:
    """The leaderboard rows of a results folder, JSON-safe, with the keys of ``ROW_KEYS``.

    Raises:
        DataError: the folder, a result or the published accuracies cannot be read.
    """
    return leaderboard_rows(read_results(folder), published())


def render(folder: Path, out: Path) -> list[Path]:
    """Write ``leaderboard.md``, ``leaderboard.csv`` and ``accuracy.png`` for a results folder into ``out``.

    Raises:
        DataError: the folder, a result or the published accuracies cannot be read, or ``out`` cannot be written.
    """
    from distill_bench.leaderboard.figures import accuracy_figure  # here, because importing matplotlib takes a second

    rows = board(folder)
    pages = {
        out / "leaderboard.md": markdown(rows, published()),
        out / "leaderboard.csv": tables.csv(rows),
    }
    for path, text in pages.items():
        write_atomically(path, text)
    return [*pages, accuracy_figure(rows, out / "accuracy.png")]
