"""Accuracy against budget, drawn without pyplot so that no global state is read or left behind.

The design is that of the page: a panel a family of methods, at most ``MOST_LINES`` lines in it, each named at its end.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from distill_bench.benchmark.leaderboard.collect import Row, as_shown, budget_of, size_order
from distill_bench.benchmark.leaderboard.colours import PALETTE, Style, family_order, style_of, told_apart
from distill_bench.benchmark.leaderboard.tables import RANDOM, TABLE_KEYS, compared, grouped
from distill_bench.evaluation.result import LINES

MOST_LINES = 8
GREY, INK, FAINT = "#808080", "#222222", "#E4E4E4"
_MARKERS = {
    "circle": "o", "wedge": "v", "pentagon": "p", "square": "s", "triangle": "^", "diamond": "D", "plus": "P",
    "hexagon": "h", "cross": "X",
}  # fmt: skip
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.2, 2)), (0, (5, 2, 1.2, 2)), (0, (5, 2, 1.2, 2, 1.2, 2)))
_SHIFT = 0.02
"""Of a decade, between the marks of two neighbours at one budget, so that bars do not cover each other."""
_LABEL_POINTS = 10.0
"""Between two labels, from one baseline to the next."""
_LINE, _LABEL = 68, 28
"""Characters that have room in a panel's width, and beside it."""
_OR_FRACTION = ", or % of the training split"
PANEL_INCHES, PANELS_PER_LINE, DPI = (4.6, 3.3), 3, 150


@dataclass(frozen=True)
class Curve:
    """The scores of one method, by rising number of images."""

    name: str
    method: str
    labels: str
    rows: list[Row]


@dataclass(frozen=True)
class Panel:
    """Some methods of one family under the same conditions, beside random."""

    family: str
    curves: list[Curve]
    full: float | None

    @property
    def lines(self) -> int:
        """How many are drawn."""
        return len(self.curves) + (self.full is not None)


def accuracy_figure(rows: Sequence[Row]) -> bytes:
    """Draw a PNG of accuracy in percent against the number of images (log axis), whose marks say the budgets.

    A set is drawn as it is stored; strict scores are left to the tables. Bars are 95 % intervals, random's
    cut at the panel's edge; the dashed horizontal line is ``full``. Equal rows give equal bytes (with the same
    matplotlib).
    """
    panels = panels_of(rows)
    columns = min(PANELS_PER_LINE, max(1, len(panels)))
    lines = max(1, math.ceil(len(panels) / columns))
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines)
    figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    canvas = FigureCanvasAgg(figure)
    figure.set_facecolor("white")
    for index, panel in enumerate(panels):
        _draw(figure.add_subplot(lines, columns, index + 1), panel)
    if not panels:
        figure.text(0.5, 0.5, "no scores yet", ha="center", va="center", fontsize=14, color=GREY)
    content = BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def panels_of(rows: Iterable[Row]) -> list[Panel]:
    """What is drawn: by dataset and conditions, then by family; one of too many methods has several panels."""
    drawn = [row for row in compared(as_shown(rows)) if row["accuracy"] is not None and row["method"] not in LINES]
    return [panel for _, group in grouped(drawn, TABLE_KEYS) for panel in _by_family(_as_stored(group))]


def _as_stored(group: list[Row]) -> list[Row]:
    """Without the strict rows of methods that have others."""
    stored = {(row["method"], budget_of(row)) for row in group if not row["strict"]}
    return [row for row in group if not row["strict"] or (row["method"], budget_of(row)) not in stored]


def _by_family(group: list[Row]) -> list[Panel]:
    curves = _curves(group)
    full = next((row["full"] for row in group if row["full"] is not None), None)
    random = [curve for curve in curves if curve.method in RANDOM]
    rest = [curve for curve in curves if curve.method not in RANDOM]
    families = dict(grouped([{"family": style_of(curve.method).family, "curve": curve} for curve in rest], ("family",)))
    panels = []
    for (family,), members in sorted(families.items(), key=lambda item: family_order(item[0][0])):
        own = sorted((each["curve"] for each in members), key=lambda each: (style_of(each.method).colour, each.name))
        alike = [curve for curve in random if curve.labels in {each.labels for each in own}]
        beside = alike or [curve for curve in random if curve.labels == "hard"]
        panels += [Panel(family, [*beside, *part], full) for part in _parts(own, max(1, MOST_LINES - 1 - len(beside)))]
    return panels or [Panel(style_of(random[0].method).family, random, full)]


def _parts(curves: list[Curve], room: int) -> list[list[Curve]]:
    """As few parts as there is room for, of about the same size."""
    size = math.ceil(len(curves) / math.ceil(len(curves) / room))
    return [curves[start : start + size] for start in range(0, len(curves), size)]


def _curves(group: list[Row]) -> list[Curve]:
    several = len({row["preset"] for row in group}) > 1
    curves = []
    for (method, labels, preset), rows in grouped(group, ("method", "labels", "preset")):
        name = method + ("" if labels == "hard" else f" ({labels})") + (f", {preset}" if several else "")
        curves.append(Curve(name, method, labels, sorted(rows, key=size_order)))
    return curves


