"""Suites run, and boards of results."""

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_bench import benchmark
from distill_bench.benchmark import leaderboard as boards
from distill_bench.benchmark.leaderboard import tables
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.files import check_ending
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import Monitor, Stage, StreamMonitor
from distill_bench.runtime.shown import monitor_of
from distill_bench.runtime.text import counted, for_terminal

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Board:
    """The boards of all datasets in folders of results. A notebook shows them as tables.

    Attributes:
        sources: the results by where they come from.
        wrong: a line for every result that is left out, or was changed since it was written.
    """

    sources: Sequence[boards.Source]
    wrong: Sequence[str] = ()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dictionary a row, with the keys of ``leaderboard.ROW_KEYS`` and its ``origin``."""
        return boards.rows_of(self.sources)

    def to_pandas(self) -> "pandas.DataFrame":
        """The rows as a table."""
        import pandas

        return pandas.DataFrame(self.rows)

    def save_html(self, path: str | Path) -> None:
        """Write all boards as one page. Raises UsageError for another ending than .html, DataError where it cannot."""
        check_ending(Path(path), ".html", ".htm")
        boards.render_page(self.sources, Path(path))

    def _sections(self) -> list[tables.Section]:
        rows = boards.merged_rows(self.sources, boards.published())
        if len(self.sources) == 1:
            rows = [{**row, "origin": None} for row in rows]
        return boards.sections(rows, boards.published())

    def __repr__(self) -> str:
        lines = list[str]()
        for section in self._sections():
            lines += [section.title, *section.references]
            for table in section.tables:
                cells = [table.columns, *(line.cells for line in table.lines)]
                widths = [max(len(for_terminal(row[column])) for row in cells) for column in range(len(table.columns))]
                lines += [table.heading]
                lines += ["  ".join(map(str.ljust, map(for_terminal, row), widths)).rstrip() for row in cells]
        return "\n".join(map(str, lines))

    def _repr_html_(self) -> str:
        parts = list[str]()
        for section in self._sections():
            parts.append(f"<h3>{html.escape(section.title)}</h3>")
            parts += [f"<p>{html.escape(line)}</p>" for line in section.references]
            for table in section.tables:
                head = "".join(f"<th>{html.escape(name)}</th>" for name in table.columns)
                body = "".join(map(_row, table.lines))
                parts.append(f"<h4>{html.escape(table.heading)}</h4><table><tr>{head}</tr>{body}</table>")
                parts.append(f"<p><small>{html.escape(table.note)}</small></p>")
        return "".join(parts)


def _row(line: tables.Line) -> str:
    texts = [html.escape(for_terminal(cell)) for cell in line.cells]
    bold = tables.COLUMNS.index("accuracy (%)") if line.best else None
    cells = (f"<td>{f'<b>{text}</b>' if number == bold else text}</td>" for number, text in enumerate(texts))
    return f"<tr>{''.join(cells)}</tr>"


def leaderboard(results: str | Path | None = None, beside: str | Path | Sequence[str | Path] = ()) -> Board:
    """The boards of a folder of results.

    Args:
        results: the folder; that of ``bench`` in the cache unless given.
        beside: another folder, or several, whose results stand with them.

    Returns:
        The boards, of which a result that is wrong is left out and named.

    Raises:
        UsageError: a folder is none, or there are no results.
        DataError: no result is as it should be.
    """
    folder, wrong = Path(results) if results else cache_dir() / "results", list[str]()
    board = Board(boards.sources_of(_folders(folder, [Path(each) for each in _each(beside)]), wrong), wrong)
    if not any(source.filed for source in board.sources):
        if wrong:
            raise DataError(
                f"{folder}: no result there is as it should be; {counted(len(wrong), 'line')} above say why."
            )
        raise UsageError(
            f"{folder} has no results. Run distill-bench bench digits first, or give `results=DIR`. Looked for are "
            "results of bench and of evaluate --results: DIR/<suite>.jsonl and DIR/<suite>/<dataset>/<method>/*.json."
        )
    return board


def _folders(folder: Path, beside: Sequence[Path]) -> list[Path]:
    for each in beside:
        if not os.path.isdir(each):
            raise UsageError(f"`beside={each}` is not a folder: give one of results, such as results of a checkout.")
    places = [os.path.realpath(each) for each in (folder, *beside)]
    if twice := [each for each in places if places.count(each) > 1]:
        raise UsageError(f"`beside={twice[0]}` is shown already: give another folder.")
    return [folder, *beside]


def bench(
    suite: str | Path,
    only: str = "",
    *,
    datasets: str | Sequence[str] = (),
    methods: str | Sequence[str] = (),
    ipc: int | Sequence[int] = (),
    fraction: float | Sequence[float] = (),
    seeds: int | Sequence[int] = (),
    protocols: str | Sequence[str] = (),
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    networks: int | None = None,
    results: str | Path | None = None,
    executor: str = "local",
    jobs: int | None = None,
    threads: int | None = None,
    device: str = "auto",
    compile: str = "auto",
    progress: bool | None = None,
    monitor: Monitor | None = None,
) -> Board:
    """Run what is not done of a suite, and return its board.

    Args:
        suite: of ``distill-bench list suites``, or a ``.toml`` file.
        only: such as ``"method=dm,ipc=1,ipc=10"``.
        datasets, ipc, fraction, seeds, protocols, preset: instead of the suite's; one, or several.
        methods: besides the suite's; one, or several.
        settings: hyper-parameters that replace those of every method that has them; its name says so then.
        networks: how many score a set, instead of the protocol's number.
        results: the folder of all results; in the cache unless given.
        executor: ``local`` (a process a cell), ``in-process`` or ``ray``.
        jobs, threads: cells at a time, and threads of each, see ``run_cells``.
        device, compile: as for ``evaluate``.
        progress, monitor: as for ``evaluate``.

    Returns:
        The board of this suite; cells that failed stand on it with why.

    Raises:
        UsageError: unknown names, or no set that was asked for can be made.
        DataError: a dataset is not there, or results cannot be filed.
        Interrupted: the monitor was asked to stop.
    """
    several = {"ipc": ipc, "fraction": fraction, "seeds": seeds, "protocols": protocols}
    grid = {name: _each(given) for name, given in several.items()} | {"preset": preset}
    loaded = benchmark.load_suite(str(suite))
    chosen = loaded.adapted(_each(datasets), _each(methods), None, loaded.holdout, **grid)  # type: ignore[arg-type]
    folder = Path(results) if results else cache_dir() / "results"
    plan = benchmark.plan(chosen, folder, only, settings, device=device, networks=networks, compile=compile)
    watching = monitor_of(progress, monitor)
    watching = watching if isinstance(watching, StreamMonitor) else _Following(watching)
    plan.run(watching, executor, jobs, threads, progress is False)
    return board_of(folder, chosen.name)


def _each(given: Any) -> tuple[Any, ...]:
    """What is given, as several: a name or a number is one."""
    return (given,) if isinstance(given, str | Path | Number) else tuple(given)


class _Following(StreamMonitor):
    """Another monitor, where lines are said as well: these go nowhere."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        super().__init__(quiet=True)

    @property
    def stop_requested(self) -> bool:  # type: ignore[override]
        return self._monitor.stop_requested

    @stop_requested.setter
    def stop_requested(self, _: bool) -> None: ...

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator[Stage]:
        with self._monitor.stage(title, total, done) as stage:
            yield stage


def board_of(folder: Path, suite: str) -> Board:
    """The board of one suite."""
    return Board([boards.Source("", benchmark.read_results(folder, suite))])
