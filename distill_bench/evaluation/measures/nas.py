"""Architecture search: does a set order networks as the whole training split does?

Source: Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021), section 4.2: ConvNets that differ in
depth, width, norm, activation and pooling, and the rank correlation of their accuracies.
"""

from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset
from distill_bench.errors import RunFailed, UsageError
from distill_bench.evaluation import Result, evaluate, evaluate_full, load_protocol, protocol_for
from distill_bench.evaluation.measures.measured import Estimated, Measured, check_whole, epochs_of, facts_of, one_stage
from distill_bench.evaluation.measures.networks import fitting
from distill_bench.evaluation.rank_statistics import spearman
from distill_bench.runtime.progress import SILENT, Monitor

REFERENCE = "full-v1"
SPACE = tuple(
    f"ConvNetD{depth}W{width}{norm}{activation}{pooling}"
    for depth, width, norm, activation, pooling in product(
        (1, 2, 3), (32, 128), ("NN", "IN"), ("AR", "AS"), ("MP", "AP")
    )
)
"""48 ConvNets: depth 1 to 3, width 32 or 128, no norm or instance norm, ReLU or sigmoid, max or average pooling."""


class Candidate(BaseModel):
    """A network of the space.

    Attributes:
        network: its name.
        on_set: accuracy in percent after training on the set; the mean over networks.
        on_whole: the same after training on the whole training split.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    network: str
    on_set: float
    on_whole: float


class ArchitectureSearch(Measured):
    """How a set orders the networks of a space.

    Attributes:
        reference: the protocol of the training on the whole split.
        networks: how many of each candidate were trained on either.
        candidates: with both accuracies, in the order of the space.
        left_out: networks without both accuracies, and why.
    """

    kind: Literal["nas"] = "nas"
    reference: str
    networks: int
    candidates: tuple[Candidate, ...]
    left_out: dict[str, str]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def correlation(self) -> Estimated:
        """Spearman's, of the two accuracies over candidates, with Fisher's 95 % interval; see ``spearman``."""
        pairs = [(each.on_set, each.on_whole) for each in self.candidates]
        return Estimated.of(*spearman([on_set for on_set, _ in pairs], [on_whole for _, on_whole in pairs]))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def chosen(self) -> Candidate:
        """The one that the set puts first; of equals the first."""
        return max(self.candidates, key=lambda each: each.on_set)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def best(self) -> Candidate:
        """The one that is first on the whole split; of equals the first."""
        return max(self.candidates, key=lambda each: each.on_whole)


def nas(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    names: tuple[str, ...] = (),
    networks: int = 1,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    allow_leak: bool = False,
) -> ArchitectureSearch:
    """Train every network of a space on the set and on the whole training split, and compare the two orders.

    Args:
        distilled, dataset, protocol, labels, device, monitor, cache, allow_leak: as for ``evaluate``. The cache has the
            accuracies on the whole split too, which are the same for all sets.
        names: of the networks; by default those of ``SPACE`` that take the resolution.
        networks: how many of each are trained, on the set and on the whole split.

    Returns:
        Both accuracies of every network, and their rank correlation.

    Raises:
        UsageError: as ``evaluate``; or a network that was asked for is unknown or does not take the resolution, or
            fewer than two are left.
        RunFailed: fewer than two networks could be trained on both.
        Interrupted: the monitor was asked to stop; the cache has all networks that were tested.
    """
    check_whole(distilled, "nas")
    rules, whole = protocol_for(distilled, protocol), load_protocol(REFERENCE)
    dataset = dataset or dataset_of(distilled.card.source)
    check_same_dataset(distilled, dataset)
    chosen, left_out = fitting(names, SPACE, dataset.train.shape, len(dataset.class_names))
    if len(chosen) < 2:
        raise UsageError(f"an order needs two networks at least; got {', '.join(chosen) or 'none that fit'}.")
    options: dict[str, Any] = {"device": device, "cache": cache}
    scores: list[tuple[Result, Result]] = []
    epochs = epochs_of(rules, dataset, distilled) + epochs_of(whole, dataset, len(dataset.train))
    with one_stage(monitor, f"nas, {distilled.card.method}", len(chosen) * networks * epochs) as part:
        for name in chosen:
            try:
                on_set = evaluate(
                    distilled, dataset, rules.id, name, networks, labels, monitor=part, allow_leak=allow_leak, **options
                )
                scores.append((on_set, evaluate_full(dataset, REFERENCE, name, networks, monitor=part, **options)))
            except RunFailed as error:
                left_out[name] = str(error)
    if len(scores) < 2:
        raise RunFailed("fewer than two networks could be trained on both: " + " ".join(left_out.values()))
    notes = dict.fromkeys(note for pair in scores for result in pair for note in result.notes)
    return ArchitectureSearch(
        **facts_of(distilled, scores[0][0]) | {"notes": tuple(notes)},
        reference=REFERENCE,
        networks=networks,
        candidates=tuple(
            Candidate(network=ours.network, on_set=ours.accuracy, on_whole=theirs.accuracy) for ours, theirs in scores
        ),
        left_out=left_out,
    )
