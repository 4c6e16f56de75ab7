"""RDED: the crops of real images that a teacher is surest of, stitched together, and relabelled.

Source: Sun, Shi, Yu & Lin, "On the Diversity and Realism of Distilled Dataset" (CVPR 2024), and
LINs-lab/RDED 3f6453d.
"""

import torch
from jaxtyping import Float, Int64
from pydantic import PositiveInt
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.decoupled.relabel import RelabelConfig, predict, relabel, teacher_of, teacher_pieces
from distill_bench.methods.resumable import fill_rows
from distill_bench.methods.run import Run, SynthesisResult, method


class CropConfig(RelabelConfig):
    """Fields of RDED.

    Attributes:
        pool: so many random images of a class are looked at, or all where there are fewer.
        crops: random crops of each of them, square, of which the one with the least loss counts.
        scale: the least and greatest share of the area that a crop has.
        factor: an image is stitched from factor × factor crops.
    """

    pool: PositiveInt = 300
    crops: PositiveInt = 5
    scale: tuple[views.Share, views.Share] = (0.08, 1.0)
    factor: PositiveInt = 1

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if images cannot be cut into equal parts."""
        super().check(dataset)
        _, height, width = dataset.train.shape
        if height % self.factor or width % self.factor:
            raise UsageError(f"factor {self.factor} does not divide {height}×{width} px. Give 1, or a divisor.")


@method(CropConfig, pretrained=teacher_pieces)
def realistic_crops(run: Run[CropConfig]) -> SynthesisResult:
    """RDED: class by class, then relabelled."""
    _check_pool(run)
    teacher = teacher_of(run)
    images = torch.empty(run.classes, run.ipc, *run.training.shape)

    def one_class(label: int) -> None:
        images[label] = _best_images(run, teacher.network, label)

    fill_rows(run, "crops", "classes cut out", {"images": images}, one_class)
    return relabel(run, teacher, SynthesisResult(images.flatten(0, 1), run.labels))


def _best_images(run: Run[CropConfig], network: nn.Module, label: int) -> Float[Tensor, "ipc c h w"]:
    """The images of a class."""
    config = run.config
    pool = run.training.draw(label, config.pool, run.generator("pool", label))
    draws = run.generator("crops", label)
    crops, losses = best_crops(network, pool, label, config, draws)
    best = crops[losses.argsort(stable=True)[: run.ipc * config.factor**2]]
    return stitched(best, config.factor)


def best_crops(
    network: nn.Module, pool: Float[Tensor, "n c h w"], label: int, config: CropConfig, draws: Generator
) -> tuple[Float[Tensor, "n c s t"], Float[Tensor, " n"]]:
    """Of every image the crop with the least loss, height / factor × width / factor, and that loss."""
    sides = (pool.shape[2], pool.shape[3])
    height, width = sides[0] // config.factor, sides[1] // config.factor
    best, least = pool.new_empty(len(pool), pool.shape[1], height, width), pool.new_full((len(pool),), torch.inf)
    for _ in range(config.crops):
        regions = views.sample_crops(len(pool), *sides, config.scale, draws, ratio=(1.0, 1.0))
        crops = shrunk(pool, regions, height, width)
        losses = crop_losses(network, crops, label, sides)
        better = losses < least
        best, least = torch.where(better[:, None, None, None], crops, best), torch.where(better, losses, least)
    return best, least


def shrunk(
    images: Float[Tensor, "n c h w"], regions: Int64[Tensor, "n 4"], height: int, width: int
) -> Float[Tensor, "n c s t"]:
    """Each image's region, resized bilinearly with antialiasing."""
    parts = zip(images, regions.tolist(), strict=True)
    cut = [image[None, :, top : top + h, left : left + w] for image, (top, left, h, w) in parts]
    return torch.cat([F.interpolate(each, (height, width), mode="bilinear", antialias=True) for each in cut])


def crop_losses(
    network: nn.Module, crops: Float[Tensor, "n c s t"], label: int, sides: tuple[int, int]
) -> Float[Tensor, " n"]:
    """The network's cross-entropy for the class, of each crop in the middle of an image that is zero elsewhere."""
    down, right = sides[0] - crops.shape[2], sides[1] - crops.shape[3]
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    logits = predict(network, F.pad(crops, padding), crops.device)
    return F.cross_entropy(logits, torch.full((len(crops),), label, device=logits.device), reduction="none")


def stitched(crops: Float[Tensor, "n c s t"], factor: int) -> Float[Tensor, "ipc c h w"]:
    """Images of factor × factor crops, row by row: image i has crops i, i + ipc, i + 2 ipc, …"""
    count, channels, height, width = crops.shape
    ipc = count // factor**2
    grid = crops.view(factor, factor, ipc, channels, height, width).permute(2, 3, 0, 4, 1, 5)
    return grid.reshape(ipc, channels, factor * height, factor * width)


def _check_pool(run: Run[CropConfig]) -> None:
    """Raises UsageError if fewer images are looked at than crops are needed, before a teacher is trained."""
    config = run.config
    least = min(min(len(indices), config.pool) for indices in run.training.class_indices)
    if least < run.ipc * config.factor**2:
        raise UsageError(
            f"{run.method} keeps one crop of an image and needs {run.ipc * config.factor**2} of a class; it looks at "
            f"{least}. Give `ipc={least // config.factor**2}` or less, or where there are more images a larger pool "
            "(`pool=…`)."
        )
