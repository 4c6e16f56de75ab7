"""What is written about a set that is published: a dataset card as Hugging Face reads it, and a registry entry."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill_bench.datasets import dataset_info
from distill_bench.datasets.info import DatasetInfo
from distill_bench.distilled import compensators
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import UsageError, describe
from distill_bench.evaluation import PROTOCOLS, Result
from distill_bench.evaluation.protocol import is_known
from distill_bench.hub.formats.datasets import VIEWER
from distill_bench.hub.registry.registry import OWN_FORMAT, Entry
from distill_bench.methods.recipe import list_recipes, load_recipe
from distill_bench.networks import resolve_network
from distill_bench.runtime.text import for_json, for_markdown

_NOWHERE = "https://example.org/where-this-folder-lies"
_SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
UNNAMED = "standard-v1"
"""What a registry's entry has for a protocol where a set's own is somebody's, and no result says another."""
_LOADED = {
    "recorded": "recording = Playback.of(distilled)  # recording(epoch, indices): views, and labels for each",
    "distances": "evaluate(distilled)  # trains with the recorded distances",
    "teacher": "teacher = stored_teacher(distilled)  # teacher(images): logits, labels of what is shown",
    "projector": "projector = stored_projector(distilled)  # projector(images): logits, labels of what is shown",
}
"""How a set is used whose labels are no table."""
_VERSIONS = ("torch", "numpy", "python", "git_commit", "device", "threads")


@dataclass(frozen=True)
class SetToPublish:
    """A set, and what is known of it besides its file.

    Attributes:
        content: the file's bytes.
        name: its id.
        licence: an identifier as Hugging Face has them.
        results: by their path in the folder.
        made_with: versions of the code and machine that made it, as far as they are known.
        url: what the file's name is added to for its address, without a slash at the end.
        page: where a reader sees it.
    """

    distilled: DistilledSet
    content: bytes
    name: str
    licence: str
    results: Mapping[str, Result]
    made_with: Mapping[str, Any]
    url: str | None = None
    page: str | None = None

    @property
    def title(self) -> str:
        card = self.distilled.card
        each = f"{card.ipc} image{'s' if card.ipc > 1 else ''} per class"
        return f"{card.method} on {card.source.name}, " + (f"{card.budget} of it" if card.fraction else each)

    @property
    def file(self) -> str:
        return f"{self.name}.safetensors"

    @property
    def sum(self) -> str:
        return sha256(self.content).hexdigest()

    @property
    def about(self) -> DatasetInfo | None:
        """What is known of its source; None of data of one's own."""
        return dataset_info(self.distilled.card.source.name)

    @property
    def claim(self) -> str | None:
        """The path of the result that speaks for the set: under its paper's protocol, on the protocol's own network, of
        most networks, with its labels as they are stored; the one that has most of these, in this order.
        """
        return max(self.results, key=lambda path: self._weight(self.results[path]), default=None)

    @property
    def protocol(self) -> str:
        """The one that the registry names: the claim's, else the card's; ``UNNAMED`` where neither is one of ours."""
        best = None if self.claim is None else self.results[self.claim].protocol
        return next((name for name in (best, self.distilled.card.protocol) if name and is_known(name)), UNNAMED)

    def _weight(self, result: Result) -> tuple[bool, bool, int, bool]:
        card = self.distilled.card
        rules = PROTOCOLS.get(result.protocol)  # what a file names is never imported
        channels, height, width = self.distilled.images.shape[1:]
        usual = rules is not None and result.network == resolve_network(
            rules.for_dataset(card.source.name).network, (channels, height, width)
        )
        return result.protocol == card.protocol, usual, result.networks, not result.strict


