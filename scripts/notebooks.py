"""The notebooks of docs/notebooks from their scripts, which are the source: python scripts/notebooks.py

Scripts are in the percent format, one notebook each; tests say when a notebook differs from its script.
"""

from pathlib import Path

import jupytext
import nbformat

FOLDER = Path(__file__).parent.parent / "docs" / "notebooks"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def notebook(script: Path) -> str:
    """The notebook of a script, without outputs: the same text every time."""
    made = jupytext.read(script, fmt="py:percent")
    made.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"  # else drawn at random
    return nbformat.writes(made, version=4) + "\n"


def scripts() -> list[Path]:
    """The sources, in order."""
    return sorted(FOLDER.glob("*.py"))


if __name__ == "__main__":
    for path in scripts():
        path.with_suffix(".ipynb").write_text(notebook(path), encoding="utf-8")
