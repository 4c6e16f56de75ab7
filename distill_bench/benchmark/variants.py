"""Other values of some hyper-parameters for the cells of a suite."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from distill_bench.benchmark.cells import Cell, SetCell
from distill_bench.errors import UsageError, unknown
from distill_bench.methods.recipe import merge
from distill_bench.methods.run import config_of


def with_settings(cells: Sequence[Cell], settings: Mapping[str, Any]) -> list[Cell]:
    """The cells with other values of some hyper-parameters, as variants: their name says which.

    Args:
        cells: of any kind; those whose method has none of the fields stay as they are.
        settings: values by field, in tables where a field is of one.

    Returns:
        The cells, in order.

    Raises:
        UsageError: no method has one of the fields.
    """
    known = dict[str, None]()
    changed = list[Cell]()
    for cell in cells:
        fields = config_of(cell.load_method().function).model_fields if isinstance(cell, SetCell) else {}
        known |= dict.fromkeys(fields)
        own = {name: value for name, value in settings.items() if name in fields}
        if own and isinstance(cell, SetCell):
            name = f"{cell.method} {' '.join(_pairs(own))}"
            changes: dict[str, Any] = {"method": name, "of": cell.of or cell.method}
            cell = replace(cell, **changes, settings=merge({**cell.settings}, own))
        changed.append(cell)
    if settings and not any(isinstance(cell, SetCell) for cell in cells):
        raise UsageError(f"`set={next(iter(settings))}=…`: no set is made here, and no recipe used. Leave it out.")
    for name in settings:
        if name not in known:
            raise UsageError(f"`set={name}=…`: {unknown('field', name, sorted(known))}")
    return changed


def _pairs(settings: Mapping[str, Any], above: str = "") -> list[str]:
    """``key=value`` of every setting, with those of tables as ``table.key``."""
    pairs = list[str]()
    for name, value in settings.items():
        pairs += _pairs(value, f"{above}{name}.") if isinstance(value, Mapping) else [f"{above}{name}={value}"]
    return pairs
