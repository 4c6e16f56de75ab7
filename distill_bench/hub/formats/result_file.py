"""Results as files: read back, and held against the set that they are said to be of."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError, UsageError, brief, describe
from distill_bench.evaluation import Score
from distill_bench.evaluation.statistics import student_interval
from distill_bench.runtime.names import LONGEST_PATH, checked_name

ROUNDING = 1e-9
NAMES = ("dataset", "method", "protocol", "network", "pixel_space")
"""Text of a score that a stranger may have written."""


class Claimed(BaseModel):
    """What a result file says.

    Attributes:
        score: the accuracies and what they are of.
        run: the code, versions and machine they were found with; empty where the file does not say.
        score_key: the content address of the score with its number of networks, where the file has it.
        synthesis: what the set was made with, where the file says.
    """

    model_config = ConfigDict(frozen=True)

    score: Score
    run: dict[str, Any] = {}
    score_key: str | None = None
    synthesis: dict[str, Any] = {}


def read_result(path: Path) -> Claimed:
    """The claim of a file as ``evaluate --json`` and ``bench`` write it.

    Raises:
        DataError: the file is missing, is no result, or its figures contradict each other.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Give a result of evaluate --json or of bench.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: damaged, or not a result: no readable JSON ({brief(error)}).") from error
    return parse_result(content, path)


def parse_result(content: Any, path: Path) -> Claimed:
    """The claim in a result's content. Errors as ``read_result``."""
    try:
        about = ("run", "score_key", "synthesis")
        fields = [key for key in Score.model_fields if key in content and key not in about]
        score = Score.model_validate({key: content[key] for key in fields})
        rest = {key: content[key] for key in about if key in content}
        claimed = Claimed(score=score, **rest)
    except ValidationError as error:
        raise DataError(f"{path}: not a whole result of evaluate or bench: {describe(error)}.") from error
    except TypeError as error:
        raise DataError(f"{path}: not a result: no JSON object.") from error
    try:
        for name in NAMES:
            checked_name(getattr(score, name), f"its {name}", LONGEST_PATH)
    except ValueError as error:
        raise DataError(f"{path}: {error}.") from error
    wrong = _contradictions(score)
    if wrong:
        raise DataError(f"{path}: contradicts itself: {'; '.join(wrong)}. It was damaged or edited.")
    return claimed


def check_belongs(claimed: Claimed, path: Path, made: DistilledSet, file: Path) -> None:
    """Raises DataError unless the result in ``path`` is of exactly the set in ``file``; ``made`` is that set, read."""
    score, card = claimed.score, made.card
    if score.set_sha256 is None:
        raise UsageError(f"{path} scores a whole training split, not a distilled set: {score.protocol}.")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != score.set_sha256:
        raise DataError(
            f"{file} has the sha256 {found}, {path} is of {score.set_sha256}: another set, or one that was changed. "
            "Get the file the result was found with."
        )
    # as suites call data that is resized, held out, not mirrored, or of some classes alone
    more = r"( at \d+ px)?( holdout [\d.]+)?( not mirrored)?( classes .+)?"
    same = re.fullmatch(re.escape(card.source.name) + more, score.dataset)
    dataset = card.source.name if same else score.dataset
    facts = {
        "method": (score.method, card.method),
        "dataset": (dataset, card.source.name),
        "ipc": (score.ipc, card.ipc),
        "pixel_space": (score.pixel_space, card.pixel_space.kind),
        "bytes": (score.bytes, made.nbytes),
    }
    check_facts(facts, path, f"the set in {file}")


def check_facts(facts: dict[str, tuple[Any, Any]], path: Path, whose: str) -> None:
    """Raises DataError where a result's facts, each given as (said, found), are not those of ``whose``."""
    wrong = [f"{name} is {said} there, and should be {found}" for name, (said, found) in facts.items() if said != found]
    if wrong:
        raise DataError(f"{path} does not go with {whose}: {'; '.join(wrong)}.")


def _contradictions(score: Score) -> list[str]:
    values = score.accuracies
    if not values or any(not 0 <= value <= 100 for value in values):
        return ["accuracies must be percentages, one a network"]
    low, high = student_interval(values)
    found = {
        "networks": (score.networks, len(values)),
        "accuracy": (score.accuracy, float(numpy.mean(values))),
        "std": (score.std, float(numpy.std(values))),
        "ci_low": (score.ci_low, low),
        "ci_high": (score.ci_high, high),
    }
    return [
        f"{name} is given as {said}, and is {true} by the accuracies"
        for name, (said, true) in found.items()
        if said != true and (said is None or true is None or not abs(said - true) < ROUNDING)
    ]
