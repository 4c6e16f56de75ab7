"""RDED: the crops of real images that a teacher is surest of, stitched together, and relabelled.

Source: Sun, Shi, Yu & Lin, "On the Diversity and Realism of Distilled Dataset" (CVPR 2024), and
LINs-lab/RDED 3f6453d.
"""

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.decoupled.class_activation import area_shares, areas_of, check_maps
from distill_bench.methods.decoupled.relabel import RelabelConfig, predict, relabel, teacher_of, teacher_pieces
from distill_bench.methods.resumable import fill_rows
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.networks import Network
from distill_bench.runtime.text import counted


class CropConfig(RelabelConfig):
    """Fields of RDED.

    Attributes:
        pool: so many random images of a class are looked at, or all where there are fewer.
        crops: random crops of each of them, square, of which the one with the least loss counts.
        scale: the least and greatest share of the area that a crop has.
        factor: an image is stitched from factor × factor crops.
        rank: which crops of an image count: those with the least loss, or with the largest share of what the teacher's
            class activation map calls critical.
        per_image: so many of an image.
        keep: of a class's crops those that the teacher is surest of, or least sure.
        require_right: whether these must be crops that the teacher takes for their class.
    """

    LATER: ClassVar[tuple[str, ...]] = (*RelabelConfig.LATER, "rank", "per_image", "keep", "require_right")

    pool: PositiveInt = 300
    crops: PositiveInt = 5
    scale: tuple[views.Share, views.Share] = (0.08, 1.0)
    factor: PositiveInt = 1
    rank: Literal["loss", "activation"] = "loss"
    per_image: PositiveInt = 1
    keep: Literal["surest", "least-sure"] = "surest"
    require_right: bool = False

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if images cannot be cut into equal parts, or crops not be ranked or kept so."""
        super().check(dataset)
        _, height, width = dataset.train.shape
        if self.per_image > self.crops:
            raise UsageError(f"per_image {self.per_image} is more than crops {self.crops} of an image. Give fewer.")
        if self.rank == "activation":
            check_maps(self.teacher.network, dataset.train.shape, len(dataset.class_names))
        if height % self.factor or width % self.factor:
            raise UsageError(f"factor {self.factor} does not divide {height}×{width} px. Give 1, or a divisor.")


@method(CropConfig, pretrained=teacher_pieces)
def realistic_crops(run: Run[CropConfig]) -> SynthesisResult:
    """RDED: class by class, then relabelled."""
    check_pool(run)
    teacher = teacher_of(run)
    return relabel(run, teacher, SynthesisResult(cropped_images(run, teacher.network), run.labels))


def cropped_images(run: Run[Any], network: Network) -> Float[Tensor, "n c h w"]:
    """All images in class order, on the CPU, stitched from crops class by class. ``network`` is the teacher's."""
    images = torch.empty(run.classes, run.ipc, *run.training.shape)

    def one_class(label: int) -> None:
        images[label] = _best_images(run, network, label)

    fill_rows(run, "crops", "classes cut out", {"images": images}, one_class)
    return images.flatten(0, 1)


def _best_images(run: Run[CropConfig], network: Network, label: int) -> Float[Tensor, "ipc c h w"]:
    """The images of a class.

    Raises:
        UsageError: too few crops are taken for the class, and others must not be.
    """
    config, wanted = run.config, run.ipc * run.config.factor**2
    pool = run.training.draw(label, config.pool, run.generator("pool", label))
    crops, losses, right = best_crops(network, pool, label, config, run.generator("crops", label))
    if config.require_right:
        crops, losses = crops[right], losses[right]
    if len(crops) < wanted:
        raise UsageError(
            f"{run.method} needs {wanted} crops of class {run.training.class_names[label]!r} that the teacher takes "
            f"for it, and has {len(crops)}. Give a larger `pool` or `per_image`, or have others too: "
            "`require_right=false`."
        )
    order = losses.argsort(stable=True, descending=config.keep == "least-sure")
    return stitched(crops[order[:wanted]], config.factor)


