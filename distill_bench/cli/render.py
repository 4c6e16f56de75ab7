"""render: a set as a picture."""

from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli.options import DataOption, SetArgument, check_out, dataset_of_set, paths_of, set_file
from distill_bench.cli.output import show
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.distilled.render import render_grid


def render_command(
    file: SetArgument,
    out: Annotated[Path, typer.Option("--out", help="The .png file to write.")],
    columns: Annotated[int, typer.Option("--columns", min=1, help="Images of a class shown at most.")] = 10,
    dataset: DataOption = None,
) -> None:
    """Draw a set as an image grid, a row a class, with normalisation and whitening undone."""
    path = set_file(file)
    check_out(out, [path], ".png")
    distilled = load_distilled(path)
    whitened = distilled.card.pixel_space.kind == "zca"
    if whitened:
        check_out(out, paths_of(dataset or distilled.card.source.name), ".png")
    render_grid(distilled, out, dataset=dataset_of_set(distilled, dataset) if whitened else None, columns=columns)
    show(out)