def _draw(axes: Axes, panel: Panel) -> None:
    rows = [row for curve in panel.curves for row in curve.rows]
    _dress(axes, panel, rows[0], _budgets(rows))
    low, high = axes.get_ylim()
    for index, (curve, style) in enumerate(
        zip(panel.curves, told_apart(each.method for each in panel.curves), strict=True)
    ):
        _line(axes, curve, style, 10 ** (_SHIFT * (index - (len(panel.curves) - 1) / 2)))
    ends = [(curve.rows[-1]["accuracy"], curve.name, _colour(curve)) for curve in panel.curves]
    if panel.full is not None:
        axes.axhline(panel.full, color=INK, linestyle=(0, (6, 4)), linewidth=1.1, zorder=1)
        ends.append((panel.full, "full", INK))
    axes.set_ylim(low, high)
    _name(axes, ends)


def _colour(curve: Curve) -> str:
    return PALETTE[style_of(curve.method).colour][0]


def _line(axes: Axes, curve: Curve, style: Style, shift: float) -> None:
    colour, rows = _colour(curve), curve.rows
    below = [0.0 if row["ci_low"] is None else row["accuracy"] - row["ci_low"] for row in rows]
    above = [0.0 if row["ci_high"] is None else row["ci_high"] - row["accuracy"] for row in rows]
    axes.errorbar(
        [row["images"] * shift for row in rows], [row["accuracy"] for row in rows], yerr=[below, above], color=colour,
        linestyle=_DASHES[style.dash], linewidth=1.7, elinewidth=1.1, marker=_MARKERS[style.shape], markersize=5.5,
        markerfacecolor="white" if style.dash else colour, markeredgewidth=1.2,
        zorder=1.5 if curve.method in RANDOM else 2,
    )  # fmt: skip


def _name(axes: Axes, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name beside its end, moved up or down until no name covers another."""
    low, high = axes.get_ylim()
    height = PANEL_INCHES[1] * 72 * 0.62  # of the axes, in points, about
    least = _LABEL_POINTS / height
    ends = sorted(ends)
    arrow = {"arrowstyle": "-", "linewidth": 1.2, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
    places: list[float] = []
    for value, _, _ in ends:
        at = (value - low) / (high - low)
        places.append(max(at, places[-1] + least) if places else max(at, 0.0))
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], 1.0 if index == len(places) - 1 else places[index + 1] - least)
    for (value, name, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            _end_of(name, _LABEL), (1.01, (value - low) / (high - low)), xytext=(1.07, place),
            xycoords="axes fraction", fontsize=9, color=INK, va="center", annotation_clip=False, parse_math=False,
            arrowprops={**arrow, "color": colour},
        )  # fmt: skip


def conditions_line(row: Row) -> str:
    """One line under a panel's title. Where it is too long it is without the suite, and then has the ends of names."""
    named = row["dataset"] if row["suite"] == row["dataset"] else f"{row['dataset']}, suite {row['suite']}"
    parts = [row["dataset"], row["protocol"], row["network"], row["pixel_space"]]
    for line in (" · ".join([named, *parts[1:]]), " · ".join(parts)):
        if len(line) <= _LINE:
            return line
    return " · ".join(_end_of(part, _LINE // len(parts) - 3) for part in parts)


def _end_of(text: str, most: int) -> str:
    return text if len(text) <= most else "…" + text[1 - most :]


def _spanned(row: Row) -> list[float]:
    """What an axis must reach: a mean, and its interval, but for random's, beside which the rest would be flat."""
    ends = [] if row["method"] in RANDOM else [row["ci_low"], row["ci_high"]]
    return [value for value in (row["accuracy"], *ends) if value is not None]


def _budgets(rows: Iterable[Row]) -> dict[int, str]:
    """The budgets of rows in words, by the number of images that they come to; of unequal ones by the least."""
    sizes: dict[str, int] = {}
    for row in sorted(rows, key=size_order):
        sizes.setdefault(budget_of(row), row["images"])
    return {images: ", ".join(name for name in sizes if sizes[name] == images) for images in sizes.values()}


def _dress(axes: Axes, panel: Panel, row: Row, budgets: dict[int, str]) -> None:
    values = [value for curve in panel.curves for each in curve.rows for value in _spanned(each)]
    values += [] if panel.full is None else [panel.full]
    margin = max(0.5, 0.06 * (max(values) - min(values)))
    axes.set_ylim(max(0.0, min(values) - margin), min(100.5, max(values) + margin))
    axes.set_xscale("log")
    around, sizes = 1.3 if len(budgets) > 1 else 3, list(budgets)
    axes.set_xlim(sizes[0] / around, sizes[-1] * around)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: budgets[round(value)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(5))
    of_fractions = any("%" in name for name in budgets.values())
    axes.tick_params(axis="x", labelrotation=60 if of_fractions else 0)
    named = f"images per class{_OR_FRACTION if of_fractions else ''}"
    axes.set_xlabel(named, fontsize=9, color=INK, loc="left" if of_fractions else "center")
    axes.set_ylabel("test accuracy (%)", fontsize=9, color=INK)
    axes.set_title(panel.family, fontsize=11, fontweight="bold", color=INK, loc="left", pad=18, parse_math=False)
    axes.text(0, 1.03, conditions_line(row), transform=axes.transAxes, fontsize=8, color=GREY, parse_math=False)
    axes.grid(axis="y", color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=9, color=GREY, labelcolor=INK)
