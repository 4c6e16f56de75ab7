"""Which pixel space a set of unknown origin may be in: what its numbers look like under each hypothesis.

Nothing in a released file says it, and a range test does not tell a whitened set from a normalised one. Undone the
right way, images are about as smooth as real ones; a normalised set read as whitened turns far too smooth and strong,
a whitened set read as normalised stays as rough as whitening made it. The bounds were set on the eleven CIFAR-10 sets
that docs/published.md lists, and raise doubts, no more.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from distill_bench.pixel_space import PixelSpace, SpaceKind, Transform, pixel_space_of
from distill_bench.sources.source import Source, Split

COMPARED = 1000
FITTED = 4096
EIGHT_BIT_TOLERANCE = 0.02
CONTRAST: dict[SpaceKind, tuple[float, float]] = {"unit": (0.3, 3.0), "normalized": (0.35, 8.0), "zca": (0.3, 8.0)}
ROUGHNESS: dict[SpaceKind, tuple[float, float]] = {"unit": (0.1, 4.0), "normalized": (0.1, 4.0), "zca": (0.5, 3.0)}
STRONGEST = 8.0
"""Times the contrast of real images, at most, that synthesis usually gives, in whatever space."""
FARTHEST = 200.0
"""Times the range of real pixels. On digits, sets of dm and dc within 104 were as good as others, from 419 on worse."""


@dataclass(frozen=True)
class Evidence:
    """A set undone as if it were in ``space``.

    Attributes:
        low, high: the range of the pixels that come out; those of pictures are 0 to 1.
        inside: the fraction of them within that range.
        contrast: their standard deviation over that of real images.
        roughness: the squared difference of neighbours per variance, over that of real images.
        eight_bit: the fraction of pixels that are whole 255ths: 1 for images that were never optimised.
    """

    space: PixelSpace
    low: float
    high: float
    inside: float
    contrast: float
    roughness: float
    eight_bit: float

    @property
    def doubts(self) -> list[str]:
        """What speaks against the hypothesis, in words."""
        if self.eight_bit > 0.999:
            return []
        named = (("contrast", self.contrast, CONTRAST), ("roughness", self.roughness, ROUGHNESS))
        return [
            f"{name} is {value:.2g} times that of real images, usual are {bounds[self.space.kind][0]:g} to "
            f"{bounds[self.space.kind][1]:g}"
            for name, value, bounds in named
            if not bounds[self.space.kind][0] <= value <= bounds[self.space.kind][1]
        ]


def gather(images: Float[Tensor, "n c h w"], source: Source, space: PixelSpace) -> Evidence:
    """The evidence for one hypothesis. Fits the whitening of a source where ``space`` is zca."""
    pixels = Transform(space, source.train).decode(images)
    count = len(source.train)
    real = source.train.images(torch.linspace(0, count - 1, min(COMPARED, count)).long()).float() / 255
    levels = pixels * 255
    return Evidence(
        space=space,
        low=float(pixels.min()),
        high=float(pixels.max()),
        inside=float(((pixels >= 0) & (pixels <= 1)).float().mean()),
        contrast=float(pixels.std() / real.std()),
        roughness=roughness(pixels) / roughness(real),
        eight_bit=float(((levels - levels.round()).abs() < EIGHT_BIT_TOLERANCE).float().mean()),
    )


def hypotheses(images: Float[Tensor, "n c h w"], source: Source) -> list[Evidence]:
    """The evidence for each pixel space, with the source's own statistics and the field's whitening.

    Whitening is left out where images have more than ``FITTED`` values: fitting it takes minutes there.
    """
    kinds: list[SpaceKind] = ["unit", "normalized"]
    if images[0].numel() <= FITTED:
        kinds.append("zca")
    return [gather(images, source, pixel_space_of(source, kind)) for kind in kinds]


def roughness(images: Float[Tensor, "n c h w"]) -> float:
    """Mean squared difference of neighbouring pixels over twice the variance: 1 for white noise, 0 for flat areas."""
    down, across = images.diff(dim=2).square().mean(), images.diff(dim=3).square().mean()
    variance = (images - images.mean(dim=(2, 3), keepdim=True)).var()
    return float((down + across) / (4 * variance.clamp_min(torch.finfo(images.dtype).tiny)))


def table(found: Iterable[Evidence]) -> str:
    """The evidence as text, a line a hypothesis."""
    lines = ["space        pixels from … to    in 0…1   contrast   roughness   8-bit    against it"]
    for item in found:
        span = f"{item.low:6.2f} … {item.high:6.2f}"
        lines.append(
            f"{item.space.kind:<12} {span:<18} {item.inside:6.0%} {item.contrast:9.2f}× {item.roughness:10.2f}× "
            f"{item.eight_bit:6.0%}    {'; '.join(item.doubts) or '–'}"
        )
    return "\n".join(lines)


def largest_value(space: PixelSpace) -> float:
    """A bound, in the units of a space, that pixels within ``FARTHEST`` of real ones keep; of whitened ones roughly."""
    scaled = FARTHEST if "normalized" not in (space.kind, space.zca_input) else (FARTHEST + 1) / min(space.std)
    return scaled if space.eps is None else scaled / math.sqrt(space.eps)


def images_among(pixels: UInt8[Tensor, "n c h w"], split: Split) -> Bool[Tensor, " n"]:
    """Which images are images of a split, pixel for pixel."""
    wanted = [image.numpy().tobytes() for image in pixels]
    sought, found = set(wanted), set[bytes]()
    for chunk in split.chunks() if sought else ():
        found |= sought.intersection(image.numpy().tobytes() for image in chunk)
    return torch.tensor([image in found for image in wanted], dtype=torch.bool)


def training_images_among(pixels: UInt8[Tensor, "n c h w"], source: Source) -> int:
    """How many images are training images, pixel for pixel."""
    return int(images_among(pixels, source.train).sum())
