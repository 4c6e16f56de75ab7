"""Results and failures as JSON: written with a sum of their content, validated as they are read."""

import json
import math
from typing import Any

import numpy
from pydantic import ValidationError

from distill_bench.errors import DataError, brief, describe
from distill_bench.evaluation.result import Failure, Result
from distill_bench.evaluation.statistics import percent_interval
from distill_bench.runtime.stored import SUM, is_whole, with_sum

CHANGED = "changed since it was written: its sum is not that of its content"
"""The note that a result has then."""
_KINDS: dict[str, type[Result] | type[Failure]] = {"score": Result, "failure": Failure}
_ROUNDING = 1e-9

Filed = Result | Failure


def to_json(filed: Filed) -> dict[str, Any]:
    """The record as an object of JSON values, with its sum."""
    return with_sum(filed.model_dump(mode="json"))


def parse(text: str | bytes) -> Filed | None:
    """The one validated reader of results and failures.

    Args:
        text: JSON as ``to_json`` has it. One without a sum, of earlier versions or made elsewhere, is taken.

    Returns:
        The record; None for JSON of another kind. A result that differs from its sum has ``CHANGED`` among its notes.

    Raises:
        DataError: it is no JSON, lacks a field, has one of another type or a value that cannot be, or one that cannot
            be shown, or its figures contradict each other.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"damaged, or not a result: no readable JSON ({brief(error)})") from error
    kind = content.get("kind") if isinstance(content, dict) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        if isinstance(content, dict) and isinstance(content.get(SUM), str) and not is_whole(content):
            raise DataError("damaged: its sum is not that of its content")
        return None
    # a field that no result has, where there is no sum, is what damage made of the sum's own name
    changed = not is_whole(content) if SUM in content else bool({*content} - {*_KINDS[kind].model_fields})
    content.pop(SUM, None)
    try:
        filed = _KINDS[kind].model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise DataError(f"not a whole {kind} of evaluate or bench: {describe(error)}") from error
    try:
        filed.check_names("its {}")
    except ValueError as error:
        raise DataError(str(error)) from error
    if not isinstance(filed, Result):
        return filed
    if wrong := _contradictions(filed):
        raise DataError(f"contradicts itself: {'; '.join(wrong)}. It was damaged or edited")
    return filed.model_copy(update={"notes": (*filed.notes, CHANGED)}) if changed else filed


def _contradictions(result: Result) -> list[str]:
    values = result.accuracies
    low, high = percent_interval([values])
    actual = {
        "networks": (result.networks, len(values)),
        "accuracy": (result.accuracy, float(numpy.mean(values))),
        "std": (result.std, float(numpy.std(values))),
        "ci_low": (_in_percent(result.ci_low), low),
        "ci_high": (_in_percent(result.ci_high), high),
    }
    return [
        f"{name} is given as {said}, and is {true} by the accuracies"
        for name, (said, true) in actual.items()
        if said != true and (said is None or true is None or not math.isclose(said, true, abs_tol=_ROUNDING, rel_tol=0))
    ]


def _in_percent(end: float | None) -> float | None:
    """Earlier versions did not cut intervals."""
    return None if end is None else min(max(end, 0.0), 100.0)
