"""Attention matching (DataDAM): where random networks look at synthetic images matches where they look at real ones.

Source: Sajedi et al., "DataDAM: Efficient Dataset Distillation with Attention Matching" (ICCV 2023), Eq. 1–5. Where the
paper leaves a detail open, main_DataDAM.py and utils.py of DataDistillation/DataDAM 0f6ea09.
"""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.errors import UsageError
from distill_bench.methods.mean_matching.mean_matching import MeanMatchingConfig, match_means, mean_distance
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.networks import Network, Observed

ACTIVATIONS = (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.SiLU)


class AttentionMatchingConfig(MeanMatchingConfig):
    """Fields of DataDAM.

    Attributes:
        power: p of the attention maps, Σ over channels of |feature|^p.
        task_balance: λ, the weight of the mean-embedding term.
        loss_scale: multiplies the whole loss; the released code's, and so the image rate's, is 100.
    """

    values_factor: ClassVar[float] = 1.5  # |F| and its power, beside what the network holds

    power: PositiveFloat = 4.0
    task_balance: NonNegativeFloat = 0.01
    loss_scale: PositiveFloat = 100.0


@method(AttentionMatchingConfig)
def attention_matching(run: Run[AttentionMatchingConfig]) -> SynthesisResult:
    """DataDAM: the signals are the attention maps of all activation layers but the last, and the embedding."""
    watch = partial(watched, power=run.config.power)
    return match_means(run, attention_and_embedding, partial(distance, run.config), prepare=watch)


def distance(config: AttentionMatchingConfig, synthetic: list[Tensor], real: list[Tensor]) -> Float[Tensor, ""]:
    """The weighted sum of the attention loss and the mean-embedding term, of the class means [k, d] of the signals."""
    attention = attention_loss(synthetic[:-1], real[:-1])
    return config.loss_scale * (attention + config.task_balance * mean_distance(synthetic[-1], real[-1]))


def spatial_attention(features: Float[Tensor, "n c h w"], power: float) -> Float[Tensor, "n h*w"]:
    """Of every image the map Σ_channels |F|^p, flattened, divided by its L2 norm (Eq. 1, and the norms of Eq. 2)."""
    return F.normalize(features.abs().pow(power).sum(dim=1).flatten(1), dim=1)


def attention_loss(synthetic: Sequence[Float[Tensor, "k _"]], real: Sequence[Float[Tensor, "k _"]]) -> Tensor:
    """L_SAM: Σ over layers and classes of the squared distance of the class's mean attention maps (Eq. 2)."""
    pairs = zip(synthetic, real, strict=True)
    return sum((mean_distance(ours, theirs) for ours, theirs in pairs), synthetic[0].new_zeros(()))


def watched(network: Network, power: float) -> Observed:
    """The network, whose activations leave their attention maps; None where they are not of feature maps.

    A map is made as soon as its layer has run, so that without a graph no layer's features are kept.
    """

    def note(layer: nn.Module, inputs: Tensor, features: Tensor) -> Tensor | None:
        return spatial_attention(features, power) if features.ndim == 4 else None

    return Observed(network, ACTIVATIONS, note)


def attention_and_embedding(watched: Observed, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """The attention maps [n, h·w] of every activation before pooling, except the last, and the embedding [n, d].

    Args:
        watched: as the function of that name gives it.
        images: normalised.

    Returns:
        The maps in the order of the layers, then the embedding.

    Raises:
        UsageError: there is no activation layer with feature maps before the last.
    """
    watched.notes.clear()
    embedding: Tensor = watched.network.embed(images)
    intermediate = [attention for attention in watched.notes[:-1] if attention is not None]
    if not intermediate:
        raise UsageError(
            "attention matching needs a network with two or more activation layers, such as ConvNetD2 or ConvNetD3: "
            "the last one's place is taken by the embedding."
        )
    return [*intermediate, embedding]
