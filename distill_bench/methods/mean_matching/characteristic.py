"""The discrepancy of characteristic functions (NCFM), and the network that chooses where they are compared.

Source: Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective" (NCFM, CVPR 2025),
arXiv 2502.20653, Eq. 3–6, and NCFM.py of gszfwsb/NCFM de92fb8.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

_SMALLEST = 1e-12
"""Added under roots, which have no derivative at 0."""
ROWS_A_SCALE = 16
"""Of the frequencies so many share the scales of one row of the network."""


def waves(features: Float[Tensor, "n d"], frequencies: Float[Tensor, "m d"]) -> list[Float[Tensor, "n m"]]:
    """cos and sin of ⟨t, f⟩: their means over a class are the real and the imaginary part of its Φ(t) = E exp(i⟨t, f⟩).

    Args:
        features: a row f an image.
        frequencies: a row t each.

    Returns:
        [cos, sin].
    """
    phases = features @ frequencies.mT
    return [phases.cos(), phases.sin()]


def discrepancy(synthetic: Sequence[Tensor], real: Sequence[Tensor], amplitude: float) -> Float[Tensor, ""]:
    """Σ over classes of the mean over t of √(α(|Φ|−|Φ̃|)² + (1−α)·2(|Φ||Φ̃| − Re Φ·conj Φ̃)) (Eq. 6).

    Since 2(|Φ||Φ̃| − Re Φ·conj Φ̃) = |Φ−Φ̃|² − (|Φ|−|Φ̃|)², it is taken without the difference of nearly equal products; at
    α = ½ it is |Φ−Φ̃|/√2.

    Args:
        synthetic: Φ̃ as its real and imaginary part, [k, m] each, a row a class.
        real: Φ, likewise.
        amplitude: α, from 0 to 1: the weight of the amplitudes; the phases have the rest.

    Returns:
        The loss, whose derivative is finite where both are equal, and where one is 0.
    """
    apart = (real[0] - synthetic[0]).square() + (real[1] - synthetic[1]).square()
    lengths = (_length(real) - _length(synthetic)).square()
    squares = (2 * amplitude - 1) * lengths + (1 - amplitude) * apart
    return (squares.clamp_min(0) + _SMALLEST).sqrt().mean(dim=1).sum()


def _length(parts: Sequence[Tensor]) -> Tensor:
    return (parts[0].square() + parts[1].square() + _SMALLEST).sqrt()


class FrequencyNetwork(nn.Module):
    """From rows of noise to rows of scales: three linear layers, each followed by standardisation over the rows.

    Args:
        features: d, the width of all layers.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for last in (nn.LeakyReLU(0.2), nn.LeakyReLU(), nn.Tanh()):
            standardise = nn.BatchNorm1d(features, affine=False, track_running_stats=False)
            layers += [nn.Linear(features, features), standardise, last]
        self.layers = nn.Sequential(*layers)

    def forward(self, noise: Float[Tensor, "r d"], directions: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
        """The frequencies t_k = a_{k mod r} ∘ z_k: a scale mixture of normals, whose scales a have a mean square of 1.

        Without that the network would raise the loss by scale alone.

        Args:
            noise: N(0, 1), two rows at least.
            directions: z, N(0, 1).

        Returns:
            The frequencies.
        """
        scales = self.layers(noise)
        scales = scales / (scales.square().mean() + _SMALLEST).sqrt()
        return scales.repeat(-(-len(directions) // len(scales)), 1)[: len(directions)] * directions


def ascend(
    network: FrequencyNetwork,
    noise: Float[Tensor, "r d"],
    directions: Float[Tensor, "m d"],
    synthetic: Sequence[Float[Tensor, "_ d"]],
    real: Sequence[Float[Tensor, "_ d"]],
    amplitude: float,
    rate: float,
) -> None:
    """Move a frequency network so that the discrepancy grows: one step of gradient ascent, the features held fixed.

    Class by class, so that one class's graph lives at a time.

    Args:
        network: is changed.
        noise, directions: what it made the step's frequencies of.
        synthetic: the features of every class's synthetic images.
        real: of its real ones.
        amplitude: as for ``discrepancy``.
        rate: of the step, on the sum over classes.
    """
    frequencies = network(noise, directions)
    leaf = frequencies.detach().requires_grad_()
    slope = torch.zeros_like(leaf)
    for ours, theirs in zip(synthetic, real, strict=True):
        loss = discrepancy(_function_of(ours, leaf), _function_of(theirs, leaf), amplitude)
        slope += torch.autograd.grad(loss, leaf)[0]
    parameters = list(network.parameters())
    gradients = torch.autograd.grad(frequencies, parameters, slope)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.add_(gradient, alpha=rate)


def _function_of(features: Float[Tensor, "n d"], frequencies: Float[Tensor, "m d"]) -> list[Tensor]:
    """Φ of one class, as its real and imaginary part [1, m]."""
    return [part.mean(dim=0, keepdim=True) for part in waves(features.detach(), frequencies)]
