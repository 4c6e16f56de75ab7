"""Exact trajectory gradients against TESLA's: figure and tables of docs/studies/gradient.md.

    python scripts/gradient_study.py results --out docs/studies

Reads the results of the suite gradient. A seed fixes experts, first images, segments and initial networks, so that a
difference is of pairs; ± is half of the 95 % Student-t interval over the seeds.
"""

import re
from statistics import fmean, median
from typing import NamedTuple

import pandas
from matplotlib.figure import Figure
from study_tables import difference, intervals, table, with_half_width, write_study

EXACT, TESLA = "exact", "tesla"
PLAIN = ""


class Setting(NamedTuple):
    """A method's name, taken apart: "exact of 10 steps of 0.05 teacher labels".

    Attributes:
        gradient: ``exact`` or ``tesla``.
        steps, rate: of the student.
        more: what else differs from the preset.
    """

    gradient: str
    steps: int
    rate: float
    more: str = PLAIN

    @classmethod
    def of(cls, name: str) -> "Setting":
        """Raises ValueError for another name."""
        if (parts := re.fullmatch(r"(exact|tesla) of (\d+) steps of ([\d.]+) ?(.*)", name)) is None:
            raise ValueError(f"{name!r} is no setting of the suite gradient")
        return cls(parts[1], int(parts[2]), float(parts[3]), parts[4])

    def with_gradient(self, gradient: str) -> "Setting":
        return self._replace(gradient=gradient)


Cell = tuple[int, Setting]
"""IPC and setting."""


def by_cell(results: pandas.DataFrame, column: str, strict: bool = True) -> dict[Cell, dict[int, float]]:
    """Of every cell a column's values, seed by seed: of classes at the protocol's own rate, or of the set as stored."""
    results = results[results["strict"].astype(bool) == strict]
    cells: dict[Cell, dict[int, float]] = {}
    for ipc, method, seed, value in zip(
        results["ipc"], results["method"], results["seed"], results[column], strict=True
    ):
        cells.setdefault((int(ipc), Setting.of(method)), {})[int(seed)] = float(value)
    return cells


def _budgets(cells: dict[Cell, dict[int, float]]) -> list[int]:
    return sorted({ipc for ipc, _ in cells})


def _settings(cells: dict[Cell, dict[int, float]]) -> list[Setting]:
    """With the exact gradient: plain ones first."""
    found = {setting.with_gradient(EXACT) for _, setting in cells}
    return sorted(found, key=lambda setting: (setting.more != PLAIN, setting.more, setting.steps, setting.rate))


def less_tesla(cells: dict[Cell, dict[int, float]], ipc: int, setting: Setting) -> list[float]:
    """The exact gradient's set less TESLA's, seed by seed; of TESLA with more iterations, less the usual exact one."""
    own = cells.get((ipc, setting), {}) or cells.get((ipc, setting._replace(more=PLAIN)), {})
    return difference(own, cells.get((ipc, setting.with_gradient(TESLA)), {}))


def _named(setting: Setting) -> str:
    return f"{setting.steps} steps of {setting.rate:g}{', ' if setting.more else ''}{setting.more}"


def tables(results: pandas.DataFrame) -> str:
    """Accuracies as stored and with classes, of both gradients and their difference, and how long a set takes."""
    parts = []
    for title, strict in (("as stored", False), ("classes, the protocol's own rate", True)):
        cells = by_cell(results, "accuracy", strict)
        budgets = _budgets(cells)
        header = [title, *(f"IPC {k}{what}" for k in budgets for what in (" exact", " TESLA", ", exact less TESLA"))]
        rows = [
            [_named(setting), *(entry for k in budgets for entry in _entries(cells, k, setting))]
            for setting in _settings(cells)
        ]
        parts.append(table(header, rows))
    seeds = sorted({len(found) for found in by_cell(results, "accuracy", False).values()})
    counts = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    return f"Seeds: {counts}\n\n" + "\n".join([*parts, _times(results)])


def _entries(cells: dict[Cell, dict[int, float]], ipc: int, setting: Setting) -> list[str]:
    own = [cells.get((ipc, setting.with_gradient(gradient)), {}).values() for gradient in (EXACT, TESLA)]
    return [*map(with_half_width, own), with_half_width(less_tesla(cells, ipc, setting), "+.1f")]


def _times(results: pandas.DataFrame) -> str:
    """Medians over the seeds: experts are trained with the first cell of a seed."""
    seconds = by_cell(results, "synthesis.seconds", strict=False)
    rows = []
    for setting in _settings(seconds):
        pairs = [
            [seconds.get((k, setting.with_gradient(each)), {}) for each in (EXACT, TESLA)] for k in _budgets(seconds)
        ]
        if all(all(pair) for pair in pairs):
            exact, tesla = (fmean(median(pair[which].values()) for pair in pairs) for which in (0, 1))
            rows.append([_named(setting), f"{exact:.1f}", f"{tesla:.1f}", f"{exact / tesla:.2f}"])
    return table(["seconds a set, mean of the budgets", "exact", "TESLA", "ratio"], rows)


def draw(results: pandas.DataFrame) -> Figure:
    """A panel an IPC: what the exact gradient is above TESLA's, setting by setting."""
    cells = by_cell(results, "accuracy", strict=False)
    return intervals(
        {
            f"digits, IPC {k}": {_named(setting): less_tesla(cells, k, setting) for setting in _settings(cells)}
            for k in _budgets(cells)
        },
        "points, exact less TESLA",
    )


if __name__ == "__main__":
    write_study("gradient", __doc__, tables, draw)
