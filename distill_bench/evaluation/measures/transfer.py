"""Cross-architecture evaluation: what networks learn from a set that was made for one of them.

Source: Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021); the networks are those of its
repository and a small vision transformer.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.distilled.card import Card
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import RunFailed, UsageError
from distill_bench.evaluation import Result, evaluate, protocol_for
from distill_bench.evaluation.compare import with_half_width
from distill_bench.evaluation.measures.networks import fitting
from distill_bench.networks import ARCHITECTURES, resolve_network
from distill_bench.networks.network import Shape
from distill_bench.runtime.progress import SILENT, Monitor


class Transfer(BaseModel):
    """A set's scores on several networks.

    Attributes:
        scores: one a network, the protocol's own first unless others were asked for.
        left_out: networks without a score, and why: they cannot take the resolution, or their training diverged.
        made_with: the network the set was made with, where its card says.
        protocol_network: the protocol's network, which stands in where the card does not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["transfer"] = "transfer"
    scores: tuple[Result, ...]
    left_out: dict[str, str]
    made_with: str | None
    protocol_network: str

    @property
    def home(self) -> str:
        """The network that is no transfer."""
        return self.made_with or self.protocol_network

    @property
    def about_home(self) -> str:
        """What the mean leaves out and why, in words."""
        absent = "" if self.home in [score.network for score in self.scores] else ", which is not measured here"
        if self.made_with is None:
            return f"{self.home} is the protocol's network{absent}; the card names none that the set was made with."
        return f"{self.home} is the network that the set was made with{absent}."

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean_of_others(self) -> float | None:
        """Mean accuracy, in percent, over all networks but ``home``; None if fewer than two have a score."""
        others = [score.accuracy for score in self.scores if score.network != self.home]
        return fmean(others) if len(self.scores) > 1 else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the scores must know; of all of them, each once."""
        return tuple(dict.fromkeys(note for score in self.scores for note in score.notes))


def shown(score: Result) -> str:
    """Accuracy, with half of its 95 % interval over networks where there are several."""
    return with_half_width(score.accuracy, score.half_width)


def transfer(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    names: Sequence[str] = (),
    networks: int | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    allow_leak: bool = False,
) -> Transfer:
    """Evaluate one set on network after network, everything else as the protocol (the card's unless given) says.

    Args:
        distilled, dataset, protocol, labels, device, monitor, cache, allow_leak: as for ``evaluate``.
        names: of the networks; by default the protocol's own and all of ``ARCHITECTURES`` that take the resolution.
        networks: how many of each are trained, instead of the protocol's usual number.

    Returns:
        The scores, and which networks have none.

    Raises:
        UsageError: as ``evaluate``, or a network that was asked for is unknown or cannot take the resolution.
        RunFailed: the training of every network diverged.
        Interrupted: the monitor was asked to stop.
    """
    card, rules = distilled.card, protocol_for(distilled, protocol)
    dataset = dataset or dataset_of(card.source)
    protocol, shape = rules.id, dataset.train.shape
    own = resolve_network(rules.for_dataset(dataset.name).network, shape)
    chosen, left_out = fitting(names, (own, *ARCHITECTURES), shape, len(dataset.class_names))
    options: dict[str, Any] = {"device": device, "monitor": monitor, "cache": cache, "allow_leak": allow_leak}
    scores = []
    for name in chosen:
        try:
            scores.append(evaluate(distilled, dataset, protocol, name, networks, labels, **options))
        except RunFailed as error:
            left_out[name] = str(error)
    if not scores:
        raise RunFailed("no network could be trained on the set: " + " ".join(left_out.values()))
    return Transfer(scores=tuple(scores), left_out=left_out, made_with=_made_with(card, shape), protocol_network=own)


_BY_TEACHER = {"bn_weight", "crops"}
"""Fields of recipes whose images a teacher makes or chooses, whatever their labels are."""


def _made_with(card: Card, shape: Shape) -> str | None:
    """The network that a recipe names for synthesis: that of the method that made the images, or of its teacher.

    A teacher is none where it labels nothing and made no images, or the scores are from a file.
    """
    recipe, own = card.recipe, card.recipe.get("selection") or {}
    labels = recipe.get("labels") != "hard" and not recipe.get("scores")
    teacher = recipe.get("teacher") if labels or _BY_TEACHER & recipe.keys() else None
    for values in (own, own.get("teacher"), recipe, teacher):
        if isinstance(values, dict) and isinstance(name := values.get("network"), str):
            with contextlib.suppress(UsageError):  # of a later version
                return resolve_network(name, shape)
    return None
