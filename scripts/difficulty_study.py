"""Early, middle and late segments from few images to many: figure and tables of docs/studies/difficulty.md.

    python scripts/difficulty_study.py results --out docs/studies

Reads the results of the suite difficulty. A seed fixes experts, first images and initial networks, so that differences
are of pairs; ± is half of the 95 % Student-t interval over the seeds.
"""

import pandas
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from study_tables import FULL, difference, heat, table, with_half_width, write_study

LINE, LABELS = "random", ("hard", "learned")
SEGMENTS = ("early", "middle", "late", "all", "growing")
Cells = dict[tuple[int, str], dict[int, float]]
"""Of an IPC and a method its accuracies, seed by seed, in percent."""


def accuracies(results: pandas.DataFrame) -> Cells:
    """As stored: with learned labels and rates."""
    cells: Cells = {}
    as_stored = ~results["strict"].astype(bool)
    for row in results[as_stored & (results["method"] != FULL)].itertuples():
        cells.setdefault((int(row.ipc), str(row.method)), {})[int(row.seed)] = float(row.accuracy)
    return cells


def budgets(cells: Cells) -> list[int]:
    return sorted({ipc for ipc, _ in cells})


def less(cells: Cells, ipc: int, first: str, second: str) -> list[float]:
    return difference(cells.get((ipc, first), {}), cells.get((ipc, second), {}))


def tables(results: pandas.DataFrame) -> str:
    """Accuracies of every segment, and the differences that the paper's argument is about."""
    cells = accuracies(results)
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
    seeds = sorted({len(found) for found in cells.values()})
    return f"Seeds: {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}\n\n" + "\n".join(parts)


def draw(results: pandas.DataFrame) -> Figure:
    """A panel a kind of labels: segments by IPC, in points above random images."""
    cells = accuracies(results)
    figure = Figure(figsize=(9, 3), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, labels in zip(figure.subplots(1, len(LABELS), sharey=True), LABELS, strict=True):
        # every budget has colours of its own: at many images all differences are small
        heat(axes, [[less(cells, ipc, f"{segment} {labels}", LINE) for ipc in budgets(cells)] for segment in SEGMENTS])
        axes.set_title(f"{labels} labels: points above random images", fontsize=10)
        axes.set_xticks(range(len(budgets(cells))), [f"IPC {ipc}" for ipc in budgets(cells)])
        axes.set_yticks(range(len(SEGMENTS)), SEGMENTS)
    return figure


if __name__ == "__main__":
    write_study("difficulty", __doc__, tables, draw)
