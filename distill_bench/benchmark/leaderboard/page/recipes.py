"""What a row's sets were made with, value by value, and where in a recipe each value stands."""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from distill_bench.datasets import usual_side
from distill_bench.errors import UsageError
from distill_bench.methods.recipe import PAPER, list_recipes, load_recipe, recipe_file
from distill_bench.runtime.files import read_toml

_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
_HEADER = re.compile(r"^\[(?P<name>[^\[\]]+)\]")


def about_method(name: str) -> dict[str, Any]:
    """Title, paper and its address of a built-in method; all None of another."""
    if name not in list_recipes():
        return {"title": None, "paper": None, "link": None}
    recipe = load_recipe(name)
    arxiv = _ARXIV.search(recipe.paper or "")
    return {
        "title": recipe.title,
        "paper": recipe.paper,
        "link": f"https://arxiv.org/abs/{arxiv[1]}" if arxiv else None,
    }


def sourced(
    method: str, dataset: str, ipc: int, preset: str | None, side: int | None, recorded: Mapping[str, Any]
) -> dict[str, Any]:
    """A recorded recipe with the source of its values.

    Args:
        method: a name; of one that is not built in, no source is known.
        dataset, ipc, preset, side: what the recipe was resolved for.
        recorded: the values of the result.

    Returns:
        ``tables``: name and comment of each of the recipe's tables that applies; ``fields``: name, value and the place
        of its table, or None where no table has this value (a default of the code's, or set by hand).
    """
    tables: dict[str, Any] = {}
    if method in list_recipes():
        try:
            tables = load_recipe(method).tables(dataset, ipc, preset or PAPER, side or usual_side(dataset))
        except UsageError:  # a preset that is no more
            tables = {}
    laid = [(name, dict(_flat(table))) for name, table in tables.items() if table]
    comments = _comments(method) if laid else {}
    fields = [
        [
            key,
            _finite(value),
            next((i for i, (_, table) in reversed([*enumerate(laid)]) if table.get(key) == value), None),
        ]
        for key, value in sorted(_flat(recorded))
    ]
    return {"tables": [[name, comments.get(name, "")] for name, _ in laid], "fields": fields}


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """The values of a table and of those in it, by dotted name."""
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)]
    return found


def _finite(value: Any) -> Any:
    """A value that JSON has: no number that is none."""
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


@cache
def _comments(method: str) -> dict[str, str]:
    """What stands above each table in a recipe's file and in that of its base: where the values come from.

    A comment holds for the tables after it too, until the next one.
    """
    path = recipe_file(method)
    base = read_toml(path).get("base")
    comments = dict(_comments(base)) if isinstance(base, str) else {}
    lines: list[str] = []
    said = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            lines.append(line.lstrip("# "))
            continue
        if header := _HEADER.match(line):
            said = " ".join(lines) or said
            comments |= dict.fromkeys(_names(header["name"]), said)
        lines = []
    return comments


def _names(header: str) -> list[str]:
    """A table's name as ``Recipe.tables`` has it, once for each dataset that it names."""
    quoted = re.search(r'"([^"]*)"', header)
    if quoted is None:
        return [header]
    return [header.replace(quoted[0], name) for name in re.split(r", *", quoted[1])]