def best_crops(
    network: Network, pool: Float[Tensor, "n c h w"], label: int, config: CropConfig, draws: Generator
) -> tuple[Float[Tensor, "m c s t"], Float[Tensor, " m"], Bool[Tensor, " m"]]:
    """Of every image the ``per_image`` crops that rank first.

    Args:
        network: the teacher's.
        pool: images of a class.
        label: the class.
        config: how crops are drawn, ranked, and how many of an image are kept.
        draws: where they are drawn from.

    Returns:
        The crops, height / factor × width / factor; their losses; and whether the network takes them for the class.
    """
    sides = (pool.shape[2], pool.shape[3])
    height, width = sides[0] // config.factor, sides[1] // config.factor
    areas = areas_of(network, pool, _all(label, pool)) if config.rank == "activation" else None
    kept: tuple[Tensor, ...] = ()  # ranks, crops, losses, rights: [kept, n, …]
    for _ in range(config.crops):
        regions = views.sample_crops(len(pool), *sides, config.scale, draws, ratio=(1.0, 1.0))
        crops = shrunk(pool, regions, height, width)
        logits = crop_logits(network, crops, sides)
        losses = F.cross_entropy(logits, _all(label, crops), reduction="none")
        ranks = losses if areas is None else -area_shares(areas, regions)
        found = [each[None] for each in (ranks, crops, losses, logits.argmax(dim=1) == label)]
        kept = tuple(torch.cat([*pair]) for pair in zip(kept, found, strict=True)) if kept else tuple(found)
        first = kept[0].argsort(dim=0, stable=True)[: config.per_image]
        kept = tuple(each[first, torch.arange(len(pool), device=first.device)] for each in kept)
    _, crops, losses, right = (each.flatten(0, 1) for each in kept)
    return crops, losses, right


def _all(label: int, images: Tensor) -> Int64[Tensor, " n"]:
    return torch.full((len(images),), label, device=images.device)


def shrunk(
    images: Float[Tensor, "n c h w"], regions: Int64[Tensor, "n 4"], height: int, width: int
) -> Float[Tensor, "n c s t"]:
    """Each image's region, resized bilinearly with antialiasing."""
    parts = zip(images, regions.tolist(), strict=True)
    cut = [image[None, :, top : top + h, left : left + w] for image, (top, left, h, w) in parts]
    return torch.cat([F.interpolate(each, (height, width), mode="bilinear", antialias=True) for each in cut])


def crop_logits(
    network: nn.Module, crops: Float[Tensor, "n c s t"], sides: tuple[int, int]
) -> Float[Tensor, "n classes"]:
    """What the network says of each crop in the middle of an image that is zero elsewhere."""
    down, right = sides[0] - crops.shape[2], sides[1] - crops.shape[3]
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    return predict(network, F.pad(crops, padding), crops.device)


def stitched(crops: Float[Tensor, "n c s t"], factor: int) -> Float[Tensor, "ipc c h w"]:
    """Images of factor × factor crops, row by row: image i has crops i, i + ipc, i + 2 ipc, …"""
    count, channels, height, width = crops.shape
    ipc = count // factor**2
    grid = crops.view(factor, factor, ipc, channels, height, width).permute(2, 3, 0, 4, 1, 5)
    return grid.reshape(ipc, channels, factor * height, factor * width)


def check_pool(run: Run[Any]) -> None:
    """Raises UsageError if the images looked at give fewer crops than are needed, before a teacher is trained."""
    config = run.config
    least = min(min(len(indices), config.pool) for indices in run.training.class_indices)
    most = least * config.per_image
    if most < run.ipc * config.factor**2:
        raise UsageError(
            f"{run.method} keeps {counted(config.per_image, 'crop')} of an image and needs "
            f"{run.ipc * config.factor**2} of a class; it looks at {least}. Give `ipc={most // config.factor**2}` or "
            "less, or where there are more images a larger pool (`pool=…`)."
        )
