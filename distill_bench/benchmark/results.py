"""Results as files: a small one each while work runs, then a line each of ``<folder>/<suite>.jsonl``."""

import contextlib
import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from distill_bench.benchmark.cells import slug
from distill_bench.datasets import is_own
from distill_bench.distilled.budget import Budget
from distill_bench.errors import DataError, brief
from distill_bench.evaluation import Failure, Result
from distill_bench.evaluation.result import FULL, LINES
from distill_bench.evaluation.result_file import CHANGED, Filed, parse, to_json
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.stored import read_json
from distill_bench.runtime.text import counted

if TYPE_CHECKING:
    import pandas

FAILED = "failed"
INTEGERS = ("size", "ipc", "images", "seed", "networks", "bytes")


def read_results(folder: Path, suite: str | None = None, wrong: list[str] | None = None) -> list[Filed]:
    """Every result and failure in a folder: lines of ``*.jsonl`` and single ``.json`` files, at any depth.

    Of two results of one slot (see ``slot``) the one in a small file is newer, and the only one. JSON of another kind
    is skipped. What is no whole result is left out, and a line in the log names it; of one that was changed since it
    was written, a line says that.

    Args:
        folder: the folder of results.
        suite: the only one to read: ``<suite>.jsonl`` and the folder ``<suite>``.
        wrong: is given every such line.

    Returns:
        Results in path order, those of JSON lines first, then failures.

    Raises:
        DataError: there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f"no results: {folder} is not a folder.")
    lines = sorted(folder.rglob("*.jsonl")) if suite is None else [_lines_path(folder, suite)]
    small = sorted((folder if suite is None else folder / suite).rglob("*.json"))
    wrong = [] if wrong is None else wrong
    filed = [each for path in lines for _, each in _lines(path, wrong)] + [_read(path, wrong) for path in small]
    newest = {slot(each): each for each in filed if isinstance(each, Result)}
    return [*newest.values(), *(each for each in filed if isinstance(each, Failure))]


def load_results(folder: str | Path) -> "pandas.DataFrame":
    """Every result in a folder as a table, a row a result; failures are left out.

    The columns are the fields of ``Result``, and ``data``, the dataset as boards show it. Of nested blocks each value
    is a column of its own: ``synthesis.seconds``, ``synthesis.peak_memory_mb``, ``recipe.iterations``, ``run.torch``,
    ``origin.form``, … ``size``, ``ipc``, ``images``, ``seed``, ``networks`` and ``bytes`` are nullable integers;
    ``accuracies``, ``notes`` and ``classes`` are lists.

    Args:
        folder: a folder of results, such as ``bench`` or ``evaluate --results`` filled.

    Returns:
        The table. Without results it has no rows, and the columns that are not nested.

    Raises:
        DataError: there is no such folder.
    """
    import pandas  # here, because importing it takes a moment

    results = [each for each in read_results(Path(folder)) if isinstance(each, Result)]
    table = pandas.json_normalize([{"data": each.data} | each.model_dump(mode="json") for each in results])
    plain = ["data", *(name for name in Result.model_fields if name not in ("run", "recipe", "synthesis", "origin"))]
    return table.reindex(columns=[*plain, *(name for name in table.columns if "." in name)]).astype(
        dict.fromkeys(INTEGERS, "Int64")
    )


def slot(result: Result) -> tuple[Any, ...]:
    """What a folder has one result of: a later one replaces it.

    A suite's own sets are told apart by what was asked for, so that a set that is made anew takes the place of the one
    before; all others by their content. Data of one's own are also told apart by their images: a path says little.
    """
    budget = (result.ipc,) if result.fraction is None else (None, result.fraction)
    asked = result.seed, result.protocol, result.network, result.strict
    images = (result.train_fingerprint, result.test_fingerprint) if is_own(result.dataset) else None
    return (
        result.suite,
        result.data,
        result.method,
        *budget,
        *asked,
        result.set_sha256 if result.synthesis is None else None,
        result.preset,
        images,
    )


def file_result(result: Result, folder: Path, name: Path | None = None) -> Path:
    """Write a result, whole or not at all, into a small file of its own, which ``fold`` takes in later.

    Args:
        result: of a suite.
        folder: the folder of results.
        name: of the file in the suite's folder; one that is the slot's alone unless given.

    Returns:
        The file.

    Raises:
        DataError: it cannot be written.
    """
    assert result.suite is not None
    if name is None:
        budget = FULL if result.method in LINES else Budget(result.ipc, result.fraction).slug
        name = Path(
            slug(result.data), slug(result.method), f"{budget}-{canonical_hash([*map(str, slot(result))])}.json"
        )
    path = folder / result.suite / name
    with _alone(folder, result.suite):
        write_atomically(path, json.dumps(to_json(result), indent=1, sort_keys=True) + "\n")
    return path


def file_failure(failure: Failure, path: Path) -> None:
    """Write a failure into a file of its own, where it stays until its cell is tried again.

    Raises:
        DataError: it cannot be written.
    """
    write_atomically(path, json.dumps(to_json(failure), indent=1, sort_keys=True) + "\n")


def is_filed(score_key: str, folder: Path, suite: str, name: Path) -> bool:
    """Whether the evaluation with this address is filed.

    Args:
        score_key: see ``Result``.
        folder: the folder of results.
        suite: whose result it is.
        name: of its small file in the suite's folder, which counts before the lines.

    Returns:
        Whether it is.
    """
    if small := read_json(folder / suite / name):
        return small.get("score_key") == score_key
    path = _lines_path(folder, suite)
    return path.exists() and score_key in _score_keys(path, path.stat().st_mtime_ns, path.stat().st_size)


def fold(folder: Path, suite: str) -> None:
    """Move a suite's results from their small files into its JSON lines; failures stay as they are.

    A small file is deleted only when the lines with its content are written. What cannot be read stays where it is.
    Where a result takes the place of one of more networks, a line says so.

    Args:
        folder: the folder of results.
        suite: its name.

    Raises:
        DataError: the lines cannot be written.
    """
    if not any(_is_sound(_read(path)) for path in (folder / suite).rglob("*.json")):
        return
    with _alone(folder, suite):
        read = {path: _read(path) for path in sorted((folder / suite).rglob("*.json"))}
        small = {path: each for path, each in read.items() if _is_sound(each) and each.suite == suite}
        before = _lines(_lines_path(folder, suite))
        if small:
            known = [each for _, each in before if _is_sound(each)]
            _say_fewer(known, small.values())
            kept = "".join(f"{line}\n" for line, each in before if not _is_sound(each))
            write_atomically(_lines_path(folder, suite), as_lines([*known, *small.values()]) + kept)
        for path in small:
            path.unlink(missing_ok=True)
            for parent in list(path.parents)[: len(path.relative_to(folder / suite).parents)]:
                with contextlib.suppress(OSError):  # it holds something else
                    parent.rmdir()


def _say_fewer(known: Iterable[Result], new: Iterable[Result]) -> None:
    """Say which of the known results are replaced by one of fewer networks."""
    newest = {slot(each): each for each in new}
    for each in known:
        other = newest.get(slot(each))
        if other is not None and other.networks < each.networks:
            what = f"{each.data} {each.method} {each.budget}".strip()
            log.warning(
                "%s, %s: a result of %s takes the place of one of %d. Run it with as many to have that again.",
                what, each.protocol, counted(other.networks, "network"), each.networks,
            )  # fmt: skip


def as_lines(results: Iterable[Result]) -> str:
    """Results as JSON lines: sorted, with sorted keys; of two of one slot the later."""
    newest = {slot(each): to_json(each) for each in results}
    ordered = sorted(newest, key=lambda key: [(part is not None, part) for part in key])
    return "".join(json.dumps(newest[key], sort_keys=True) + "\n" for key in ordered)


def stored_result(path: Path) -> Result | None:
    """The result in a file of the store, or None if there is none that is as it was written, and of this address."""
    filed = _read(path) if path.exists() else None
    if not _is_sound(filed):
        if path.exists():
            log.warning("%s is damaged and counts as missing.", path)
        return None
    if filed.score_key not in (None, path.stem):  # earlier versions left it out
        log.warning("%s is of %s, not of this address, and counts as missing.", path, filed.score_key)
        return None
    return filed


def _is_sound(filed: Filed | None) -> TypeGuard[Result]:
    """Whether something read is a result as it was written. Others keep their text: a new sum would hide the change."""
    return isinstance(filed, Result) and CHANGED not in filed.notes


def _lines_path(folder: Path, suite: str) -> Path:
    return folder / f"{suite}.jsonl"


def _alone(folder: Path, suite: str) -> AbstractContextManager[None]:
    return file_lock(folder / f".{suite}.lock", SILENT, "files results")  # caches may differ


@lru_cache(maxsize=8)
def _score_keys(path: Path, *_stamp: int) -> frozenset[str | None]:
    """The addresses in a file of JSON lines, for as long as that is not written again."""
    return frozenset(each.score_key for _, each in _lines(path) if isinstance(each, Result))


def _lines(path: Path, wrong: list[str] | None = None) -> list[tuple[str, Filed | None]]:
    """Every line of a file, and what is in it."""
    text = _text(path, wrong)
    if text == "":
        _say(f"the results {path} are empty, as no file of results is written.", wrong)
    lines = (text or "").split("\n")
    return [(line, _parsed(line, f"{path}:{number}", wrong)) for number, line in enumerate(lines, 1) if line]


def _read(path: Path, wrong: list[str] | None = None) -> Filed | None:
    text = _text(path, wrong)
    return None if text is None else _parsed(text, str(path), wrong)


def _text(path: Path, wrong: list[str] | None) -> str | None:
    if not path.exists():
        return None
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("not a regular file")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        _say(f"cannot read the results {path} ({brief(error)}): they are left out.", wrong)
        return None


def _parsed(text: str, where: str, wrong: list[str] | None) -> Filed | None:
    """The result or failure in a text, or None if it is something else, or not whole."""
    try:
        filed = parse(text)
    except DataError as error:
        _say(f"the result {where} is left out: {error}.", wrong)
        return None
    if isinstance(filed, Result) and CHANGED in filed.notes:
        _say(f"the result {where} was {CHANGED}.", wrong)
    return filed


def _say(text: str, wrong: list[str] | None) -> None:
    log.warning("%s", text)
    if wrong is not None:
        wrong.append(text)
