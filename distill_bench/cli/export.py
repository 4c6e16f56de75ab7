"""export: a set in a form that others read."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import WRITABLE_FORMATS
from distill_bench.cli.output import show
from distill_bench.runtime.files import check_no_input, check_place


def export_command(
    files: Annotated[list[str], typer.Argument(help="Distilled sets, or ids; more than one for --to res alone.")],
    to: Annotated[str, typer.Option("--to", help=", ".join(WRITABLE_FORMATS))],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file (res: .pt, parquet: .parquet) or new folder.")],
    lossy: Annotated[
        bool, typer.Option("--lossy", help="Write also what the form cannot hold whole, and say what is lost.")
    ] = False,
    dataset: options.SourceDataset = None,
) -> None:
    """Write sets in the form that another repository reads. What a form cannot hold is refused, and named."""
    from distill_bench import hub
    from distill_bench.api.released import export
    from distill_bench.datasets import paths_of
    from distill_bench.distilled.distilled_set import load_distilled

    form = hub.writable_format(to)
    paths = [options.set_file(file) for file in files]
    sets = [load_distilled(path) for path in paths]
    whitened = next((one for one in sets if one.card.pixel_space.kind == "zca"), None)
    inputs = [*paths, *(paths_of(dataset or whitened.card.source.name) if whitened else [])]
    if form.suffixes:
        check_no_input(out, inputs)
        check_place(out)
    else:
        options.check_out_folder(out, inputs)
    data = options.dataset_of_set(whitened or sets[0], dataset) if dataset or (whitened and form.needs_pixels) else None
    lost = [loss for one in sets for loss in hub.losses_in(one, form, data)] if lossy else []
    written = export(sets, to, out, lossy=lossy, dataset=data)
    show(*written[:10], *([f"… {len(written)} files"] if written[10:] else []))
    show(*(f"lost: {line}" for line in dict.fromkeys(lost)))
    if not lost:
        arguments = hub.way_back(sets[0], to, [out] if form.needs_pixels else written, dataset)
        show(f"read back by: distill-bench import {shlex.join(arguments)} --out FILE.safetensors")
    if not (form.holds_accuracies and hub.release_accuracies(sets)) and any(
        one.card.origin and one.card.origin.stored_accuracies for one in sets
    ):
        show("left behind: the accuracies stored in the release; a res file of all its sets has them")
