"""The picture on a method's page: the set it makes of digits at IPC 10 with the cpu preset, and its loss.

python scripts/draw_method.py dm dsa dc            # writes docs/images/<method>.png
"""

import argparse
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from distill_bench import load_dataset, synthesize
from distill_bench.distilled.render import grid
from distill_bench.runtime.files import write_atomically

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def draw(method: str) -> bytes:
    """Synthesize, and lay the grid of images beside the loss of every step; a selection has none."""
    history: list[float] = []
    made = synthesize(load_dataset("digits"), method, 10, "cpu", history=history)
    picture = Image.open(BytesIO(grid(made)))
    panels = 2 if history else 1
    figure = Figure(figsize=(5.5 * panels, 5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, *rest = figure.subplots(1, panels, squeeze=False)[0]
    left.imshow(picture, interpolation="nearest")
    left.set_axis_off()
    left.set_title(f"{method}: digits, IPC 10, cpu preset, seed 0", fontsize=11)
    for right in rest:
        draw_loss(right, history)
    content = BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def draw_loss(right: Axes, history: list[float]) -> None:
    """The loss against the image update."""
    right.plot(range(1, len(history) + 1), history, color="#0072B2", linewidth=1.2)
    right.set_xlabel("image update")
    right.set_ylabel("matching loss")
    right.set_ylim(bottom=0)
    right.spines[["top", "right"]].set_visible(False)
    right.grid(color="#E4E4E4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    for method in parser.parse_args().methods:
        write_atomically(IMAGES / f"{method}.png", draw(method))


if __name__ == "__main__":
    main()
