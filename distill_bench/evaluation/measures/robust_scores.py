"""DD-Ranking's scores: what of an accuracy is the images', rather than the labels' or the augmentation's.

Source: Li et al., "DD-Ranking: Rethinking the Evaluation of Dataset Distillation" (2025, arXiv 2505.13300): the
label-robust score (LRS) and the augmentation-robust score (ARS). Accuracies are fractions in their formulas, so that a
score lies in 0 … 1.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import computed_field

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.distilled.card import Card
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset
from distill_bench.distilled.recorded_labels import RECORDED_KINDS
from distill_bench.errors import UsageError
from distill_bench.evaluation import Result, evaluate, evaluate_full, load_protocol, protocol_for
from distill_bench.evaluation.measures.measured import Estimated, Measured, check_whole, epochs_of, facts_of, one_stage
from distill_bench.evaluation.protocol import WITHOUT_AUGMENTATION
from distill_bench.runtime.progress import SILENT, Monitor

_TABLES = ("logits", "probabilities", "weights")
_ALIKE: dict[str, Callable[[Card], Any]] = {
    "pixels": lambda card: card.pixel_space.kind,
    "smaller images a side of each": lambda card: card.formation,
    "labels": lambda card: "soft" if card.trained_kind in _TABLES else card.trained_kind,
}
"""In what a set and its random images are to be alike, by what it is called."""

REFERENCE = "full-v1"
WEIGHT = 0.5
"""Of the improvement over random in LRS, and of the augmented pair in ARS: the leaderboard's."""


