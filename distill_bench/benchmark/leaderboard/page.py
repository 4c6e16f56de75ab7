"""The leaderboard as one HTML file that needs nothing beside it."""

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.benchmark.leaderboard.collect import Row
from distill_bench.benchmark.leaderboard.tables import COLUMNS, notes, sections

_TEMPLATE = Path(__file__).with_name("page.html.j2")


def page(rows: Sequence[Row], claims: Sequence[Claim] = (), figure: bytes | None = None) -> str:
    """The page of a board.

    Args:
        rows: of the board, see ``leaderboard_rows``.
        claims: the published figures to show beside them.
        figure: a PNG to show above the tables.

    Returns:
        HTML text.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    parts = sections(rows, claims)
    return template.render(
        sections=parts,
        columns=COLUMNS,
        notes=notes(parts),
        figure=base64.b64encode(figure).decode() if figure else None,
    )
