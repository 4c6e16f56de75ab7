"""The picture on a method's page: the set it makes of digits at IPC 10 with the cpu preset, and its loss on the way.

python scripts/draw_method.py dm dsa dc            # writes docs/images/<method>.png
"""

import argparse
from io import BytesIO
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from distill_bench import load_source, synthesize
from distill_bench.render import grid
from distill_bench.storage import write_atomically

IMAGES = Path(__file__).parent.parent / "docs" / "images"


def draw(method: str) -> bytes:
    """Synthesize, and lay the grid of images beside the loss of every step."""
    history: list[float] = []
    made = synthesize(load_source("digits"), method, 10, "cpu", history=history)
    picture = Image.open(BytesIO(grid(made)))
    figure = Figure(figsize=(11, 5), dpi=110, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1, 1])
    left.imshow(picture, interpolation="nearest")
    left.set_axis_off()
    left.set_title(f"{method}: digits, IPC 10, cpu preset, seed 0", fontsize=11)
    right.plot(range(1, len(history) + 1), history, color="#0072B2", linewidth=1.2)
    right.set_xlabel("image update")
    right.set_ylabel("matching loss")
    right.set_ylim(bottom=0)
    right.spines[["top", "right"]].set_visible(False)
    right.grid(color="#E4E4E4")
    content = BytesIO()
    canvas.print_png(content, metadata={"Software": None})
    return content.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    for method in parser.parse_args().methods:
        write_atomically(IMAGES / f"{method}.png", draw(method))


if __name__ == "__main__":
    main()
