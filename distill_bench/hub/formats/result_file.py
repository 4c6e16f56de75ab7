"""Results as files: read back, and held against the set that they are said to be of."""

from pathlib import Path
from typing import Any

from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DataError, UsageError, brief
from distill_bench.evaluation import Result
from distill_bench.evaluation.result_file import CHANGED, parse
from distill_bench.runtime.files import check_regular
from distill_bench.runtime.hashing import sha256_of

LINES = ".jsonl"


def read_result(path: Path) -> Result:
    """The result in a file as ``evaluate --json`` writes it.

    Raises:
        DataError: the file is missing, is no result, or its figures contradict each other.
    """
    return parse_result(_read(path), path)


def read_results_of(path: Path, file: Path, parts: bool = False) -> list[Result]:
    """The results of one set in a file: the one of ``evaluate --json``, or of JSON lines those of this very set.

    Args:
        path: the file of results, ``.jsonl`` where it has lines.
        file: the set's.
        parts: whether results of its prefixes count too, where there are none of all of it.

    Returns:
        The results, in the order of the file.

    Raises:
        DataError: as ``read_result``, or no line is of the set.
    """
    if path.suffix != LINES:
        return [read_result(path)]
    digest = sha256_of(file)
    whole, *prefixes = sums_of(load_distilled(file))
    lines: list[bytes] = []
    for sums in ({digest, whole}, prefixes if parts else ()):
        lines = lines or [line for line in _read(path).split(b"\n") if any(each.encode() in line for each in sums)]
    if not lines:
        raise DataError(f"{path} has no result of {file}, whose sha256 is {digest}.")
    return [parse_result(line, path) for line in lines]


def parse_result(text: str | bytes, path: Path) -> Result:
    """The result in the text of ``path``. Errors as ``read_result``."""
    try:
        result = parse(text)
    except DataError as error:
        raise DataError(f"{path}: {error}.") from error
    if not isinstance(result, Result):
        raise DataError(f"{path}: not a whole result of evaluate or bench: it says no kind.")
    if CHANGED in result.notes:
        raise DataError(f"{path}: {CHANGED}. It was damaged or edited.")
    return result


def check_belongs(result: Result, path: Path, distilled: DistilledSet, file: Path) -> None:
    """Raises DataError unless the result in ``path`` is of exactly the set in ``file``; ``distilled`` is that set."""
    card = distilled.card
    if result.set_sha256 is None:
        raise UsageError(f"{path} scores a whole training split, not a distilled set: {result.protocol}.")
    actual = sha256_of(file)
    if result.set_sha256 not in (actual, distilled.sha256):  # which differ where others wrote the file
        if result.set_sha256 in sums_of(distilled):
            raise UsageError(
                f"{path} is of the first {result.ipc} images per class of {file}, which are no set in a file of their "
                "own: it can be verified, and goes with no release."
            )
        raise DataError(
            f"{file} has the sha256 {actual}, {path} is of {result.set_sha256}: another set, or one that was changed. "
            "Get the file the result was found with."
        )
    facts = {
        "method": (result.method, card.method),
        "dataset": (result.dataset, card.source.name),
        "ipc": (result.ipc, card.budget.ipc),
        "fraction": (result.fraction, card.fraction),
        "images": (result.images or len(distilled.images), len(distilled.images)),
        "preset": (result.preset, card.preset),
        "seed": (result.seed, card.seed),
        "pixel_space": (result.pixel_space, card.pixel_space.kind),
        "bytes": (result.bytes, distilled.nbytes),
    }
    check_facts(facts, path, f"the set in {file}")


def sums_of(distilled: DistilledSet) -> list[str]:
    """What results call a set and those of its parts that it is evaluated by."""
    return [distilled.sha256, *(distilled.prefix(ipc).sha256 for ipc in distilled.card.prefixes)]


def check_facts(facts: dict[str, tuple[Any, Any]], path: Path, whose: str) -> None:
    """Raises DataError if a result's facts, each given as (said, found), are not those of ``whose``."""
    wrong = [
        f"{name} is {said} there, and should be {actual}" for name, (said, actual) in facts.items() if said != actual
    ]
    if wrong:
        raise DataError(f"{path} does not go with {whose}: {'; '.join(wrong)}.")


def _read(path: Path) -> bytes:
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file. Give a result of evaluate --json or of bench.") from None
    except OSError as error:
        raise DataError(f"{path}: damaged, or not a result: {brief(error)}.") from error
