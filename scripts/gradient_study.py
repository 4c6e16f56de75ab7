"""Exact trajectory gradients against TESLA's: figure and tables of docs/studies/gradient.md.

    python scripts/gradient_study.py results --out docs/studies

Reads the results of the suites gradient and gradient-DATASET. A seed fixes first images, segments and draws, and a
difference is of pairs; experts and the initial networks of evaluation are the same for all. ± is half of the 95 %
Student-t interval over the seeds.
"""

import re
from itertools import chain
from statistics import fmean, median
from typing import NamedTuple

import pandas
from matplotlib.figure import Figure
from study_tables import (
    Cells,
    budgets,
    by_dataset,
    cells_of,
    difference,
    intervals,
    seeds_line,
    table,
    with_half_width,
    write_study,
)

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

    def __str__(self) -> str:
        return f"{self.gradient} of {self.steps} steps of {self.rate:g} {self.more}".rstrip()


def _settings(cells: Cells) -> list[Setting]:
    """With the exact gradient: plain ones first."""
    found = {Setting.of(name).with_gradient(EXACT) for _, name in cells}
    return sorted(found, key=lambda setting: (setting.more != PLAIN, setting.more, setting.steps, setting.rate))


def less_tesla(cells: Cells, ipc: int, setting: Setting) -> list[float]:
    """The exact gradient's set less TESLA's, seed by seed."""
    pair = (cells.get((ipc, str(setting.with_gradient(each))), {}) for each in (EXACT, TESLA))
    return difference(*pair)


def over_settings(cells: Cells, ipc: int) -> list[float]:
    """The mean of ``less_tesla`` over the plain settings that an IPC has, seed by seed: of the seeds that all have."""
    plain = (setting for setting in _settings(cells) if setting.more == PLAIN)
    found = ([cells.get((ipc, str(setting.with_gradient(each))), {}) for each in (EXACT, TESLA)] for setting in plain)
    pairs = [pair for pair in found if all(pair)]
    seeds = sorted(set.intersection(*(exact.keys() & tesla.keys() for exact, tesla in pairs))) if pairs else []
    return [fmean(exact[seed] - tesla[seed] for exact, tesla in pairs) for seed in seeds]


def _named(setting: Setting) -> str:
    return f"{setting.steps} steps of {setting.rate:g}{', ' if setting.more else ''}{setting.more}"


def tables(results: pandas.DataFrame) -> str:
    """Accuracies as stored and with classes, of both gradients and their difference, and how long a set takes."""
    parts = []
    for title, strict in (("as stored", False), ("classes, the protocol's own rate", True)):
        cells = cells_of(results, strict=strict)
        names = [f"IPC {k}{what}" for k in budgets(cells) for what in (" exact", " TESLA", ", exact less TESLA")]
        rows = [
            [_named(setting), *(entry for k in budgets(cells) for entry in _entries(cells, k, setting))]
            for setting in _settings(cells)
        ]
        if sum(setting.more == PLAIN for setting in _settings(cells)) > 1:
            means = (("–", "–", with_half_width(over_settings(cells, k), "+.1f")) for k in budgets(cells))
            rows.append(["mean of settings with classes, seed by seed", *chain.from_iterable(means)])
        parts.append(table([title, *names], rows))
    return seeds_line(cells_of(results)) + "\n".join([*parts, _times(cells_of(results, "synthesis.seconds"))])


def _entries(cells: Cells, ipc: int, setting: Setting) -> list[str]:
    own = [cells.get((ipc, str(setting.with_gradient(each))), {}).values() for each in (EXACT, TESLA)]
    return [*map(with_half_width, own), with_half_width(less_tesla(cells, ipc, setting), "+.1f")]


def _times(seconds: Cells) -> str:
    """Medians over the seeds: the first cell of all trains the experts, which are the same for every seed."""
    rows = []
    for setting in _settings(seconds):
        for k in budgets(seconds):
            found = [seconds.get((k, str(setting.with_gradient(each))), {}).values() for each in (EXACT, TESLA)]
            if all(found):
                exact, tesla = map(median, found)
                rows.append([f"{_named(setting)}, IPC {k}", f"{exact:.1f}", f"{tesla:.1f}", f"{exact / tesla:.2f}"])
    return table(["seconds a set, median", "exact", "TESLA", "ratio"], rows)


def draw(results: pandas.DataFrame) -> Figure:
    """A panel a dataset and IPC: what the exact gradient is above TESLA's, setting by setting."""
    panels = {
        f"{dataset}, IPC {k}": {_named(setting): less_tesla(cells, k, setting) for setting in _settings(cells)}
        for dataset, cells in ((dataset, cells_of(part)) for dataset, part in by_dataset(results))
        for k in budgets(cells)
    }
    return intervals(panels, "points, exact less TESLA")


if __name__ == "__main__":
    write_study("gradient", __doc__, tables, draw)
