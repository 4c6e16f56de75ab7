"""GraphCut, and Dataset Quantization: every class divided into bins by graph cut, and images drawn from every bin.

Sources: Zhou et al., "Dataset Quantization" (ICCV 2023), magic-research/Dataset_Quantization 24a2a77, and GraphCut of
PatrickZH/DeepCore 74ec709. DQ's second step, which drops patches of pixels and has a masked autoencoder paint them in
again, is left out: it saves no byte of a file, and needs a network of 1.3 GB.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.decoupled.relabel import teacher_of, teacher_pieces
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.methods.selection.graph_cut import (
    Softmax,
    graph_cut,
    graph_cut_bins,
    logit_gradients,
    shares,
    similarities,
)
from distill_bench.methods.selection.selection import SelectionConfig, classifier_of, select


class GraphCutConfig(SelectionConfig):
    """Fields of GraphCut.

    Attributes:
        softmax: whether the gradients that images are compared by are those of the cross-entropy (``once``), or of one
            that takes probabilities for logits (``twice``).
        weight: λ, how much it counts that images are like the others of their pool, against unlike each other.
        pool: so many random images of a class are looked at, or all where there are fewer.
    """

    memory_fields = ("teacher.batch_size", "pool")

    softmax: Softmax = "once"
    weight: PositiveFloat = 1.0
    pool: PositiveInt = 10_000

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: what the teacher takes, or two matrices of the similarities of a class."""
        largest = min(self.pool, max(map(len, dataset.train.class_indices)))
        return max(super().step_bytes(dataset, ipc), 2 * 4 * largest**2)


class QuantizationConfig(GraphCutConfig):
    """Fields of DQ.

    Attributes:
        bins: into how many the images of a class are divided.
    """

    bins: PositiveInt = 10

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if a class has fewer images than bins."""
        for name, indices in zip(dataset.class_names, dataset.train.class_indices, strict=True):
            if (looked_at := min(self.pool, len(indices))) < self.bins:
                raise UsageError(
                    f"`bins={self.bins}`: {looked_at} images of class {name!r} are looked at. Give {looked_at} or less."
                )


@method(GraphCutConfig, pretrained=teacher_pieces, selects=True)
def graph_cut_selection(run: Run[GraphCutConfig]) -> SynthesisResult:
    """The images that a graph cut chooses of every class."""

    def choose(similarity: Tensor, label: int) -> Tensor:
        return graph_cut(similarity, run.counts[label], run.config.weight)

    return _select_by_similarity(run, choose)


@method(QuantizationConfig, pretrained=teacher_pieces, selects=True)
def dataset_quantization(run: Run[QuantizationConfig]) -> SynthesisResult:
    """DQ: the images drawn from every bin of every class, uniformly and in proportion to the bins' sizes."""

    def choose(similarity: Tensor, label: int) -> Tensor:
        bins = graph_cut_bins(similarity, run.config.bins, run.config.weight)
        counts = shares([len(own) for own in bins], run.counts[label], run.generator("remainders", label))
        draws = run.generator("bins", label)
        drawn = zip(bins, counts, strict=True)
        return torch.cat([own[torch.randperm(len(own), generator=draws)[:count]] for own, count in drawn])

    return _select_by_similarity(run, choose)


def _select_by_similarity(run: Run[Any], choose: Callable[[Tensor, int], Tensor]) -> SynthesisResult:
    """The images that ``choose`` picks of every class, given the similarities float32 [n, n] of those looked at."""
    network = teacher_of(run).network
    classifier = classifier_of(network)

    def choose_of_pool(features: Tensor, label: int) -> Tensor:
        order = torch.randperm(len(features), generator=run.generator("pool", label))
        pool = order[: max(run.config.pool, run.counts[label])].sort().values
        own, labels = features[pool], torch.full((len(pool),), label)
        gradients = logit_gradients(F.linear(own, *classifier), labels, run.config.softmax)
        return pool[choose(similarities(gradients.float(), own.float()), label)]

    return select(run, network, choose_of_pool)
