"""A distilled set made ready for others: its file, a dataset card, a preview, its results, a registry entry."""

import json
import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from distill_bench.datasets import dataset_info
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.distilled.hf_table import as_parquet
from distill_bench.distilled.render import grid
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import Result
from distill_bench.hub.dataset_card import SetToPublish, dataset_card, registry_entry
from distill_bench.hub.formats.datasets import TABLE
from distill_bench.hub.formats.result_file import LINES, check_belongs, read_result, read_results_of
from distill_bench.hub.registry.registry import checked_id
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.log import log
from distill_bench.runtime.names import checked_name
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.stored import beside, read_json

CARD, PREVIEW, ENTRY = "README.md", "preview.png", "registry-entry.toml"
_MOST_NAMED = 5
_MOST_TILES = 1000


@dataclass(frozen=True)
class Release:
    """A set as it is published.

    Attributes:
        name: its id, and the file's name without ending.
        files: content by name.
        remarks: what its publisher should know.
    """

    name: str
    files: Mapping[str, bytes] = field(repr=False)
    remarks: tuple[str, ...] = ()


def release(
    file: Path,
    results: Sequence[Path] = (),
    *,
    name: str | None = None,
    licence: str | None = None,
    url: str | None = None,
    page: str | None = None,
) -> Release:
    """Everything that is published of a set: a pure function of the arguments, the set's run file and the store.

    Args:
        file: a set as ``DistilledSet.save`` writes it.
        results: files with what ``evaluate`` or ``bench`` wrote of this set, besides what the store has of it.
        name: the id; ``<method>-<dataset>-<budget>`` unless given.
        licence: an identifier such as ``cc-by-4.0``; that of the set, else of its source, unless given.
        url: the address that the files' names are added to.
        page: where a reader sees them; the same unless given.

    Returns:
        The files by name, not written yet.

    Raises:
        UsageError: the file is of another format, name or licence have to be given, or the address is none.
        DataError: a file is damaged, or a result is of another set.
    """
    if file.suffix != ".safetensors":
        raise UsageError(
            f"{file}: only sets in this project's own format are published. Turn it into one with distill-bench import "
            f"{file} --dataset … --out {file.stem}.safetensors, look at it, and publish that."
        )
    distilled = load_distilled(file)
    content = file.read_bytes()
    own = _checked("--id", checked_id, name or default_name(distilled))
    about = dataset_info(distilled.card.source.name)
    for option, text in (("--licence", licence), ("--url", url)):
        _checked(option, checked_name, text or "-")
    terms = licence or distilled.card.licence or (about.licence if about else None)
    if terms is None:
        raise UsageError(
            f"the licence of {distilled.card.source.name} is not known here. Say under which one you publish what was "
            "made from it, with `licence`, such as `licence=cc-by-4.0` (other: terms of your own)."
        )
    results_by_path = _results(distilled, file, results)
    claims = {path: result for path, (result, _) in results_by_path.items()}
    subject = SetToPublish(
        distilled, content, own, terms, claims, _made_with(file, claims), url and url.rstrip("/"), page or url
    )
    files = {
        subject.file: content,
        CARD: dataset_card(subject).encode(),
        ENTRY: registry_entry(subject).encode(),
        TABLE: as_parquet(distilled),
        PREVIEW: grid(distilled, columns=max(1, min(10, _MOST_TILES // len(distilled.card.class_names)))),
        **{path: text for path, (_, text) in results_by_path.items()},
    }
    return Release(own, dict(sorted(files.items())), tuple(_remarks(subject)))


def write_release(ready: Release, folder: Path) -> None:
    """Write a release into a folder of its own.

    Raises:
        UsageError: the folder holds something else already; nothing was written.
        DataError: it cannot be written.
    """
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"`out={folder}` is a file: give the name of a folder.")
    strange = sorted(islice(_others(folder, ready.files), _MOST_NAMED))
    changed = sorted(
        name
        for name, content in ready.files.items()
        if os.path.isfile(folder / name) and (folder / name).read_bytes() != content
    )
    if strange or changed:
        what = ", ".join([*strange, *(f"{name} with other content" for name in changed)][:_MOST_NAMED])
        raise UsageError(
            f"{folder} holds {what}, and is left as it is. Give another `out`, or delete it if it may be replaced."
        )
    for name, content in ready.files.items():
        write_atomically(folder / name, content)


def _others(folder: Path, own: Container[str]) -> Iterator[str]:
    """What is below a folder that is none of ``own``: as it is found, for the folder may be a whole disk."""
    for inside, _, names in os.walk(folder):
        for name in names:
            path = Path(inside, name).relative_to(folder).as_posix()
            if path not in own:
                yield path


def default_name(distilled: DistilledSet) -> str:
    """``<method>-<dataset>-<budget>``, of data of one's own the last part of the path."""
    dataset = distilled.card.source.name.rpartition(":")[2].rstrip("/").rpartition("/")[2]
    name = f"{distilled.card.method}-{dataset}-{distilled.card.budget.slug}".lower()
    return re.sub(r"[^a-z0-9._]+", "-", name).strip("-._")


def _checked(option: str, check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise UsageError(f"{option} {text[:60]!r}: {error}.") from error


def _made_with(file: Path, results: Mapping[str, Result]) -> dict[str, Any]:
    """Versions and machine of the synthesis: from the run file beside the set, else from a result that says."""
    made = read_json(beside(file)) if beside(file).exists() else None  # an imported set's has its sum alone
    return (
        made
        if made and "torch" in made
        else next((result.synthesis.model_dump() for result in results.values() if result.synthesis), {})
    )


def _results(distilled: DistilledSet, file: Path, paths: Sequence[Path]) -> dict[str, tuple[Result, bytes]]:
    """Results with their text, by their path in the folder: those given, then the store's of other conditions."""
    by_condition: dict[tuple[Any, ...], tuple[Result, bytes]] = {}
    for path in paths:
        for result in read_results_of(path, file):
            check_belongs(result, path, distilled, file)
            key = _condition(result)
            if key in by_condition:
                raise UsageError(f"{path}: a second result under {' '.join(map(str, key))}. Give one `result` of each.")
            by_condition[key] = result, _text(result) if path.suffix == LINES else path.read_bytes()
    for result in _stored_results(distilled, file):
        by_condition.setdefault(_condition(result), (result, _text(result)))
    named = {_file_name(key, by_condition): by_condition[key] for key in sorted(by_condition)}
    assert len(named) == len(by_condition)
    return named


def _file_name(key: tuple[Any, ...], conditions: Iterable[tuple[Any, ...]]) -> str:
    """Of a result in the folder: as much of its condition as tells it from the others."""
    words, alike = [*key[:3]], [each for each in conditions if each[:3] == key[:3]]
    for part, word in ((4, key[4]), (3, f"lr{key[3]!r}"), (5, "strict" if key[5] else "stored")):
        if len({each[part] for each in alike}) > 1:
            words.append(word)
            alike = [each for each in alike if each[part] == key[part]]
    return "results/" + re.sub(r"[^\w.-]+", "-", "-".join(words)) + ".json"


def _text(result: Result) -> bytes:
    return (json.dumps(result.model_dump(mode="json"), indent=1, sort_keys=True) + "\n").encode()


def _condition(result: Result) -> tuple[Any, ...]:
    return result.protocol, result.network, result.labels, result.learning_rate, result.data, result.strict


def _stored_results(distilled: DistilledSet, file: Path) -> list[Result]:
    """What the store has of a set, the most networks first."""
    stored = []
    for path in sorted((cache_dir() / "store" / "scores").glob("*.json")):
        content = read_json(path, "accuracies")
        if not content or content.get("set_sha256") != distilled.sha256:
            continue
        try:
            result = read_result(path)
            check_belongs(result, path, distilled, file)
        except DataError as error:
            log.warning("%s It is left out.", error)
            continue
        stored.append(result)
    return sorted(stored, key=lambda result: -result.networks)


def _remarks(subject: SetToPublish) -> Iterator[str]:
    if subject.about is None:
        yield f"readers will see the name of its source: {subject.distilled.card.source.name}"
    if not subject.results:
        yield "no result goes with it, so that its registry entry claims nothing: give `result`"
    if subject.results and subject.protocol != subject.results[subject.claim or ""].protocol:
        yield "no result is under a protocol of this project, so that its registry entry claims nothing"
    if subject.url is None:
        yield f"{ENTRY} does not say where the folder lies: write its address there, or give `url`"
