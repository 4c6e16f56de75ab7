"""download: published sets by their id."""

from pathlib import Path
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.import_ import summary
from distill_bench.cli.output import show
from distill_bench.errors import UsageError


def download_command(
    names: Annotated[list[str], typer.Argument(help="Ids of `distill-bench list published`.", metavar="ID…")],
    file: Annotated[
        list[Path] | None, typer.Option("--file", help="A file that you fetched by hand; repeatable.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take what is in the cache, or fail.")] = False,
    registry: options.Registry = None,
    quiet: options.Quiet = False,
) -> None:
    """Fetch published sets, check their sums, and turn them into .safetensors files in the cache."""
    from distill_bench.cli.claims import claimed
    from distill_bench.distilled.distilled_set import load_distilled
    from distill_bench.hub.registry.published import obtain
    from distill_bench.hub.registry.registry import published

    if file and len(names) > 1:
        raise UsageError(f"--file goes with one id; there are {len(names)}.")
    for name in names:
        published(name, registry)  # before any of them takes its time
    monitor = options.listening_monitor(quiet)
    for name in names:
        cached = obtain(name, may_download=not offline, given=file or (), registry=registry, monitor=monitor)
        for path in cached.paths:
            show(f"{path}: {summary(load_distilled(path))}")
        monitor.say(claimed(cached.entry, load_distilled(cached.paths[0])))
        if cached.entry.superseded_by:
            monitor.say(f"{name} is superseded by {cached.entry.superseded_by}.")
        monitor.say(*filter(None, [cached.entry.note]), *cached.remarks)
