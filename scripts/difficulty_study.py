"""Early, middle and late segments from few images to many: figure and tables of docs/studies/difficulty.md.

    python scripts/difficulty_study.py results --out docs/studies

Reads the results of the suite difficulty. A seed fixes first images and draws, and differences are of pairs; experts
and the initial networks of evaluation are the same for all. ± is half of the 95 % Student-t interval over the seeds.
"""

import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_tables import (
    Cells,
    budgets,
    cells_of,
    difference,
    heat,
    largest,
    seeds_line,
    table,
    with_half_width,
    write_study,
)

LINE, LABELS = "random", ("hard", "learned")
SEGMENTS = ("early", "middle", "late", "all", "growing")


def less(cells: Cells, ipc: int, first: str, second: str) -> list[float]:
    return difference(cells.get((ipc, first), {}), cells.get((ipc, second), {}))


def tables(results: pandas.DataFrame) -> str:
    """Accuracies of every segment, and the differences that the paper's argument is about."""
    cells = cells_of(results)
    header = [f"IPC {ipc}" for ipc in budgets(cells)]
    names = [LINE, *(f"{segment} {labels}" for labels in LABELS for segment in SEGMENTS)]
    rows = [[name, *(with_half_width(cells.get((ipc, name), {}).values()) for ipc in budgets(cells))] for name in names]
    parts = [table(["segments and labels", *header], rows)]
    pairs = [
        *((f"late less early, {labels} labels", f"late {labels}", f"early {labels}") for labels in LABELS),
        *((f"growing less all, {labels} labels", f"growing {labels}", f"all {labels}") for labels in LABELS),
        *((f"learned less hard labels, {segment}", f"{segment} learned", f"{segment} hard") for segment in SEGMENTS),
    ]
    rows = [
        [name, *(with_half_width(less(cells, ipc, first, second), "+.1f") for ipc in budgets(cells))]
        for name, first, second in pairs
    ]
    parts.append(table(["difference", *header], rows))
    return seeds_line(cells) + "\n".join(parts)


def draw(results: pandas.DataFrame) -> Figure:
    """A panel a kind of labels: segments by IPC, in points above random images."""
    cells = cells_of(results)
    figure = Figure(figsize=(9, 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grids = [
        [[less(cells, ipc, f"{segment} {labels}", LINE) for ipc in budgets(cells)] for segment in SEGMENTS]
        for labels in LABELS
    ]
    # every budget has colours of its own, for differences of a point at least: at many images all are small
    bounds = [max(1.0, largest([row[i] for grid in grids for row in grid])) for i in range(len(budgets(cells)))]
    for axes, labels, grid in zip(figure.subplots(1, len(LABELS), sharey=True), LABELS, grids, strict=True):
        heat(axes, grid, bounds)
        axes.set_title(f"{labels} labels: points above random images", fontsize=10)
        axes.set_xticks(range(len(budgets(cells))), [f"IPC {ipc}" for ipc in budgets(cells)])
        axes.set_yticks(range(len(SEGMENTS)), SEGMENTS)
    return figure


if __name__ == "__main__":
    write_study("difficulty", __doc__, tables, draw)
