"""Distribution matching (DM): synthetic images whose mean embedding matches that of real images, class by class.

Source: Zhao & Bilen, "Dataset Condensation with Distribution Matching" (WACV 2023), Eq. 5–6, and main_DM.py of
VICO-UoE/DatasetCondensation 53f63a6.
"""

from jaxtyping import Float
from torch import Tensor

from distill_bench.methods.mean_matching.mean_matching import MeanMatchingConfig, match_means, mean_distance
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.networks import Network


@method(MeanMatchingConfig)
def distribution_matching(run: Run[MeanMatchingConfig]) -> SynthesisResult:
    """DM: the signal is the network's embedding."""
    return match_means(run, embedding, distance)


def embedding(network: Network, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """The one signal, [n, d]."""
    return [network.embed(images)]


def distance(synthetic: list[Tensor], real: list[Tensor]) -> Float[Tensor, ""]:
    """Of the class means [k, d] of the embeddings."""
    return mean_distance(synthetic[0], real[0])
