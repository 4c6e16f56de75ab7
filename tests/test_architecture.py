"""Imports go one way, and the evaluator and the methods never see each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "distill_bench"
LAYERS = [
    {"errors"},
    {"runtime"},
    {"augmentations"},
    {"networks"},
    {"training"},
    {"datasets"},
    {"distilled"},
    {"pretrained"},
    {"methods", "evaluation"},
    {"hub"},
    {"benchmark"},
    {"api"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Top-level rooms of the package that a file imports, wherever in the file."""
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            rooms |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("distill_bench.")}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "distill_bench":
            parts = node.module.split(".")
            rooms |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_from_its_own_room_or_below(path):
    own = room(path)
    for other in imported_rooms(path) - {own}:
        assert RANK.get(other, -1) <= RANK[own], f"{path.name} ({own}) imports {other}"


def test_evaluation_and_methods_never_import_each_other():
    for path in FILES:
        if room(path) in ("evaluation", "methods"):
            assert not {"evaluation", "methods"} - {room(path)} & imported_rooms(path)
            assert len({"evaluation", "methods"} & (imported_rooms(path) | {room(path)})) == 1


def test_importing_the_package_touches_neither_threads_nor_the_global_generator():
    import subprocess
    import sys

    code = (
        "import torch; s = torch.random.get_rng_state(); n = torch.get_num_threads(); import distill_bench.cli;"
        "assert torch.equal(s, torch.random.get_rng_state()) and n == torch.get_num_threads()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_commands_print_through_one_function():
    """On which names from outside do nothing."""
    paths = list((PACKAGE / "cli").glob("*.py"))
    assert len(paths) >= 20
    for path in paths:
        called = {
            ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)
        }
        assert path.name == "output.py" or not called & {"print", "typer.echo", "sys.stdout.write"}, path.name


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("__init__.py")), ids=lambda path: str(path.parent.relative_to(PACKAGE))
)
def test_packages_hold_no_logic(path):
    if path.parent == PACKAGE:
        return
    for node in ast.parse(path.read_text()).body:
        assert isinstance(node, ast.ImportFrom | ast.Assign | ast.Expr), ast.unparse(node)


def test_the_listing_is_thirteen_folders_and_three_files():
    assert len(FILES) >= 150
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(RANK) - {"errors", "__init__", "__main__"} and len(folders) == 13
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}
