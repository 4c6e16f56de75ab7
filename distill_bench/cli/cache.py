"""cache: what is kept, whether it is what was written, and how to be rid of it."""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import CLEARED
from distill_bench.cli.output import CommandMonitor, show, show_json
from distill_bench.errors import DataError, UsageError, unknown
from distill_bench.runtime.files import cannot_write
from distill_bench.runtime.locks import is_locked
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.text import counted

if TYPE_CHECKING:
    from distill_bench.benchmark.cached import Piece

cache_app = typer.Typer(help="Show, check and clear what is kept between commands.", no_args_is_help=True)


@cache_app.command("list")
def cache_list(as_json: options.Json = False) -> None:
    """List what the cache folder holds: kinds, how many pieces of each, and their size. Reads no content."""
    by_kind = _by_kind()
    if as_json:
        show_json({"folder": str(cache_dir()), "kinds": by_kind})
        return
    show(f"{cache_dir()}:")
    for name, facts in by_kind.items():
        show(f"{name:<15}{facts['pieces']:>7}{facts['bytes'] / 1e6:>11,.1f} MB  {facts['what']}")


@cache_app.command("check")
def cache_check(as_json: options.Json = False) -> None:
    """Read all of it and name what is not what was written: exit code 3 then. Nothing is changed."""
    from distill_bench.benchmark.cached import Piece, pieces

    began, read, checked, damaged = time.monotonic(), 0, 0, list[Piece]()
    for piece in pieces():
        if piece.kind.intact is not None:
            read, checked = read + piece.nbytes, checked + 1
            damaged += [piece] if piece.damaged else []
    seconds = time.monotonic() - began
    if as_json:
        named = [{"kind": piece.kind.name, "path": str(piece.path)} for piece in damaged]
        show_json({"folder": str(cache_dir()), "checked": checked, "bytes": read, "seconds": seconds, "damaged": named})
    else:
        show(*(f"damaged: {piece.path} ({piece.kind.name})" for piece in damaged))
        show(f"{counted(checked, 'piece')} checked, {read / 1e6:,.1f} MB in {seconds:.1f} s; {len(damaged)} damaged")
    if damaged:
        raise DataError(
            f"{len(damaged)} of {checked} pieces are not what was written. The store's are made again where they are "
            "needed; `distill-bench cache clear --damaged` deletes them now."
        )


@cache_app.command("clear")
def cache_clear(
    kinds: Annotated[list[str] | None, typer.Argument(help=f"Any of {', '.join(CLEARED)}.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All kinds but results and datasets.")] = False,
    damaged: Annotated[bool, typer.Option("--damaged", help="Only what is not what was written.")] = False,
) -> None:
    """Delete what is kept, by kind. Results and datasets are yours, and are never deleted."""
    from distill_bench.benchmark.cached import pieces

    chosen = tuple(kinds or (CLEARED if everything or damaged else ()))
    if not chosen or (kinds and everything):
        raise UsageError(f"say what to delete: kinds of {', '.join(CLEARED)}; or --all, or --damaged.")
    for name in chosen:
        if name not in CLEARED:
            raise UsageError(unknown("kind", name, CLEARED))
    count, size, monitor = 0, 0, CommandMonitor()
    for piece in pieces():
        if piece.kind.name not in chosen or (damaged and not piece.damaged):
            continue
        if any(map(is_locked, piece.locks)):
            monitor.say(f"{piece.path} is being made by another process, and stays.")
            continue
        count, size = count + 1, size + piece.nbytes
        _delete(piece)
    show(f"{counted(count, 'piece')} deleted, {size / 1e6:,.1f} MB")


def _delete(piece: Piece) -> None:
    try:
        if piece.path.is_dir():
            shutil.rmtree(piece.path)
        for file in piece.files:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(piece.path, error) from error


def _by_kind() -> dict[str, dict]:
    from distill_bench.benchmark.cached import KINDS, Piece, pieces

    found = defaultdict[str, list[Piece]](list)
    for piece in pieces():
        found[piece.kind.name].append(piece)
    return {
        kind.name: {
            "what": kind.what,
            "pieces": len(found[kind.name]),
            "bytes": sum(piece.nbytes for piece in found[kind.name]),
        }
        for kind in KINDS
    }
