"""Recovered images over the iterations: a row a method, a column an iteration, an image each of the first classes.

python scripts/draw_recovery.py cifar10            # writes docs/images/recovery.png

The teacher and all values are those of the ``cpu`` preset at IPC 1, but for crops of half the image or more with both.
"""

import argparse
from io import BytesIO
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from distill_bench import Dataset, load_dataset
from distill_bench.datasets.pixel_space import Transform
from distill_bench.distilled.budget import Budget
from distill_bench.methods import load_method, new_run
from distill_bench.methods.decoupled.recover import Recovery
from distill_bench.methods.decoupled.relabel import teacher_of
from distill_bench.methods.loop import optimise
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.progress import StreamMonitor

OUT = Path(__file__).parent.parent / "docs" / "images" / "recovery.png"
METHODS, SHOWN, GRID = ("sre2l", "cda"), (0, 0.05, 0.1, 0.25, 0.5, 1.0), 3
CROPS = {"crop": True, "least_scale": 0.5}


class Watched(Recovery):
    """A recovery that keeps what the images were after some of its steps."""

    def __init__(self, *arguments: object, after: list[int]) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._after, self.frames = after, [self._images.clone()]

    def after_step(self, step: int) -> None:
        super().after_step(step)
        if step + 1 in self._after:
            self.frames.append(self._images.clone())


def frames(source: Dataset, method: str) -> tuple[list[int], list[Tensor]]:
    """Iterations, and after each of them the batch's pixels on [0, 1]."""
    chosen, budget = load_method(method), Budget(1)
    fields = chosen.config_on(source, budget, "cpu", **CROPS)
    job = new_run(source, chosen, fields, budget, device="cpu", monitor=StreamMonitor())
    images = torch.randn(job.classes, *job.training.shape, generator=job.generator("initial images", 0))
    optimizer = torch.optim.Adam([images], lr=fields.image_lr, betas=fields.image_betas)
    after = [round(part * fields.iterations) for part in SHOWN]
    labels = torch.arange(job.classes)
    recovery = Watched(job, teacher_of(job).network, labels, images, optimizer, 0, after=after)
    optimise(job, recovery, {"images": images}, {"images": optimizer}, fields.iterations)
    transform = Transform(job.training.pixel_space, source.train)
    return after, [transform.decode(frame).clamp(0, 1) for frame in recovery.frames]


def sheet(images: Tensor) -> Tensor:
    """The first images as a square grid [height, width, channels], two pixels apart."""
    padded = torch.nn.functional.pad(images[: GRID**2], (1, 1, 1, 1), value=1.0)
    count, channels, height, width = padded.shape
    grid = padded.view(GRID, count // GRID, channels, height, width).permute(0, 3, 1, 4, 2)
    grid = grid.reshape(GRID * height, -1, channels)
    return grid.expand(-1, -1, 3) if channels == 1 else grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    source = load_dataset(parser.parse_args().dataset)
    figure = Figure(figsize=(2 * len(SHOWN), 2.2 * len(METHODS)), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for row, method in zip(figure.subplots(len(METHODS), len(SHOWN)), METHODS, strict=True):
        for axes, iteration, images in zip(row, *frames(source, method), strict=True):
            axes.imshow(sheet(images).numpy(), interpolation="nearest")
            axes.set_axis_off()
            axes.set_title(f"{method}, {iteration}", fontsize=10)
    content = BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    write_atomically(OUT, content.getvalue())


if __name__ == "__main__":
    main()
