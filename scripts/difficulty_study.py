"""Early, middle and late segments from few images to many: figure and tables of docs/studies/difficulty.md.

    python scripts/difficulty_study.py results --out docs/studies

Reads the results of the suites difficulty and difficulty-DATASET. A seed fixes first images and draws, and differences
are of pairs; experts and the initial networks of evaluation are the same for all. ± is half of the 95 % Student-t
interval over the seeds.
"""

from collections.abc import Iterable

import pandas
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_tables import (
    Cells,
    budgets,
    by_dataset,
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
    """A row a dataset, a panel a kind of labels: segments by IPC, in points above random images."""
    parts = [(dataset, cells_of(part)) for dataset, part in by_dataset(results)]
    figure = Figure(figsize=(9, 3 * len(parts)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(parts), len(LABELS), sharey=True, squeeze=False)
    for panels, (dataset, cells) in zip(rows, parts, strict=True):
        _draw_row(panels, dataset, cells)
    return figure


def _draw_row(panels: Iterable[Axes], dataset: str, cells: Cells) -> None:
    grids = [
        [[less(cells, ipc, f"{segment} {labels}", LINE) for ipc in budgets(cells)] for segment in SEGMENTS]
        for labels in LABELS
    ]
    # every budget has colours of its own, for differences of a point at least: at many images all are small
    bounds = [max(1.0, largest([row[i] for grid in grids for row in grid])) for i in range(len(budgets(cells)))]
    for axes, labels, grid in zip(panels, LABELS, grids, strict=True):
        heat(axes, grid, bounds)
        axes.set_title(f"{dataset}, {labels} labels: points above random images", fontsize=10)
        axes.set_xticks(range(len(budgets(cells))), [f"IPC {ipc}" for ipc in budgets(cells)])
        axes.set_yticks(range(len(SEGMENTS)), SEGMENTS)


if __name__ == "__main__":
    write_study("difficulty", __doc__, tables, draw)
