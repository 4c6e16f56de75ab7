"""Shapes and types are checked while tests run, in the modules that annotate shapes: checking every function of the
package would take half of the tests' time. Imported before the package is."""

from importlib.util import find_spec
from pathlib import Path

from jaxtyping import install_import_hook

_found = find_spec("distill_bench")
assert _found is not None and _found.origin is not None
_package = Path(_found.origin).parent
MODULES = [
    ".".join(("distill_bench", *path.relative_to(_package).with_suffix("").parts))
    for path in sorted(_package.rglob("*.py"))
    if "from jaxtyping import" in path.read_text(encoding="utf-8")
]
install_import_hook(MODULES, "beartype.beartype")
