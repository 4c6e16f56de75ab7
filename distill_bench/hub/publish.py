"""A distilled set made ready for others: its file, a dataset card, a preview, its results, a registry entry."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from distill_bench.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import Score
from distill_bench.hub.result_file import Claimed, check_belongs, parse_result, read_result
from distill_bench.recipes import list_recipes, load_recipe
from distill_bench.render import grid
from distill_bench.sources.about import ABOUT, About
from distill_bench.storage import home, log, read_json, write_atomically

TEMPLATES = Path(__file__).parent
CARD, PREVIEW, ENTRY = "README.md", "preview.png", "registry-entry.toml"
MOST_TILES = 1000
SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
VERSIONS = ("torch", "numpy", "python", "git_commit", "dirty", "device", "threads")
ID = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class Release:
    """A set as it is published.

    Attributes:
        name: its id, and the file's name without ending.
        files: content by name.
        remarks: what its publisher should know.
    """

    name: str
    files: Mapping[str, bytes]
    remarks: tuple[str, ...] = ()


def release(
    file: Path,
    results: Sequence[Path] = (),
    *,
    name: str | None = None,
    licence: str | None = None,
    url: str | None = None,
) -> Release:
    """Everything that is published of a set: a pure function of the arguments, the set's run file and the store.

    Args:
        file: a set as ``DistilledSet.save`` writes it.
        results: what ``evaluate --json`` or ``bench`` wrote of this set, besides what the store has of it.
        name: the id; ``<method>-<dataset>-ipc<k>`` unless given.
        licence: an identifier such as ``cc-by-4.0``; that of the set, else of its source, unless given.
        url: the folder or repository where the files will be found.

    Raises:
        UsageError: the file is of another format, or name or licence have to be given.
        DataError: a file is damaged, or a result is of another set.
    """
    if file.suffix != ".safetensors":
        raise UsageError(
            f"{file}: only sets in this project's own format are published. Turn it into one with distill-bench import "
            f"{file} --dataset … --out {file.stem}.safetensors, look at it, and publish that."
        )
    made = load_distilled(file)
    content = file.read_bytes()
    own = checked_name(name or default_name(made))
    terms = licence or made.card.licence or (about.licence if (about := about_source(made)) else None)
    if terms is None:
        raise UsageError(
            f"the licence of {made.card.source.name} is not known here. Say under which one you publish what was made "
            "from it, with --licence, such as --licence cc-by-4.0 (other: terms of your own)."
        )
    scored = _results(made, file, results)
    files = {
        f"{own}.safetensors": content,
        PREVIEW: grid(made, columns=max(1, min(10, MOST_TILES // len(made.card.class_names)))),
        **{path: text for path, (_, text) in scored.items()},
    }
    found = {path: claimed for path, (claimed, _) in scored.items()}
    files[CARD] = dataset_card(made, own, content, terms, found, _made_with(file, found), url).encode()
    remarks = () if about_source(made) else (f"readers will see the name of its source: {made.card.source.name}",)
    return Release(own, dict(sorted(files.items())), remarks)


def write_release(made: Release, folder: Path) -> None:
    """Write a release into a folder of its own.

    Raises:
        UsageError: the folder holds something else already; nothing was written.
        DataError: it cannot be written.
    """
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    strange = sorted(set(there) - set(made.files))
    changed = sorted(
        name for name, path in there.items() if name in made.files and path.read_bytes() != made.files[name]
    )
    if folder.exists() and (not folder.is_dir() or strange or changed):
        what = ", ".join([*strange, *(f"{name} with other content" for name in changed)][:5]) or "a file"
        raise UsageError(
            f"{folder} holds {what}, and is left as it is. Give another --out, or delete it if it may be replaced."
        )
    for name, content in made.files.items():
        write_atomically(folder / name, content)


def default_name(made: DistilledSet) -> str:
    """``<method>-<dataset>-ipc<k>``, of data of one's own the last part of the path."""
    dataset = made.card.source.name.rpartition(":")[2].rstrip("/").rpartition("/")[2]
    return re.sub(r"[^a-z0-9._]+", "-", f"{made.card.method}-{dataset}-ipc{made.card.ipc}".lower()).strip("-._")


def checked_name(name: str) -> str:
    if not ID.fullmatch(name):
        raise UsageError(
            f"--id {name!r}: give small letters, digits, dots, hyphens and underscores, as in dm-cifar10-ipc1."
        )
    return name


def about_source(made: DistilledSet) -> About | None:
    """What is known of a set's source; None of data of one's own."""
    return ABOUT.get(made.card.source.name)


