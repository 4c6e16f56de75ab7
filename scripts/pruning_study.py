"""Fractions of a training split, with and without a teacher: figure and tables of docs/studies/pruning.md.

    python scripts/pruning_study.py results --out docs/studies

Reads the results of the suite pruning and writes the figure, and the page with its tables between the two comments. ±
is half of the 95 % Student-t interval over the seeds of selection and training; a difference is of pairs with the same
seed, dataset and fraction. A seed fixes scores, ties and teacher; the initial network is
the same for all.
"""

from statistics import fmean

import pandas
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_tables import FULL, difference, table, with_half_width, write_study

SELECTIONS = {
    "random": ("random", "#555555", "o"),
    "el2n": ("EL2N, hardest", "#C1272D", "v"),
    "el2n-easy": ("EL2N, easiest", "#E58E26", "^"),
    "moderate": ("moderate", "#0072B2", "s"),
    "ccs": ("CCS", "#009E73", "D"),
    "dq": ("DQ", "#8E44AD", "p"),
}
ALPHAS = (0.0, 0.5, 1.0)
Cell = tuple[str, float, str, float]
"""Dataset, fraction, selection and α."""


def accuracies(results: pandas.DataFrame) -> dict[Cell, dict[int, float]]:
    """Of every cell the accuracy of every seed, in percent."""
    cells: dict[Cell, dict[int, float]] = {}
    as_stored = ~results["strict"].astype(bool)  # scores without the teacher's labels are those at α = 0
    for row in results[as_stored & (results["method"] != FULL)].itertuples():
        selection, _, alpha = str(row.method).partition("-kd-")
        cell = (str(row.dataset), float(row.fraction), selection, float(alpha or 0))
        cells.setdefault(cell, {})[int(row.seed)] = float(row.accuracy)
    return cells


def accuracy_tables(cells: dict[Cell, dict[int, float]], dataset: str, fractions: list[float]) -> str:
    """Every cell of a dataset."""
    header = ["selection", *(f"{f:.0%}, α = {a:g}".replace("%", " %") for f in fractions for a in ALPHAS)]
    rows = [
        [name, *(with_half_width(cells.get((dataset, f, key, a), {}).values()) for f in fractions for a in ALPHAS)]
        for key, (name, *_) in SELECTIONS.items()
    ]
    return table(header, rows)


def against_random(cells: dict[Cell, dict[int, float]], dataset: str, fractions: list[float]) -> str:
    """Every selection less random with the same α."""
    header = ["less random", *(f"{f:.0%}, α = {a:g}".replace("%", " %") for f in fractions for a in ALPHAS)]

    def entry(key: str, fraction: float, alpha: float) -> str:
        pair = ((dataset, fraction, name, alpha) for name in (key, "random"))
        return with_half_width(difference(*(cells.get(each, {}) for each in pair)), "+.1f")

    rows = [
        [name, *(entry(key, f, a) for f in fractions for a in ALPHAS)]
        for key, (name, *_) in SELECTIONS.items()
        if key != "random"
    ]
    return table(header, rows)


def shares(cells: dict[Cell, dict[int, float]], datasets: list[str], fractions: list[float]) -> str:
    """What a share of the teacher gains on random images."""
    rows = []
    for dataset in datasets:
        for fraction in fractions:
            of = {alpha: cells.get((dataset, fraction, "random", alpha), {}) for alpha in ALPHAS}
            gains = [with_half_width(difference(of[a], of[b]), "+.1f") for a, b in ((0.5, 0.0), (1.0, 0.5))]
            means = {alpha: fmean(found.values()) for alpha, found in of.items() if found}
            best = f"{max(means, key=means.__getitem__):g}" if len(means) == len(ALPHAS) else "–"
            rows.append([f"{dataset}, {fraction:.0%}".replace("%", " %"), *gains, best])
    return table(["random images", "α = 0.5 less 0", "α = 1 less 0.5", "highest mean at α"], rows)


def draw(cells: dict[Cell, dict[int, float]], full: dict[str, float], datasets: list[str]) -> Figure:
    """A panel a dataset and α, accuracy against the fraction."""
    figure = Figure(figsize=(11, 3.4 * len(datasets)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(datasets), len(ALPHAS), sharex=True, sharey="row", squeeze=False)
    for line, dataset in zip(grid, datasets, strict=True):
        for axes, alpha in zip(line, ALPHAS, strict=True):
            _panel(axes, cells, dataset, alpha, full.get(dataset))
        line[0].set_ylabel("test accuracy (%)")
    for axes in grid[-1]:
        axes.set_xlabel("fraction of the training split")
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
    return figure


def _panel(axes: Axes, cells: dict[Cell, dict[int, float]], dataset: str, alpha: float, full: float | None) -> None:
    fractions = sorted({fraction for of, fraction, *_ in cells if of == dataset})
    for key, (name, colour, marker) in SELECTIONS.items():
        points = [(f, cells[dataset, f, key, alpha]) for f in fractions if (dataset, f, key, alpha) in cells]
        means = [fmean(found.values()) for _, found in points]
        spread = [(max(found.values()) - min(found.values())) / 2 for _, found in points]
        at = [fraction for fraction, _ in points]
        axes.errorbar(
            at, means, spread, color=colour, marker=marker, label=name, linewidth=1.4, markersize=5, capsize=2
        )
    if full is not None:
        axes.axhline(full, color="#808080", linestyle="--", linewidth=1)
        axes.annotate("whole split", (1, full), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(fractions, [f"{fraction:.0%}".replace("%", " %") for fraction in fractions])
    axes.minorticks_off()
    axes.set_title(f"{dataset}, {'hard labels' if not alpha else f'teacher, α = {alpha:g}'}", fontsize=10)
    axes.grid(color="#E4E4E4", linewidth=0.6)


def tables(results: pandas.DataFrame) -> str:
    """All tables of the page."""
    cells = accuracies(results)
    datasets = sorted({cell[0] for cell in cells}, reverse=True)
    fractions = sorted({cell[1] for cell in cells})
    parts = []
    for dataset in datasets:
        seeds = sorted({len(found) for (of, *_), found in cells.items() if of == dataset})
        counted = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        parts.append(f"**{dataset}**, accuracy in percent, seeds: {counted}\n")
        parts.append(accuracy_tables(cells, dataset, fractions))
        parts.append(against_random(cells, dataset, fractions))
    return "\n".join([*parts, shares(cells, datasets, fractions)])


def draw_results(results: pandas.DataFrame) -> Figure:
    """The figure of all results, with the line of the whole split."""
    cells, whole = accuracies(results), results[results["method"] == FULL]
    full = dict(zip(whole["dataset"], whole["accuracy"], strict=True))
    return draw(cells, full, sorted({cell[0] for cell in cells}, reverse=True))


if __name__ == "__main__":
    write_study("pruning", __doc__, tables, draw_results)