def dataset_card(subject: SetToPublish) -> str:
    """The README: front matter as Hugging Face reads it, then all that a reader must know."""
    distilled, card, count = subject.distilled, subject.distilled.card, len(subject.distilled.images)
    paper = _cited(distilled)
    identifier = re.search(r"arXiv (\d{4}\.\d{4,5})", paper or "")
    tags = ["dataset-distillation", "distill-bench", card.method, card.source.name]
    return _rendered(
        "dataset_card.md.j2",
        subject=subject,
        viewer=VIEWER,
        size_category=next((label for most, label in _SIZE_CATEGORIES if count < most), "1M<n<10M"),
        tags=tags + ([f"arxiv:{identifier[1]}"] if identifier else []),
        facts=_facts(subject),
        loaded=_loaded(distilled),
        recipe=for_json(card.recipe, indent=1),
        notes=sorted({note for result in subject.results.values() for note in result.notes}),
        paper=paper,
    )


def registry_entry(subject: SetToPublish) -> str:
    """A table for a registry, checked to be valid there.

    Raises:
        UsageError: it is not, as with an address that files may not be fetched from.
    """
    page = subject.page or _NOWHERE
    text = _rendered("registry_entry.toml.j2", subject=subject, importer=OWN_FORMAT, page=page)
    try:
        Entry.model_validate(tomllib.loads(text)[subject.name])
    except ValidationError as error:
        raise UsageError(f"this makes no valid registry entry: {describe(error)}.") from error
    return text


def _cited(distilled: DistilledSet) -> str | None:
    """How the paper of a set's method is cited; None if nothing is known of it."""
    if distilled.card.method not in list_recipes():
        return distilled.card.paper
    recipe = load_recipe(distilled.card.method)
    return ". ".join(filter(None, (recipe.title, distilled.card.paper or recipe.paper)))


def _loaded(distilled: DistilledSet) -> list[str]:
    """The lines of Python that load a set, by what its labels are."""
    card = distilled.card
    use = _LOADED.get(card.label_kind)
    if use is None:
        kinds = f"labels are {card.label_kind}, pixels {card.pixel_space.kind}"
        use = f"dataset = distilled.to_dataset()  # of (image, label); {kinds}"
    own = sorted({"load_distilled", *re.findall(r"(Playback|stored_teacher|stored_projector|evaluate)[.(]", use)})
    return [f"from distill_bench import {', '.join(own)}", use]


def _facts(subject: SetToPublish) -> dict[str, str]:
    distilled, run = subject.distilled, subject.made_with
    card = distilled.card
    facts = {
        "method": card.method,
        "preset": card.preset,
        "seed": card.seed,
        "source": card.source.name
        + (f" at {card.source.size} px" if card.source.size else "")
        + (f", {card.source.holdout:g} of its training split held out" if card.source.holdout else "")
        + (", not mirrored" if card.source.flip_invariant is False else "")
        + (f", its classes {', '.join(card.source.classes)} alone" if card.source.classes else ""),
        "training images' fingerprint": card.source.train_fingerprint,
        "pixels": card.pixel_space.kind,
        "labels": card.label_kind,
        "temperature": None if card.temperature == 1 else f"{card.temperature:g}",
        "weight of the teacher's labels": card.alpha if card.alpha < 1 else None,
        "weight of the distances": card.distance_weight if card.label_kind == "distances" else None,
        "every image holds": None if card.formation == 1 else f"{card.formation}×{card.formation} smaller ones",
        "compensators": f"of every image {forms - 1} more are shown"
        if (forms := compensators.forms(distilled)) > 1
        else None,
        "external weights needed": "; ".join(f"{w.id}, {w.bytes:,} bytes, sha256 {w.sha256}" for w in card.requires)
        or None,
        "learning rate": subject.distilled.learning_rate,
        "the paper's protocol": card.protocol,
        **{name.replace("_", " "): run.get(name) for name in _VERSIONS},
        "code": "as in the commit, with changes" if run.get("dirty") else None,
        "versions": None if run else "not recorded",
        "sha256": subject.sum,
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _rendered(template: str, **values: Any) -> str:
    import jinja2  # here, because importing it takes a moment

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters["quoted"] = lambda text: for_json(str(text))  # YAML and TOML read it too
    environment.filters["plain"] = lambda text: for_markdown(str(text))
    return environment.from_string(Path(__file__).with_name(template).read_text(encoding="utf-8")).render(**values)
