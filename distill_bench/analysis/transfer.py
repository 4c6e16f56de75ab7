"""Cross-architecture evaluation: what networks learn from a set that was made for one of them.

Source: Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021); the networks are those of its
repository and a small vision transformer.
"""

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from distill_bench.data_card import source_of
from distill_bench.distilled_set import DistilledSet
from distill_bench.errors import RunFailed, UsageError
from distill_bench.evaluation import KeptNetworks, Score, evaluate, load_protocol, runs_compiled, score_key
from distill_bench.networks import NAMED, check_network
from distill_bench.progress import SILENT, Monitor
from distill_bench.sources import Source


class Transfer(BaseModel):
    """A set's scores on several networks.

    Attributes:
        scores: one a network, the protocol's own first unless others were asked for.
        left_out: networks without a score, and why: they cannot take the resolution, or their training diverged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["transfer"] = "transfer"
    scores: tuple[Score, ...]
    left_out: dict[str, str]

    @property
    def mean_of_others(self) -> float | None:
        """Mean accuracy, in percent, over all networks but the first; None where there is no other."""
        others = [score.accuracy for score in self.scores[1:]]
        return fmean(others) if others else None


def shown(score: Score) -> str:
    """Accuracy, with the standard deviation over networks where there are several."""
    return f"{score.accuracy:.1f}" + (f" ± {score.std:.1f}" if score.networks > 1 else "")


def transfer(
    distilled: DistilledSet,
    source: Source | None = None,
    protocol: str = "standard-v1",
    names: Sequence[str] = (),
    networks: int | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
) -> Transfer:
    """Evaluate one set on network after network, everything else as the protocol says.

    Accuracies are kept in the cache, so that what was cut off goes on and more networks can join later.

    Args:
        names: of the networks; by default the protocol's own and all of ``networks.NAMED`` that take the resolution.
        networks: how many of each are trained, instead of the protocol's usual number.

    Raises:
        UsageError: as ``evaluate``, or a network that was asked for is unknown or cannot take the resolution.
        RunFailed: the training of every network diverged.
        Interrupted: the monitor was asked to stop.
    """
    card = distilled.card
    source = source or source_of(card.source)
    shape = source.train.shape
    left_out: dict[str, str] = {}
    chosen: list[str] = []
    for name in names or (load_protocol(protocol).network, *NAMED):
        try:
            chosen.append(check_network(name, shape))
        except UsageError as error:
            if names:
                raise
            left_out[name] = str(error)
    scores = []
    for name in dict.fromkeys(chosen):
        kept = KeptNetworks(score_key(source, protocol, distilled, labels, name))
        images = len(distilled.images)
        how = kept.settle(partial(runs_compiled, source, protocol, images, name, device=device, compile="auto"))
        options: dict[str, Any] = {"kept": kept, "device": device, "monitor": monitor, "compile": how}
        try:
            scores.append(evaluate(distilled, source, protocol, name, networks, labels, **options))
        except RunFailed as error:
            left_out[name] = str(error)
    if not scores:
        raise RunFailed("no network could be trained on the set: " + " ".join(left_out.values()))
    return Transfer(scores=tuple(scores), left_out=left_out)
