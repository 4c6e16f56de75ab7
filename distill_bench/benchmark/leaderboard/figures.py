"""Accuracy against images per class, drawn without pyplot so that no global state is read or left behind."""

import math
from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from distill_bench.benchmark.leaderboard.collect import STRICT, Row, as_shown
from distill_bench.benchmark.leaderboard.tables import TABLE_KEYS, compared, grouped

# Okabe and Ito's colour-blind-safe palette without yellow (too pale on white), and Tol's wine and indigo. Its length
# and that of the markers share no factor, so colour and marker together name 56 methods.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255", "#332288")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, INK, FAINT = "#808080", "#222222", "#E4E4E4"
# A method keeps its colour whatever else is drawn; methods that are not listed take the next free ones, by name.
_STYLED = (
    "dm", "dc", "dsa", "mtt", "herding", "datadam", "datm", "k-center", "tesla", "ftd", "k-means", "datm-tesla",
    "sre2l", "cda", "rded",
)  # fmt: skip
LINES = {"hard": "-", "soft": "--", "teacher": ":"}
FULL = "full training split"
_WIDEST_SHIFT = 0.06
"""Of a decade (or of the axis, if it is longer), between the first and the last mark of an IPC."""
PANEL_INCHES, PANELS_PER_LINE, DPI = (5.6, 4.2), 2, 160


def accuracy_figure(rows: Sequence[Row]) -> bytes:
    """Draw a PNG with a panel per dataset and protocol: accuracy in percent against images per class (log axis).

    A set is drawn as it is stored; strict scores are left to the tables. Bars are 95 % intervals, the dashed horizontal
    line is ``full``, and marks are moved sideways by a few percent so that bars do not cover each other. Equal rows
    give equal bytes (with the same matplotlib).
    """
    panels = panels_of(rows)
    columns = min(PANELS_PER_LINE, max(1, len(panels)))
    lines = max(1, math.ceil(len(panels) / columns))
    size = (PANEL_INCHES[0] * columns, PANEL_INCHES[1] * lines + 0.6)
    figure = Figure(figsize=size, dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    canvas = FigureCanvasAgg(figure)
    figure.set_facecolor("white")
    styles = _styles(row["method"] for row in rows)
    legend: dict[str, Any] = {}
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1)
        _draw(axes, panel, styles, legend)
    if panels:
        names = sorted(legend, key=lambda name: (name == FULL, name.startswith("random"), name))
        key = figure.legend(
            [legend[name] for name in names], names, loc="outside lower center", ncols=min(2 * columns, len(names)),
            frameon=False, fontsize=10, labelcolor=INK, handlelength=2.8,
        )  # fmt: skip
        for text in key.get_texts():
            text.set_parse_math(False)
    else:
        figure.text(0.5, 0.5, "no scores yet", ha="center", va="center", fontsize=14, color=GREY)
    content = BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def panels_of(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows that are drawn, by dataset and protocol."""
    drawn = [
        row
        for row in compared(as_shown(rows))
        if row["accuracy"] is not None and row["ipc"] is not None and not row["protocol"].endswith(STRICT)
    ]
    return [_as_stored(panel) for _, panel in grouped(drawn, TABLE_KEYS)]


def _as_stored(panel: list[Row]) -> list[Row]:
    """Without the hard rows of methods whose sets have other labels."""
    others = {row["method"] for row in panel if row["labels"] != "hard"}
    return [row for row in panel if row["labels"] != "hard" or row["method"] not in others]


def _styles(methods: Iterable[str]) -> dict[str, dict[str, Any]]:
    others = sorted(set(methods) - {*_STYLED, "random", "full"})
    styles = {
        method: {"color": _PALETTE[i % len(_PALETTE)], "marker": _MARKERS[i % len(_MARKERS)]}
        for i, method in enumerate((*_STYLED, *others))
    }
    return {**styles, "random": {"color": GREY, "marker": "o", "zorder": 1.5}}


def _draw(axes: Axes, panel: list[Row], styles: dict, legend: dict[str, Any]) -> None:
    curves = dict(grouped(panel, ("method", "labels", "preset")))
    ipcs = sorted({row["ipc"] for row in panel})
    step = min(0.008, _WIDEST_SHIFT / len(curves)) * max(math.log(ipcs[-1] / ipcs[0]), math.log(10))
    for index, ((method, labels, preset), curve) in enumerate(sorted(curves.items(), key=_random_last)):
        shift = math.exp(step * (index - (len(curves) - 1) / 2))
        name = method if labels == "hard" else f"{method} ({labels} labels)"
        if len({row["preset"] for row in panel}) > 1:
            name += f", {preset}"
        bars = _curve(axes, curve, shift, {**styles[method], "linestyle": LINES.get(labels, "-")})
        legend.setdefault(name, bars)
    full = panel[0]["full"]
    if full is not None:
        line = axes.axhline(full, color=INK, linestyle=(0, (6, 4)), linewidth=1.2, zorder=1)
        legend.setdefault(FULL, line)
    _dress(axes, panel[0], ipcs)


def _random_last(curve: tuple[tuple, list[Row]]) -> tuple:
    (method, labels, preset), _ = curve
    return method == "random", method, labels or "", preset or ""


def _curve(axes: Axes, curve: list[Row], shift: float, style: dict[str, Any]) -> Any:
    curve = sorted(curve, key=lambda row: row["ipc"])
    below = [0.0 if row["ci_low"] is None else row["accuracy"] - row["ci_low"] for row in curve]
    above = [0.0 if row["ci_high"] is None else row["ci_high"] - row["accuracy"] for row in curve]
    return axes.errorbar(
        [row["ipc"] * shift for row in curve], [row["accuracy"] for row in curve], yerr=[below, above],
        linewidth=1.8, markersize=5.5, markeredgecolor="white", markeredgewidth=0.7, elinewidth=1.3, capsize=2.5,
        **style,
    )  # fmt: skip


def _dress(axes: Axes, row: Row, ipcs: list[int]) -> None:
    axes.set_xscale("log")
    margin = 1.35 if len(ipcs) > 1 else 3
    axes.set_xlim(ipcs[0] / margin, ipcs[-1] * margin)
    axes.xaxis.set_major_locator(FixedLocator(ipcs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("images per class (log scale)", fontsize=10, color=INK)
    axes.set_ylabel("test accuracy (%)", fontsize=10, color=INK)
    title = row["dataset"] if row["suite"] == row["dataset"] else f"{row['dataset']} (suite {row['suite']})"
    axes.set_title(title, fontsize=13, fontweight="bold", color=INK, loc="left", pad=22, parse_math=False)
    subtitle = f"{row['protocol']} · {row['network']} · {row['pixel_space']} pixels · bars: 95 % interval"
    axes.text(0, 1.025, subtitle, transform=axes.transAxes, fontsize=9, color=GREY, parse_math=False)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=10, color=GREY, labelcolor=INK)
