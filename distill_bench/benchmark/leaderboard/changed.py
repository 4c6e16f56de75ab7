"""Whether a set was made by other hyper-parameters than its preset has."""

from typing import Any

from distill_bench.datasets import dataset_info
from distill_bench.errors import DistillBenchError
from distill_bench.evaluation import Result
from distill_bench.methods import load_method
from distill_bench.methods.recipe import PAPER, list_recipes

BY_HAND = ", changed"
"""What boards add to the preset of such a set."""


def changed_fields(result: Result) -> dict[str, Any]:
    """The hyper-parameters that the recipe of a built-in method would not have.

    Args:
        result: of a set.

    Returns:
        Their values by name; none of other methods, which would have to be imported, and where the preset is not known.
    """
    if result.method not in list_recipes() or not result.recipe:
        return {}
    try:
        config = load_method(result.method).config(result.dataset, result.ipc or 1, result.preset or PAPER, result.size)
    except DistillBenchError:
        return {}
    usual = config.model_dump(mode="json")
    return {key: value for key, value in result.recipe.items() if key in usual and usual[key] != value}


def is_changed(result: Result) -> bool:
    """Whether a set of a dataset by name was made with values of one's own; a suite's variants have names for that."""
    plain = result.ipc is not None and result.classes is None and dataset_info(result.dataset) is not None
    return plain and result.synthesis is None and result.preset is not None and bool(changed_fields(result))
