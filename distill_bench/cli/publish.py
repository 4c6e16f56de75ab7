"""publish: a set with its card and claim."""

from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.output import CommandMonitor, show
from distill_bench.errors import UsageError

_TARGETS = ("folder", "huggingface")


def publish_command(
    file: options.SetName,
    to: Annotated[str, typer.Option("--to", help=", ".join(_TARGETS))],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder, made if it is not there.")] = None,
    repo: Annotated[str | None, typer.Option("--repo", help="For --to huggingface: owner/name.")] = None,
    result: Annotated[
        list[Path] | None,
        typer.Option("--result", help="A .json of evaluate --json, or a .jsonl of bench; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option("--id", help="Instead of <method>-<dataset>-<budget>.")] = None,
    licence: Annotated[str | None, typer.Option("--licence", help="Such as cc-by-4.0, if not the source's.")] = None,
    url: Annotated[str | None, typer.Option("--url", help="Where the folder will be found by others.")] = None,
) -> None:
    """Put a set into a folder or a Hugging Face repository, with a dataset card, its results and a registry entry."""
    from distill_bench.api.released import publish

    options.choice("--to", to, _TARGETS)
    if (to == "folder") != (out is not None) or (to == "huggingface") != (repo is not None):
        raise UsageError("give --to folder with --out DIR, or --to huggingface with --repo owner/name.")
    path = options.set_file(file)
    if out is not None:
        options.check_out_folder(out)
    about = {"name": name, "licence": licence, "url": url}
    ready, place = publish(path, out, repo=repo, results=result or (), **about)
    CommandMonitor().say(*ready.remarks)
    show(*(out / path for path in ready.files) if out is not None else (place,))
