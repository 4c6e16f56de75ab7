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
from jaxtyping import Bool, Float, Num, UInt8
from torch import Tensor

from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.datasets.pixel_space import PixelSpace, SpaceKind, Transform, pixel_space_of

COMPARED = 1000
FITTED = 4096
_EIGHT_BIT_TOLERANCE = 0.02
_SMALLEST = 1e-9
"""Contrast and roughness that real images of one flat colour are given."""
CONTRAST: dict[SpaceKind, tuple[float, float]] = {"unit": (0.3, 3.0), "normalized": (0.35, 8.0), "zca": (0.3, 8.0)}
_LEAST_INSIDE = 0.9
"""Of pixels in the space ``unit``, within 0 and 1: learned images overshoot by little."""
_ROUGHNESS: dict[SpaceKind, tuple[float, float]] = {"unit": (0.1, 4.0), "normalized": (0.1, 4.0), "zca": (0.5, 3.0)}
STRONGEST = 8.0
"""Times the contrast of real images, at most, that synthesis usually gives, in whatever space."""
FARTHEST = 200.0
"""Times the range of real pixels. On digits, sets of dm and dc within 104 were as good as others, from 419 on worse."""


@dataclass(frozen=True)
class PixelDiagnosis:
    """A set undone as if it were in ``space``.

    Attributes:
        stored: the range of the numbers as they are.
        low, high: the range of the pixels that come out; those of pictures are 0 to 1.
        inside: the fraction of them within that range.
        contrast: their standard deviation over that of real images.
        roughness: the squared difference of neighbours per variance, over that of real images.
        eight_bit: the fraction of pixels that are whole 255ths: 1 for images that were never optimised.
    """

    space: PixelSpace
    stored: tuple[float, float]
    low: float
    high: float
    inside: float
    contrast: float
    roughness: float
    eight_bit: float

    @property
    def doubts(self) -> list[str]:
        """What speaks against the hypothesis, in words."""
        if self.settled:
            return []
        kind, doubts = self.space.kind, list[str]()
        if kind == "unit" and self.inside < _LEAST_INSIDE:
            doubts.append(
                f"numbers run from {self.stored[0]:.4g} to {self.stored[1]:.4g}, and {1 - self.inside:.0%} of them are "
                "outside 0 to 1"
            )
        if kind != "unit" and 0 <= self.stored[0] < self.stored[1] <= 1:
            doubts.append("all numbers lie within 0 and 1, as unit pixels do")
        named = (("contrast", self.contrast, CONTRAST), ("roughness", self.roughness, _ROUGHNESS))
        return doubts + [
            f"{name} is {value:.2g} times that of real images, usual are {bounds[kind][0]:g} to {bounds[kind][1]:g}"
            for name, value, bounds in named
            if not bounds[kind][0] <= value <= bounds[kind][1]
        ]

    @property
    def settled(self) -> bool:
        """Whether every pixel is a whole 255th from 0 to 1: nothing but images that were never optimised is so."""
        return self.eight_bit > 0.999 and self.inside > 0.999


def diagnose(images: Float[Tensor, "n c h w"], dataset: Dataset, space: PixelSpace) -> PixelDiagnosis:
    """What images look like, undone from a pixel space.

    Args:
        images: [n, c, h, w], as they are stored.
        dataset: the one they stand for; real images are compared, and the whitening of zca is fitted on them.
        space: the hypothesis.

    Returns:
        The figures, and through them what speaks against the hypothesis.
    """
    pixels = Transform(space, dataset.train).decode(images)
    count = len(dataset.train)
    real = dataset.train.images(torch.linspace(0, count - 1, min(COMPARED, count)).long()).float() / 255
    levels = pixels * 255
    return PixelDiagnosis(
        space=space,
        stored=(float(images.min()), float(images.max())),
        low=float(pixels.min()),
        high=float(pixels.max()),
        inside=float(((pixels >= 0) & (pixels <= 1)).float().mean()),
        contrast=float(pixels.std() / real.std().clamp_min(_SMALLEST)),
        roughness=roughness(pixels) / max(roughness(real), _SMALLEST),
        eight_bit=float(((levels - levels.round()).abs() < _EIGHT_BIT_TOLERANCE).float().mean()),
    )


