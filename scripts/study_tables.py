"""What the pages of studies share: differences of pairs, intervals, their figure, and tables that a script writes."""

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distill_bench import load_results
from distill_bench.benchmark import list_suites, load_suite
from distill_bench.evaluation.statistics import NO_SPREAD, student
from distill_bench.runtime.files import write_atomically

PAGES = Path(__file__).parent.parent / "docs" / "studies"
FULL = "full"


Cells = dict[tuple[int, str], dict[int, float]]
"""Of an IPC and a method its values, seed by seed."""


def cells_of(results: pandas.DataFrame, column: str = "accuracy", strict: bool = False) -> Cells:
    """Of every IPC and method a column's values: of sets as they are stored, or of classes at the protocol's rate."""
    cells: Cells = {}
    wanted = results[(results["strict"].astype(bool) == strict) & (results["method"] != FULL)]
    for ipc, method, seed, value in zip(*(wanted[name] for name in ("ipc", "method", "seed", column)), strict=True):
        cells.setdefault((int(ipc), str(method)), {})[int(seed)] = float(value)
    return cells


def budgets(cells: Cells) -> list[int]:
    """The IPCs of cells, in order."""
    return sorted({ipc for ipc, _ in cells})


def seeds_line(cells: Cells) -> str:
    """How many seeds cells have, above their tables."""
    counts = sorted({len(found) for found in cells.values()})
    return f"Seeds: {' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))}\n\n"


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> list[float]:
    """First less second of the seeds that both have, seed by seed."""
    return [first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())]


