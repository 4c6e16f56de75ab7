"""render: a set as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.output import show


def render_command(
    file: options.SetName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .png file to write.")],
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images of a class shown at most.")] = 10,
    dataset: options.SourceDataset = None,
) -> None:
    """Draw a set as an image grid, a row a class, with normalisation and whitening undone."""
    from distill_bench.api.named import set_named
    from distill_bench.api.sets import render
    from distill_bench.datasets import paths_of

    path = options.set_file(file)
    distilled = set_named(path)
    whitened = distilled.card.pixel_space.kind == "zca"
    folders = paths_of(dataset or distilled.card.source.name) if whitened else []
    options.check_out(out, [path, *folders], ".png")
    data = options.dataset_of_set(distilled, dataset) if whitened else None
    render(distilled, out, dataset=data, columns=columns)
    show(out)
