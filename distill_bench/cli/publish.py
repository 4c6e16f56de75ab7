"""publish: a set with its card and claim."""

from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.output import CommandMonitor, show
from distill_bench.errors import UsageError
from distill_bench.hub.publish import release, write_release
from distill_bench.hub.upload import repository_page, upload

_TARGETS = ("folder", "huggingface")


def publish_command(
    file: options.SetName,
    to: Annotated[str, typer.Option("--to", help=", ".join(_TARGETS))],
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; made if it is not there.")] = None,
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
    options.choice("--to", to, _TARGETS)
    if (to == "folder") != (out is not None) or (to == "huggingface") != (repo is not None):
        raise UsageError("give --to folder with --out DIR, or --to huggingface with --repo owner/name.")
    if out is not None:
        options.check_out_folder(out)
    page = repository_page(repo) if repo else None
    url = url or (f"{page}/resolve/main" if page else None)
    ready = release(options.set_file(file), result or (), name=name, licence=licence, url=url, page=page)
    CommandMonitor().say(*ready.remarks)
    if out is not None:
        write_release(ready, out)
        show(*(out / path for path in ready.files))
    else:
        assert repo is not None
        show(upload(ready, repo))