def dataset_card(
    made: DistilledSet,
    name: str,
    content: bytes,
    licence: str,
    results: Mapping[str, Claimed],
    versions: Mapping[str, Any],
    url: str | None = None,
) -> str:
    """The README: front matter as Hugging Face reads it, then all that a reader must know.

    Args:
        content: the file's bytes.
        results: by their path in the folder.
        versions: of the code and machine the set was made with, as far as they are known.
        url: the folder where the file will be found.
    """
    card, count = made.card, len(made.images)
    paper = cited(made)
    identifier = re.search(r"arXiv (\d{4}\.\d{4,5})", paper or "")
    tags = ["dataset-distillation", "distill-bench", card.method, card.source.name]
    rows = [(claimed.score, path) for path, claimed in results.items()]
    return _rendered(
        "dataset_card.md.j2",
        card=card,
        source=card.source,
        about=about_source(made),
        title=f"{card.method} on {card.source.name}, {card.ipc} image{'s' if card.ipc > 1 else ''} per class",
        licence=licence,
        size_category=next((label for most, label in SIZE_CATEGORIES if count < most), "1M<n<10M"),
        tags=tags + ([f"arxiv:{identifier[1]}"] if identifier else []),
        file=f"{name}.safetensors",
        url=url and url.rstrip("/"),
        images=count,
        shape=" × ".join(map(str, made.images.shape[1:])),
        bytes=made.nbytes,
        protocol=_best(rows).protocol if rows else card.protocol,
        facts=_facts(made, content, versions),
        recipe=json.dumps(card.recipe, indent=1, sort_keys=True, ensure_ascii=False),
        rows=rows,
        notes=sorted({note for score, _ in rows for note in score.notes}),
        paper=paper,
    )


def cited(made: DistilledSet) -> str | None:
    """How the paper of a set's method is cited; None where nothing is known of it."""
    if made.card.method not in list_recipes():
        return made.card.paper
    recipe = load_recipe(made.card.method)
    return ". ".join(filter(None, (recipe.title, made.card.paper or recipe.paper)))


def _facts(made: DistilledSet, content: bytes, versions: Mapping[str, Any]) -> dict[str, str]:
    card, dirty = made.card, versions.get("dirty")
    facts: dict[str, Any] = {
        "method": card.method,
        "preset": card.preset,
        "seed": card.seed,
        "source": card.source.name
        + (f" at {card.source.size} px" if card.source.size else "")
        + (f", {card.source.holdout:g} of its training split held out" if card.source.holdout else ""),
        "training images' fingerprint": card.source.train_fingerprint,
        "pixels": card.pixel_space.kind,
        "labels": card.label_kind,
        "learning rate": made.learning_rate,
        "the paper's protocol": card.protocol,
        **{name.replace("_", " "): versions.get(name) for name in VERSIONS},
        "sha256": sha256(content).hexdigest(),
    }
    facts["dirty"] = None if dirty is None else "yes: the code differed from the commit" if dirty else "no"
    if not versions:
        facts["versions"] = "not recorded"
    return {name: str(value) for name, value in facts.items() if value is not None}


def _made_with(file: Path, results: Mapping[str, Claimed]) -> dict[str, Any]:
    """Versions and machine of the synthesis: from the run file beside the set, else from a result that says."""
    beside = read_json(file.with_suffix(".run.json"), "torch")
    return beside or next((claimed.synthesis for claimed in results.values() if claimed.synthesis), {})


def _results(made: DistilledSet, file: Path, paths: Sequence[Path]) -> dict[str, tuple[Claimed, bytes]]:
    """Results with their text, by their path in the folder: those given, then the store's of other conditions."""
    found: dict[tuple[Any, ...], tuple[Claimed, bytes]] = {}
    for path in paths:
        claimed = read_result(path)
        check_belongs(claimed, path, made, file)
        key = _condition(claimed.score)
        if key in found:
            raise UsageError(f"{path}: a second result under {' '.join(map(str, key))}. Give one --result of each.")
        found[key] = claimed, path.read_bytes()
    for claimed, text in _stored_results(made, file):
        found.setdefault(_condition(claimed.score), (claimed, text))
    kinds = [key[:3] for key in found]
    return {
        "results/"
        + re.sub(r"[^\w.-]+", "-", "-".join(key[:3]) + ("" if kinds.count(key[:3]) == 1 else f"-lr{key[3]:g}"))
        + ".json": found[key]
        for key in sorted(found)
    }


def _condition(score: Score) -> tuple[Any, ...]:
    return score.protocol, score.network, score.labels, score.learning_rate


def _stored_results(made: DistilledSet, file: Path) -> list[tuple[Claimed, bytes]]:
    found = []
    for path in sorted((home() / "store" / "scores").glob("*.json")):
        content = {} if path.name.endswith(".networks.json") else read_json(path, "accuracies")
        if not content or content.get("set_sha256") != made.sha256:
            continue
        try:
            claimed = parse_result(content, path)
            check_belongs(claimed, path, made, file)
        except DataError as error:
            log.warning("%s It is left out.", error)
            continue
        found.append((claimed, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()))
    return sorted(found, key=lambda item: -item[0].score.networks)


def _best(rows: Sequence[tuple[Score, str]]) -> Score:
    """The result that speaks for a set: of most networks, as stored before strict ones."""
    return max((score for score, _ in rows), key=lambda score: (score.networks, score.labels != "hard"))


def _rendered(template: str, **values: Any) -> str:
    import jinja2  # here, because importing it takes a moment

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["quoted"] = lambda text: json.dumps(str(text), ensure_ascii=False)  # YAML and TOML read it too
    environment.filters["plain"] = lambda text: " ".join(str(text).split()).replace("|", "\\|")
    return environment.from_string((TEMPLATES / template).read_text(encoding="utf-8")).render(**values)
