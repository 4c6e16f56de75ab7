"""Shapes and types are checked while the tests of tensors run, in the modules that annotate shapes: checking every
function in every test would take half of the tests' time. Imported before the package is."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from beartype import beartype
from jaxtyping import config, install_import_hook

FOLDERS = ("augmentations", "datasets", "distilled", "evaluation", "methods", "networks", "pretrained", "training")
"""Of tests whose functions' arguments are checked. Those of commands, files and devices call the same functions."""

_found = find_spec("distill_bench")
assert _found is not None and _found.origin is not None
_package = Path(_found.origin).parent
MODULES = [
    ".".join(("distill_bench", *path.relative_to(_package).with_suffix("").parts))
    for path in sorted(_package.rglob("*.py"))
    if "from jaxtyping import" in path.read_text(encoding="utf-8")
]


def check_shapes(wanted: bool) -> None:
    """Check from now on, or no longer."""
    config.update("jaxtyping_disable", not wanted)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that checks its arguments. One that is made within another while nothing is checked stays as it is."""
    return function if config.jaxtyping_disable else beartype(function)


install_import_hook(MODULES, "checked_shapes.checked")
