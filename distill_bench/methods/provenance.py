"""Where every value of a run comes from: the table of a recipe's file with the comment that gives its source."""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distill_bench.datasets import usual_side
from distill_bench.methods.recipe import FYI, Values, beside, list_recipes, recipe_file
from distill_bench.methods.registry import Method
from distill_bench.methods.run import config_of

CODE, REQUEST = "the method's code", "what was set"
_KEY = re.compile(r"(?P<key>[A-Za-z_][\w.]*) *= *[^#\n]*(?:# *(?P<said>.*))?")

Names = tuple[str, ...]


class Written(NamedTuple):
    """A value in a recipe's file.

    Attributes:
        path: the names of its tables and its own.
        file: the file's name.
        said: the comment above it, or behind it, or else above its table, or one that this is in; empty without.
    """

    path: Names
    file: str
    said: str


def sources(
    method: Method, dataset: str, ipc: int, preset: str, side: int | None, overrides: Values
) -> dict[str, dict[str, str]]:
    """Where each resolved value comes from.

    Args:
        method: whose recipe, and code, they are of.
        dataset, ipc, preset, side, overrides: as for ``Method.config``.

    Returns:
        By field, with a dot into tables: ``table`` (a recipe's, ``CODE`` or ``REQUEST``), and of a recipe's ``file``
        and, where the file has a comment on it, ``why``.

    Raises:
        UsageError: as ``Method.config``.
    """
    side = side or usual_side(dataset)
    written = [each for path in _files(method) for each in written_values(path)]
    fields = config_of(method.function).model_fields
    resolved = dict.fromkeys(fields) | method.config(dataset, ipc, preset, side, **overrides).model_dump()
    of_images = {"table": f"the recipe of {resolved.get('images')}"}  # of the method that makes or chooses them
    found = {
        ".".join(path): of_images if path[:-1][:1] == ("selection",) else {"table": CODE} for path in _leaves(resolved)
    }
    for table, values in method.recipe.tables(dataset, ipc, preset, side).items():
        for path in _leaves(values):
            flipped = method.recipe.paper == FYI and (table, *path) == ("defaults", "flip")  # in no file
            said = {"why": FYI} if flipped else _said(written, table, path, method.name)
            found[".".join(path)] = {"table": table} | said
    for path in [*_leaves(method.settings), *_leaves(overrides)]:
        found[".".join(path)] = {"table": REQUEST}
    tables = {name[:dot] for name in found for dot, letter in enumerate(name) if letter == "."}
    return {name: found[name] for name in sorted(found.keys() - tables)}


def written_values(path: Path) -> list[Written]:
    """Every value of a recipe's file, in order."""
    header: Names = ()
    tables, comment = dict[Names, str](), list[str]()
    values = list[Written]()
    for line in map(str.strip, path.read_text(encoding="utf-8").splitlines()):
        if line.startswith("#"):
            comment.append(line.lstrip("# "))
            continue
        if line.startswith("["):
            header = _header(line)
            above = [tables[header[:end]] for end in range(len(header)) if header[:end] in tables]
            tables[header] = " ".join(comment) or (above[-1] if above else "")
        elif (match := _KEY.match(line)) is not None:
            said = " ".join(comment) or match["said"] or tables.get(header, "")
            values.append(Written((*header, *match["key"].split(".")), path.name, said))
        comment = []
    return values


def _header(line: str) -> Names:
    """The names in a line such as ``[cell."mnist, svhn".1]``."""
    names, table = list[str](), tomllib.loads(line)
    while table:
        ((name, table),) = table.items()
        names.append(name)
    return tuple(names)


def _files(method: Method) -> Iterator[Path]:
    """The recipe's file, and those it is based on; none of a method without a file."""
    name: Any = method.name
    while name is not None:
        path = recipe_file(name) if name in list_recipes() else Path(name)
        if path.suffix != ".toml" or not path.is_file():
            return
        yield path
        base = tomllib.loads(path.read_text(encoding="utf-8")).get("base")
        name = base if base is None else beside(path, base)


def _leaves(values: Mapping[str, Any], above: Names = ()) -> Iterator[Names]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, name))
        else:
            yield (*above, name)


def _said(written: Sequence[Written], table: str, path: Names, name: str) -> dict[str, str]:
    """File and comment of a value; of a variant's own table first, then of the most particular file."""
    wanted = (*table.split("."), *path)
    for place in (("variant", name, *wanted), wanted):  # of a table that is written in one line its name stands there
        holding = [each for each in written if all(map(_names, each.path, place)) and len(each.path) <= len(place)]
        if holding:
            longest = max(holding, key=lambda each: len(each.path))
            return {"file": longest.file} | ({"why": longest.said} if longest.said else {})
    return {}


def _names(written: str, wanted: str) -> bool:
    return wanted in re.split(r", *", written)