def normalised(gain: float) -> float:
    """DD-Ranking's map of a weighted gain in −1 … 1 to a score in 0 … 1: (e^α − e⁻¹) / (e − e⁻¹).

    >>> normalised(-1.0), round(normalised(0.0), 6), normalised(1.0)
    (0.0, 0.268941, 1.0)
    """
    return (math.exp(gain) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust_gain(improvement: float, recovery: float, weight: float = WEIGHT) -> float:
    """α = w · IOR − (1 − w) · HLR.

    Args:
        improvement: IOR, accuracy of the set minus that of random images with labels of the same kind, each trained on
            at its own learning rate, where it has one; a fraction.
        recovery: HLR, accuracy of the whole training split minus that of the set with hard labels; a fraction.
        weight: w, in 0 … 1.

    Returns:
        α, in −1 … 1.
    """
    return weight * improvement - (1 - weight) * recovery


def augmentation_robust_gain(augmented: float, plain: float, weight: float = WEIGHT) -> float:
    """β = γ · (set − random, both augmented) + (1 − γ) · (set − random, both as they are).

    Args:
        augmented, plain: differences of accuracies, fractions.
        weight: γ, in 0 … 1.

    Returns:
        β, in −1 … 1.
    """
    return weight * augmented + (1 - weight) * plain


class RobustScore(Measured):
    """A score of DD-Ranking's, in 0 … 1; and what it is made of, as fractions.

    Attributes:
        kind: which of the two.
        weight: of its first part.
        network: that was trained.
        gains: of every network number, the weighted gain.
        parts: the two differences by name, means over networks: ``IOR`` and ``HLR``, or ``augmented`` and ``plain``.
        accuracies: of the networks by what they were trained on, in percent: ``whole``, ``hard``, ``set``, ``random``;
            or ``set``, ``random``, ``set plain`` and ``random plain``.
        random_sha256: of the random images beside it.
    """

    kind: Literal["lrs", "ars"]
    weight: float
    network: str
    gains: tuple[float, ...]
    parts: dict[str, Estimated]
    accuracies: dict[str, tuple[float, ...]]
    random_sha256: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def score(self) -> Estimated:
        """Of the mean gain; its 95 % interval is Student's over networks, mapped as the gain is."""
        gain = Estimated.mean(self.gains, -1, 1)
        value, *ends = (None if end is None else normalised(end) for end in (gain.value, gain.ci_low, gain.ci_high))
        return Estimated(value=value, ci_low=ends[0], ci_high=ends[1])


def lrs(
    distilled: DistilledSet,
    random: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | None = None,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    allow_leak: bool = False,
) -> RobustScore:
    """The label-robust score.

    Args:
        distilled, dataset, protocol, network, networks, device, monitor, cache, allow_leak: as for ``evaluate``. The
            whole training split is trained on under ``full-v1``, by as many networks.
        random: random images, as many, with labels of the same kind.

    Returns:
        The score with HLR and IOR.

    Raises:
        UsageError: as ``evaluate``, or the random images are more or fewer, or unlike the set but for what they show.
        RunFailed: a network's training diverged.
        Interrupted: the monitor was asked to stop; the cache has all networks that were tested.
    """
    rules, dataset = protocol_for(distilled, protocol), _data(distilled, random, dataset, "stored")
    count = rules.networks if networks is None else networks
    options: dict[str, Any] = {"device": device, "cache": cache}
    whole_epochs = epochs_of(load_protocol(REFERENCE), dataset, len(dataset.train))
    sets = 3 if distilled.has_strict_score else 2
    total = count * (whole_epochs + sets * epochs_of(rules, dataset, distilled))
    with one_stage(monitor, f"lrs, {distilled.card.method}", total) as part:
        about: dict[str, Any] = {"monitor": part, "allow_leak": allow_leak} | options
        ours, theirs = (evaluate(each, dataset, rules.id, network, count, **about) for each in (distilled, random))
        strict = distilled.has_strict_score
        hard = evaluate(distilled, dataset, rules.id, network, count, "hard", **about) if strict else ours
        whole = evaluate_full(dataset, REFERENCE, ours.network, count, monitor=part, **options)
    improvement, recovery = _gap(ours, theirs), _gap(whole, hard)
    gains = map(label_robust_gain, improvement, recovery)
    results = {"whole": whole, "hard": hard, "set": ours, "random": theirs}
    return _score("lrs", distilled, random, results, gains, {"IOR": improvement, "HLR": recovery})


def ars(
    distilled: DistilledSet,
    random: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    allow_leak: bool = False,
) -> RobustScore:
    """The augmentation-robust score: under the protocol, and under the same one without augmentation.

    Args:
        distilled, dataset, protocol, network, networks, labels, device, monitor, cache, allow_leak: as for
            ``evaluate``.
        random: random images, as many, with labels of the same kind.

    Returns:
        The score with the gains over random, augmented and plain.

    Raises:
        UsageError: as ``evaluate``; the random images are more or fewer, or unlike the set but for what they show; the
            protocol does not augment; or the labels are recorded, of which each belongs to a view.
        RunFailed: a network's training diverged.
        Interrupted: the monitor was asked to stop; the cache has all networks that were tested.
    """
    if labels == "stored" and distilled.card.label_kind in RECORDED_KINDS:
        raise UsageError(
            "the set's labels are recorded, each for a view of an image, which cannot be had without its view: measure "
            "it with `labels=hard`."
        )
    rules, dataset = protocol_for(distilled, protocol), _data(distilled, random, dataset, labels)
    if rules.for_dataset(dataset.name).augmentation == "none":
        raise UsageError(f"{rules.id} does not augment images of {dataset.name}: name another `protocol`.")
    count = rules.networks if networks is None else networks
    total = 4 * count * epochs_of(rules, dataset, distilled)
    about: dict[str, Any] = {"device": device, "cache": cache, "allow_leak": allow_leak}
    with one_stage(monitor, f"ars, {distilled.card.method}", total) as part:
        results = {
            name + when: evaluate(each, dataset, rules.id + ending, network, count, labels, monitor=part, **about)
            for when, ending in (("", ""), (" plain", WITHOUT_AUGMENTATION))
            for name, each in (("set", distilled), ("random", random))
        }
    augmented, plain = (_gap(results[f"set{when}"], results[f"random{when}"]) for when in ("", " plain"))
    gains = map(augmentation_robust_gain, augmented, plain)
    return _score("ars", distilled, random, results, gains, {"augmented": augmented, "plain": plain})


def _score(
    kind: Literal["lrs", "ars"],
    distilled: DistilledSet,
    random: DistilledSet,
    results: dict[str, Result],
    gains: Iterable[float],
    parts: dict[str, Sequence[float]],
) -> RobustScore:
    """The score of gains, with what they are made of; ``results["set"]`` is the set's own."""
    ours = results["set"]
    same = torch.equal(distilled.images, random.images)
    notes = (*ours.notes, *(["the random images are the set's own: there is no gain to be had"] if same else []))
    return RobustScore(
        **facts_of(distilled, ours) | {"notes": notes},
        kind=kind,
        weight=WEIGHT,
        network=ours.network,
        gains=tuple(gains),
        parts={name: Estimated.mean(values, -1, 1) for name, values in parts.items()},
        accuracies={name: result.accuracies for name, result in results.items()},
        random_sha256=random.sha256,
    )


def _data(distilled: DistilledSet, random: DistilledSet, dataset: Dataset | None, labels: str) -> Dataset:
    """Where both sets are tested; UsageError unless they are as large, and alike but for their images."""
    dataset = dataset or dataset_of(distilled.card.source)
    for each in (distilled, random):
        check_whole(each, "lrs or ars")
        check_same_dataset(each, dataset)
    if len(random.images) != len(distilled.images):
        raise UsageError(
            f"the set has {len(distilled.images)} images, the random one {len(random.images)}: give one of as many, "
            "`random=…`."
        )
    for what, of in _ALIKE.items():
        own, other = of(distilled.card), of(random.card)
        if own != other and (what != "labels" or labels == "stored"):
            raise UsageError(
                f"the set's {what}: {own}; the random one's: {other}. The difference would be that of both: give "
                "random images that are alike, `random=…`."
            )
    return dataset


def _gap(first: Result, second: Result) -> Sequence[float]:
    """Of network after network, how far the accuracy of one is above the other's, as a fraction."""
    return [(a - b) / 100 for a, b in zip(first.accuracies, second.accuracies, strict=True)]