def with_half_width(values: Iterable[float], form: str = ".1f") -> str:
    """The mean ± half of its interval; in bold where a difference leaves out zero.

    Equal values have no interval: two seeds that agree to the last digit by chance would be sure of their mean.
    """
    values = list(values)
    if not values:
        return "–"
    low, high = student(values).interval()
    if low is None or high is None or high - low < NO_SPREAD:
        return f"{fmean(values):{form}}".replace("-", "−")
    written = f"{fmean(values):{form}} ± {(high - low) / 2:{form.lstrip('+')}}".replace("-", "−")
    return f"**{written}**" if form[0] == "+" and (low > 0 or high < 0) else written


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table whose first column is text."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def intervals(panels: Mapping[str, Mapping[str, list[float]]], unit: str) -> Figure:
    """A figure of means with their intervals, and a line at zero.

    Args:
        panels: of every panel's title its rows, from the top: their names and values. A row that a panel lacks is empty
            there.
        unit: of the values.
    """
    names = list(dict.fromkeys(name for rows in panels.values() for name in rows))[::-1]
    figure = Figure(figsize=(10, 1.4 + 0.32 * len(names)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, rows) in zip(
        figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for place, name in enumerate(names):
            if not (values := rows.get(name)):
                continue
            low, high = student(values).interval()
            if low is not None and high is not None:
                axes.plot([low, high], [place, place], color="#0072B2", linewidth=1.6)
            axes.plot(fmean(values), place, "o", color="#0072B2", markersize=5)
        axes.axvline(0, color="#808080", linestyle="--", linewidth=1)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(unit)
        axes.grid(axis="x", color="#E4E4E4", linewidth=0.6)
        axes.set_yticks(range(len(names)), names)
    return figure


def largest(cells: Iterable[Sequence[float]]) -> float:
    """The largest mean by its amount, for ``heat``; 1 where all are 0 or there is none."""
    return max((abs(fmean(values)) for values in cells if len(values)), default=0.0) or 1.0


def heat(axes: Axes, grid: Sequence[Sequence[Sequence[float]]], bounds: Sequence[float]) -> None:
    """Means of differences as colours and numbers, those in bold whose interval leaves out zero.

    Args:
        axes: to draw on.
        grid: of every row the columns' values; none leave their place empty, and no row leaves the axes so.
        bounds: of every column the difference that has the strongest colour.
    """
    if not grid:
        return
    means = numpy.array([[fmean(values) if len(values) else numpy.nan for values in row] for row in grid])
    axes.imshow(means / bounds, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for row, column in zip(*numpy.nonzero(~numpy.isnan(means)), strict=True):
        low, high = student(list(grid[row][column])).interval()
        sure = low is not None and high is not None and high - low >= NO_SPREAD and (low > 0 or high < 0)
        axes.text(
            column, row, f"{means[row, column]:+.1f}".replace("-", "−"), ha="center", va="center", fontsize=8,
            fontweight="bold" if sure else "normal",
            color="white" if abs(means[row, column]) > 0.7 * bounds[column] else "black",
        )  # fmt: skip
    axes.tick_params(length=0)


def with_tables(page: str, script: str, tables: str) -> str:
    """A page whose tables, between the comments that name their script, are these."""
    begin, end = f"<!-- tables: scripts/{script} -->", "<!-- end of tables -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{tables}\n{end}{rest.split(end)[1]}"


def of_suite(results: pandas.DataFrame, suite: str) -> pandas.DataFrame:
    """The results of a suite's own grid: not those of other data, seeds or settings that were run under its name."""
    grid = load_suite(suite)
    budgets = [*grid.ipc, *grid.fraction]
    amount = results["ipc"].astype("Float64").fillna(results["fraction"])
    return results[
        (results["suite"] == suite)
        & results["dataset"].isin(grid.datasets)
        & results["method"].isin([*map(str, grid.methods), *grid.lines])
        & (amount.isin(budgets) | results["method"].isin(grid.lines))
        & (results["seed"].isin(grid.seeds) | results["seed"].isna())
        & results["protocol"].isin([*grid.protocols, *grid.references])
        & (results["holdout"].isna() if grid.holdout is None else results["holdout"] == grid.holdout)
    ]


def suites_of(study: str) -> list[str]:
    """The suites that a study's page reads: that of its name first, and those of further data, whose names begin so.

    Suites that hold a part of the training split out, to choose values by, are none of them.
    """
    further = (name for name in list_suites() if name.startswith(f"{study}-") and load_suite(name).holdout is None)
    return [study, *further]


def by_dataset(results: pandas.DataFrame) -> Iterator[tuple[str, pandas.DataFrame]]:
    """Every dataset's name and its results, in the order of the results."""
    for dataset, part in results.groupby("dataset", sort=False):
        yield str(dataset), part


def sections(results: pandas.DataFrame, tables: Callable[[pandas.DataFrame], str]) -> str:
    """The tables of every dataset, under its name where there are several."""
    parts = {dataset: tables(part) for dataset, part in by_dataset(results)}
    return "\n".join(parts.values() if len(parts) == 1 else (f"**{name}**\n\n{part}" for name, part in parts.items()))


def write_study(
    study: str,
    about: str | None,
    tables: Callable[[pandas.DataFrame], str],
    draw: Callable[[pandas.DataFrame], Figure],
) -> None:
    """The command of a study's script: writes <study>.png, and <study>.md with its tables between the two comments.

    Args:
        study: the name of the page, and of the suites whose results are read: ``suites_of``.
        about: the script, for ``--help``.
        tables: Markdown from the results of one dataset.
        draw: the figure from those of all.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("--out", type=Path, required=True, help=f"the folder to write {study}.md and {study}.png to")
    given = parser.parse_args()
    loaded = load_results(given.results)
    results = pandas.concat([of_suite(loaded, suite) for suite in suites_of(study)])
    if results.empty:
        parser.error(f"{given.results} has no results of the suite {study}: run `distill-bench bench {study}` first")
    given.out.mkdir(parents=True, exist_ok=True)
    draw(results).savefig(given.out / f"{study}.png", metadata={"Software": None})
    text = with_tables((PAGES / f"{study}.md").read_text(), f"{study}_study.py", sections(results, tables))
    write_atomically(given.out / f"{study}.md", text)