def candidates(
    images: Float[Tensor, "n c h w"], dataset: Dataset, declared: PixelSpace | None = None
) -> list[PixelDiagnosis]:
    """What images look like undone from each pixel space, with the dataset's own statistics and the field's whitening.

    Whitening is left out where images have more than ``FITTED`` values: fitting it takes minutes there.

    Args:
        images: [n, c, h, w], as they are stored.
        dataset: the one they stand for.
        declared: a space that the images are said to be in, in place of the usual one of its kind.

    Returns:
        A diagnosis a space.
    """
    kinds: list[SpaceKind] = ["unit", "normalized"]
    if images[0].numel() <= FITTED or (declared and declared.kind == "zca"):
        kinds.append("zca")
    spaces = [declared if declared and declared.kind == kind else pixel_space_of(dataset, kind) for kind in kinds]
    return [diagnose(images, dataset, space) for space in spaces]


def roughness(images: Float[Tensor, "n c h w"]) -> float:
    """Mean squared difference of neighbouring pixels over twice the variance: 1 for white noise, 0 for flat areas."""
    down, across = images.diff(dim=2).square().mean(), images.diff(dim=3).square().mean()
    variance = (images - images.mean(dim=(2, 3), keepdim=True)).var()
    return float((down + across) / (4 * variance.clamp_min(torch.finfo(images.dtype).tiny)))


def seam(images: Num[Tensor, "n c h w"], parts: int) -> float:
    """Squared difference of neighbours across the lines that divide images into parts × parts, over that elsewhere.

    About 1 for one image; several for smaller ones put together. Of both directions the lesser counts.
    """
    ratios = []
    for axis in (2, 3):
        steps = images.float().diff(dim=axis).square().mean(dim=[each for each in range(4) if each != axis])
        side = images.shape[axis]
        lines = torch.zeros(len(steps), dtype=torch.bool)
        lines[torch.arange(-(-side // parts), side, -(-side // parts)) - 1] = True
        ratios.append(float(steps[lines].mean() / steps[~lines].mean()))
    return min(ratios)


def table(diagnoses: Iterable[PixelDiagnosis]) -> list[str]:
    """The lines of a table, one a hypothesis below the heading."""
    lines = ["space        pixels from … to    in 0…1   contrast   roughness   8-bit    against it"]
    for item in diagnoses:
        span = f"{item.low:6.2f} … {item.high:6.2f}"
        lines.append(
            f"{item.space.kind:<12} {span:<18} {item.inside:6.0%} {item.contrast:9.2f}× {item.roughness:10.2f}× "
            f"{item.eight_bit:6.0%}    {'; '.join(item.doubts) or '–'}"
        )
    return lines


def largest_value(space: PixelSpace) -> float:
    """A bound, in the units of a space, that pixels within ``FARTHEST`` of real ones keep; of whitened ones roughly."""
    scaled = FARTHEST if "normalized" not in (space.kind, space.zca_input) else (FARTHEST + 1) / min(space.std)
    return scaled if space.eps is None else scaled / math.sqrt(space.eps)


def picture_doubts(images: Num[Tensor, "n c h w"], dataset: Dataset) -> tuple[str, ...]:
    """What speaks against 8-bit pictures: such as values of fewer bits, which are nearly black; nothing for floats."""
    if images.is_floating_point():
        return ()
    seen = diagnose(images.float() / 255, dataset, pixel_space_of(dataset, "unit"))
    low, high = CONTRAST["unit"]
    if low <= seen.contrast <= high:
        return ()
    return (
        f"contrast is {seen.contrast:.2g} times that of real images, usual are {low:g} to {high:g} (values run from "
        f"{int(images.min())} to {int(images.max())} of 255)",
    )


def images_among(pixels: UInt8[Tensor, "n c h w"], split: Split) -> Bool[Tensor, " n"]:
    """Which images are images of a split, pixel for pixel."""
    return torch.tensor([bool(labels) for labels in _labels_among(pixels, split)], dtype=torch.bool)


def training_labels(pixels: UInt8[Tensor, "n c h w"], dataset: Dataset) -> list[set[int]]:
    """For every image, the labels of the training images that are the same pixel for pixel; none for most."""
    return _labels_among(pixels, dataset.train)


def _labels_among(pixels: UInt8[Tensor, "n c h w"], split: Split) -> list[set[int]]:
    keys = [image.numpy().tobytes() for image in pixels]
    labels_of = {key: set[int]() for key in keys}
    labels = iter(split.labels.tolist())
    for chunk in split.chunks() if labels_of else ():
        for image, label in zip(chunk, labels, strict=False):
            key = image.numpy().tobytes()
            if key in labels_of:
                labels_of[key].add(label)
    return [labels_of[key] for key in keys]
