"""A set as a notebook shows it: its images, and what its card says."""

import base64
import html
from typing import Any

from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.render import grid
from distill_bench.runtime.text import for_terminal

_MOST_TILES = 200
_LEFT_OUT = ("class_names", "recipe", "origin")


def set_as_html(distilled: DistilledSet) -> str:
    """The grid as a picture within the text, and the card as a table; nothing else is read or loaded."""
    card = distilled.card.model_dump(mode="json", exclude_none=True)
    rows = {name: value for name, value in card.items() if name not in _LEFT_OUT}
    rows |= {"classes": f"{len(distilled.card.class_names):,}", "bytes": f"{distilled.nbytes:,}"}
    return _picture(distilled) + table_as_html(rows)


def table_as_html(rows: dict[str, Any]) -> str:
    """Names and values in two columns. Names from outside do nothing."""
    cells = ((name, html.escape(for_terminal(_words(value)))) for name, value in rows.items())
    return f"<table>{''.join(f'<tr><th>{name}</th><td>{value}</td></tr>' for name, value in cells)}</table>"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items() if inner is not None)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _picture(distilled: DistilledSet) -> str:
    if distilled.card.pixel_space.kind == "zca":
        return "<p>Whitened pixels: render(set, dataset=…) undoes it, with the dataset that it was fitted on.</p>"
    columns = max(1, min(10, _MOST_TILES // len(distilled.card.class_names)))
    png = base64.b64encode(grid(distilled, columns=columns)).decode()
    return f'<img alt="{html.escape(for_terminal(repr(distilled)))}" src="data:image/png;base64,{png}">'
