"""What keeps recovered digits below random ones with the same labels: figure and table of docs/studies/recovery.md.

    python scripts/recovery_study.py results --out docs/studies

Reads the results of the suite recovery. ± is half of the 95 % Student-t interval over the seeds of teacher and images;
a difference is of pairs with the same seed, whose random images and teachers are the same. The initial networks of
evaluation are the same for all seeds.
"""

import pandas
from matplotlib.figure import Figure
from study_tables import (
    Cells,
    budgets,
    cells_of,
    difference,
    intervals,
    seeds_line,
    table,
    with_half_width,
    write_study,
)

LINE, WHOLE = "random-soft", "sre2l"
WEAK = " weak teacher"


def less_line(cells: Cells, ipc: int, method: str) -> list[float]:
    """A method less random images with the labels of the same teacher."""
    line = LINE + WEAK if method.endswith(WEAK) else LINE
    return difference(cells.get((ipc, method), {}), cells.get((ipc, line), {}))


def _methods(cells: Cells) -> list[str]:
    """The lines, sre2l, and its variants by name."""
    return sorted({method for _, method in cells}, key=lambda name: (not name.startswith(LINE), name != WHOLE, name))


def tables(results: pandas.DataFrame) -> str:
    """Every method's accuracy, less its line, and less sre2l as its preset has it."""
    cells = cells_of(results)
    header = ["images", *(f"IPC {k}{what}" for k in budgets(cells) for what in ("", ", less random", ", less sre2l"))]

    def entries(method: str, ipc: int) -> list[str]:
        own = cells.get((ipc, method), {})
        lower = [] if method.startswith(LINE) else less_line(cells, ipc, method)
        moved = [] if method.startswith((LINE, WHOLE + WEAK)) else difference(own, cells.get((ipc, WHOLE), {}))
        moved = [] if method == WHOLE else moved
        return [with_half_width(own.values()), with_half_width(lower, "+.1f"), with_half_width(moved, "+.1f")]

    rows = [[method, *(entry for k in budgets(cells) for entry in entries(method, k))] for method in _methods(cells)]
    return seeds_line(cells) + table(header, rows)


def draw(results: pandas.DataFrame) -> Figure:
    """A panel an IPC: every method less random images with the labels of its teacher."""
    cells = cells_of(results)
    methods = [name for name in _methods(cells) if not name.startswith(LINE)]
    panels = {f"digits, IPC {k}": {name: less_line(cells, k, name) for name in methods} for k in budgets(cells)}
    return intervals(panels, "points less random images, same labels")


if __name__ == "__main__":
    write_study("recovery", __doc__, tables, draw)
