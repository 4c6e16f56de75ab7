"""What a folder of results says: rows, a Markdown board, CSV, a figure and a page."""

from collections.abc import Sequence
from pathlib import Path

from distill_bench.benchmark.leaderboard import tables
from distill_bench.benchmark.leaderboard.claims import published
from distill_bench.benchmark.leaderboard.collect import Row, leaderboard_rows, names_of_data, of_suite
from distill_bench.benchmark.leaderboard.merged import Source, merged_rows, origin_of, without_studies
from distill_bench.benchmark.leaderboard.tables import markdown
from distill_bench.benchmark.results import read_results
from distill_bench.runtime.files import write_atomically


def board(folder: Path) -> list[Row]:
    """The leaderboard rows of a results folder, JSON-safe, with the keys of ``ROW_KEYS``.

    Args:
        folder: the folder of results.

    Returns:
        The rows, see ``leaderboard_rows``.

    Raises:
        DataError: the folder or the published accuracies cannot be read.
    """
    return leaderboard_rows(read_results(folder), published())


def boards(rows: list[Row]) -> dict[str, list[Row]]:
    """The rows of every suite's board, see ``of_suite``."""
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


def sources_of(folders: Sequence[Path], wrong: list[str] | None = None) -> list[Source]:
    """The results of folders, told apart by where they come from; by their paths where that is the same.

    Args:
        folders: of results; one that is not there has none.
        wrong: see ``read_results``.

    Returns:
        A source a folder.
    """
    origins = [origin_of(folder) for folder in folders]
    names = origins if len(set(origins)) == len(origins) else [str(folder) for folder in folders]
    return [
        Source(name, read_results(folder, wrong=wrong) if folder.is_dir() else [], folder)
        for name, folder in zip(names, folders, strict=True)
    ]


def rows_of(sources: Sequence[Source]) -> list[Row]:
    """The rows of all sources' suites, each with its ``origin``, see ``leaderboard_rows``."""
    names = names_of_data(each for source in sources for each in source.filed)
    return [
        {**row, "origin": source.origin}
        for source in sources
        for row in leaderboard_rows(source.filed, published(), names)
    ]


def render_page(sources: Sequence[Source], path: Path) -> None:
    """Write the boards of all datasets in the sources as one HTML file, but for what studies varied.

    Raises:
        DataError: the file cannot be written.
    """
    from distill_bench.benchmark.leaderboard.page.render import page  # here: importing Jinja2 takes a moment
    from distill_bench.benchmark.leaderboard.page.rows import page_data

    rows = without_studies(merged_rows(sources, published()))
    folders = [source.folder for source in sources if source.folder is not None]
    write_atomically(path, page(page_data(rows, published(), folders)))


def _figure(rows: list[Row]) -> bytes:
    from distill_bench.benchmark.leaderboard.figures import accuracy_figure  # here: importing matplotlib takes a second

    return accuracy_figure(rows)
