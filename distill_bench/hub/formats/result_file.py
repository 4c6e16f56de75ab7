"""Results as files: read back, and held against the set that they are said to be of."""

import json
from pathlib import Path
from typing import Any

import numpy
from pydantic import ValidationError

from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError, UsageError, brief, describe
from distill_bench.evaluation import Result
from distill_bench.evaluation.statistics import student_interval
from distill_bench.runtime.hashing import sha256_of

_ROUNDING = 1e-9
LINES = ".jsonl"


def read_result(path: Path) -> Result:
    """The result in a file as ``evaluate --json`` writes it.

    Raises:
        DataError: the file is missing, is no result, or its figures contradict each other.
    """
    return parse_result(_read(path), path)


def read_results_of(path: Path, file: Path) -> list[Result]:
    """The results of one set in a file: the one of ``evaluate --json``, or of JSON lines those of this very set.

    Args:
        path: the file of results, ``.jsonl`` where it has lines.
        file: the set's.

    Returns:
        The results, in the order of the file.

    Raises:
        DataError: as ``read_result``, or no line is of the set.
    """
    if path.suffix != LINES:
        return [read_result(path)]
    digest = sha256_of(file)
    lines = [line for line in _read(path).split(b"\n") if digest.encode() in line]
    if not lines:
        raise DataError(f"{path} has no result of {file}, whose sha256 is {digest}.")
    return [parse_result(line, path) for line in lines]


def parse_result(text: str | bytes, path: Path) -> Result:
    """The result in the text of ``path``. Errors as ``read_result``."""
    try:
        if not isinstance(json.loads(text), dict):
            raise DataError(f"{path}: not a result: no JSON object.")
        result = Result.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"{path}: not a whole result of evaluate or bench: {describe(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or not a result: no readable JSON ({brief(error)}).") from error
    try:
        result.check_names("its {}")
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error
    wrong = _contradictions(result)
    if wrong:
        raise DataError(f"{path}: contradicts itself: {'; '.join(wrong)}. It was damaged or edited.")
    return result


def check_belongs(result: Result, path: Path, distilled: DistilledSet, file: Path) -> None:
    """Raises DataError unless the result in ``path`` is of exactly the set in ``file``; ``distilled`` is that set."""
    card = distilled.card
    if result.set_sha256 is None:
        raise UsageError(f"{path} scores a whole training split, not a distilled set: {result.protocol}.")
    actual = sha256_of(file)
    if actual != result.set_sha256:
        raise DataError(
            f"{file} has the sha256 {actual}, {path} is of {result.set_sha256}: another set, or one that was changed. "
            "Get the file the result was found with."
        )
    facts = {
        "method": (result.method, card.method),
        "dataset": (result.dataset, card.source.name),
        "ipc": (result.ipc, card.ipc),
        "preset": (result.preset, card.preset),
        "seed": (result.seed, card.seed),
        "pixel_space": (result.pixel_space, card.pixel_space.kind),
        "bytes": (result.bytes, distilled.nbytes),
    }
    check_facts(facts, path, f"the set in {file}")


def check_facts(facts: dict[str, tuple[Any, Any]], path: Path, whose: str) -> None:
    """Raises DataError if a result's facts, each given as (said, found), are not those of ``whose``."""
    wrong = [
        f"{name} is {said} there, and should be {actual}" for name, (said, actual) in facts.items() if said != actual
    ]
    if wrong:
        raise DataError(f"{path} does not go with {whose}: {'; '.join(wrong)}.")


def _contradictions(result: Result) -> list[str]:
    values = result.accuracies
    if not values or any(not 0 <= value <= 100 for value in values):
        return ["accuracies must be percentages, one a network"]
    low, high = student_interval(values)
    actual = {
        "networks": (result.networks, len(values)),
        "accuracy": (result.accuracy, float(numpy.mean(values))),
        "std": (result.std, float(numpy.std(values))),
        "ci_low": (result.ci_low, low),
        "ci_high": (result.ci_high, high),
    }
    return [
        f"{name} is given as {said}, and is {true} by the accuracies"
        for name, (said, true) in actual.items()
        if said != true and (said is None or true is None or not abs(said - true) < _ROUNDING)
    ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Give a result of evaluate --json or of bench.") from None
    except OSError as error:
        raise DataError(f"{path}: damaged, or not a result: {brief(error)}.") from error
