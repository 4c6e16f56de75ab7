"""The figure of docs/reproduction.md: pictures, losses and accuracies of the sets in results/reproduced."""

from pathlib import Path

import numpy
import pandas
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from reproduced_sets import CURVE

from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.render import render_pixels
from distill_bench.hub.registry.registry import InlineClaim, read_registry
from distill_bench.runtime.tracking import LOSSES

_COLOUR, _PALE = "#0072B2", "#9CC9E6"
_PARTS = 50


def draw(registry: Path) -> Figure:
    """A row a set: its first image of every class; its losses; accuracies of its iterates, and of itself at the end.

    Args:
        registry: with the sets' files beside it, and what belongs to them.
    """
    entries = read_registry(registry)
    figure = Figure(figsize=(12, 1.9 * len(entries)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(len(entries), 3, squeeze=False, width_ratios=[3, 1, 1])
    for (pictures, losses, accuracies), (name, entry) in zip(rows, entries.items(), strict=True):
        file = registry.parent / entry.files[0].path
        pictures.imshow(strip(load_distilled(file)), interpolation="nearest")
        pictures.set_title(name.removesuffix("-reproduced"), fontsize=10, loc="left")
        pictures.set_axis_off()
        _draw_losses(losses, file.with_suffix(LOSSES))
        last = entry.claim.accuracy if isinstance(entry.claim, InlineClaim) else None
        _draw_accuracies(accuracies, file.with_suffix(CURVE), last)
    return figure


def strip(distilled: DistilledSet) -> numpy.ndarray:
    """The first image of every class in a row, with a pixel between two: 8-bit [height, width, 3]."""
    pixels, labels = render_pixels(distilled), distilled.labels
    firsts = [pixels[int(labels.eq(label).nonzero()[0])] for label in labels.unique()]
    tiles = [numpy.pad(each.permute(1, 2, 0).numpy(), ((0, 0), (0, 1), (0, 0)), constant_values=255) for each in firsts]
    sheet = numpy.concatenate(tiles, axis=1)[:, :-1]
    return numpy.broadcast_to(sheet, (*sheet.shape[:2], 3))


def _draw_losses(axes: Axes, file: Path) -> None:
    """Every step's loss, and their moving mean over a fiftieth of the steps."""
    if not file.exists():
        return axes.set_axis_off()
    losses = pandas.read_csv(file)["loss"]
    means = losses.rolling(max(1, len(losses) // _PARTS), min_periods=1).mean()
    axes.plot(losses.index + 1, losses, color=_PALE, linewidth=0.6)
    axes.plot(losses.index + 1, means, color=_COLOUR, linewidth=1.2)
    _label(axes, "loss")
    return None


def _draw_accuracies(axes: Axes, file: Path, last: float | None) -> None:
    """Of the iterates, and as a line that of the set."""
    if not file.exists():
        return axes.set_axis_off()
    curve = pandas.read_csv(file)
    axes.plot(curve["step"], curve["accuracy"], "o-", color=_COLOUR, linewidth=1.2, markersize=3)
    if last is not None:
        axes.axhline(last, color="#808080", linestyle="--", linewidth=1)
    _label(axes, "test accuracy, %")
    return None


def _label(axes: Axes, what: str) -> None:
    axes.set_ylabel(what, fontsize=8)
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E4E4E4", linewidth=0.6)
