"""Graph cut: images that stand for all and are unlike each other; and the bins of Dataset Quantization.

Sources: PatrickZH/DeepCore 74ec709 (GraphCut), magic-research/Dataset_Quantization 24a2a77, and Zhou et al., "Dataset
Quantization" (ICCV 2023).
"""

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn import functional as F

Softmax = Literal["once", "twice"]


def logit_gradients(
    logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], softmax: Softmax
) -> Float[Tensor, "n k"]:
    """The gradient of every image's own loss by its logits.

    Once: of the cross-entropy, p − ȳ with p = softmax(z). Twice: of a cross-entropy that takes p for logits, as
    Dataset_Quantization has it: p ∘ (r − ⟨p, r⟩) with r = softmax(p) − ȳ.

    Args:
        logits: of a network.
        labels: the classes.
        softmax: which of the two.

    Returns:
        Rows that sum to 0.
    """
    p, one_hot = logits.softmax(dim=1), F.one_hot(labels, logits.shape[1])
    if softmax == "once":
        return p - one_hot
    r = p.softmax(dim=1) - one_hot
    return p * (r - (p * r).sum(dim=1, keepdim=True))


def similarities(gradients: Float[Tensor, "n k"], embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """½ + ½ cos of the rows [g, g ⊗ e]: the gradients of the last layer's biases and weights.

    The cosine is cos(g_i, g_j) · cos((1, e_i), (1, e_j)), so the k · (1 + d) numbers of a row are never made. A row of
    zeros is as near to all as it is far: ½.

    Args:
        gradients: g, by the logits.
        embeddings: e, what goes into the classifier.

    Returns:
        From 0 to 1, symmetric.
    """
    g, e = F.normalize(gradients, dim=1), F.normalize(F.pad(embeddings, (1, 0), value=1.0), dim=1)
    return (g @ g.mT).mul_(e @ e.mT).add_(1).div_(2)


def graph_cut(similarity: Float[Tensor, "n n"], count: int, weight: float = 1.0) -> Int64[Tensor, " k"]:
    """Indices of ``count`` rows, in the order of choice, each the one that the function of the chosen S gains most by.

    The function is λ Σ_{P×S} s − Σ_{S×S} s, P all rows; a row's gain is λ Σ_{j∈P} s_ij − 2 Σ_{j∈S} s_ij, without its
    own s_ii, which is the same for all. Of equals the first.

    Args:
        similarity: of all rows to each other.
        count: how many, at most n.
        weight: λ.

    Returns:
        Different indices.
    """
    gain, chosen = weight * similarity.sum(dim=1, dtype=torch.float64), []
    for _ in range(count):
        index = int(gain.argmax())
        chosen.append(index)
        gain -= 2 * similarity[index]
        gain[index] = -torch.inf
    return torch.tensor(chosen, dtype=torch.int64)


def graph_cut_bins(similarity: Float[Tensor, "n n"], bins: int, weight: float = 1.0) -> list[Int64[Tensor, " b"]]:
    """All rows, divided into bins: each but the last is the graph cut of those that the bins before it left.

    The sizes differ by one at most. Dataset_Quantization rounds them from what is left of all classes together.

    Args:
        similarity: of all rows to each other.
        bins: how many, at most n.
        weight: λ of ``graph_cut``.

    Returns:
        Indices of every bin, in ascending order; together each row once.
    """
    pool, parts = torch.arange(len(similarity)), []
    for size in shares([1] * bins, len(similarity))[:-1]:
        own = graph_cut(similarity[pool][:, pool], size, weight)
        parts.append(pool[own].sort().values)
        left = torch.ones(len(pool), dtype=torch.bool)
        left[own] = False
        pool = pool[left]
    return [*parts, pool]


def shares(weights: list[int], count: int, generator: Generator | None = None) -> list[int]:
    """``count`` in whole parts proportional to weights: rounded down, then one more where most was cut off.

    Args:
        weights: not negative, one at least above 0.
        count: what is divided.
        generator: draws the order of equal remainders; the first come first unless given.

    Returns:
        Parts that sum to ``count``, each less than 1 from its proportion.

    >>> shares([500, 500, 250], 6)
    [3, 2, 1]
    """
    total, n = sum(weights), len(weights)
    parts = [weight * count // total for weight in weights]
    order = list(range(n)) if generator is None else torch.randperm(n, generator=generator).tolist()
    order.sort(key=lambda number: -(weights[number] * count % total))
    for number in order[: count - sum(parts)]:
        parts[number] += 1
    return parts
