"""list: what the package has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.output import show, show_json
from distill_bench.errors import UsageError, unknown
from distill_bench.runtime.log import log

if TYPE_CHECKING:
    from distill_bench.hub.registry.registry import Entry


def list_command(
    what: Annotated[
        str, typer.Argument(help="methods, sources, networks, protocols, suites, all of these, or published.")
    ] = "all",
    as_json: options.Json = False,
    registry: options.Registry = None,
) -> None:
    """List methods, sources, networks, protocols and suites; or the published sets that can be had by their id."""
    from distill_bench import benchmark
    from distill_bench.datasets import list_datasets
    from distill_bench.evaluation import PROTOCOLS
    from distill_bench.hub.registry.registry import load_registry
    from distill_bench.networks import ARCHITECTURES
    from distill_bench.networks.library import LIBRARIES

    known: dict[str, Callable[[], dict[str, str]]] = {
        "methods": method_titles,
        "sources": lambda: dict.fromkeys(
            [*list_datasets(), "folder:PATH", "parquet:PATH", "npz:PATH", "hf:PATH", "hf:OWNER/NAME"], ""
        ),
        "networks": lambda: (
            {"ConvNet": "and its variants, such as ConvNetD3W64BN"}
            | {name: f"{named.smallest[0]} px or more" for name, named in ARCHITECTURES.items()}
            | {f"{library}:NAME": "any that classifies and ends in a linear layer" for library in LIBRARIES}
        ),
        "protocols": lambda: {name: protocol.source for name, protocol in PROTOCOLS.items()},
        "suites": lambda: {name: benchmark.load_suite(name).title for name in benchmark.list_suites()},
    }
    if what not in [*known, "all", "published"]:
        raise UsageError(f"cannot list {what!r}: {unknown('kind', what, [*known, 'all', 'published'])}")
    if what == "published":
        shown = {what: {name: _published_title(entry) for name, entry in load_registry(registry).items()}}
    else:
        shown = {kind: names() for kind, names in known.items() if what in ("all", kind)}
    if as_json:
        show_json(shown)
        return
    for kind, names in shown.items():
        show(f"{kind}:")
        for name, title in names.items():
            show(f"  {name:<14} {title}".rstrip())


def _published_title(entry: Entry) -> str:
    """What a published set is, and how one comes by it."""
    size = sum(file.bytes or 0 for file in entry.files) if all(file.bytes for file in entry.files) else None
    how = "to download" if all(file.urls for file in entry.files) else "by hand, then download --file"
    later = f", superseded by {entry.superseded_by}" if entry.superseded_by else ""
    amount = f", {size:,} bytes" if size else ""
    return f"{entry.method} on {entry.dataset}, {entry.budget}, {entry.protocol}{amount}: {how}{later}"


def method_titles() -> dict[str, str]:
    """Every method with its title. One of another package that cannot be loaded is left out, and the log says so."""
    from distill_bench.methods import list_methods, load_method

    titles = {}
    for name in list_methods():
        try:
            titles[name] = load_method(name).recipe.title
        except UsageError as error:
            log.warning("the method %s is left out: %s", name, error)
    return titles
