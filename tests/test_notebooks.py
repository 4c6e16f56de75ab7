"""The notebooks are what their scripts are, and run; the site's navigation has every page."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from short_protocol import short_quick_v1

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "notebooks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def code_of(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def test_there_are_three():
    assert [path.stem for path in SCRIPTS] == ["check_released", "new_method", "own_photographs"]
    assert sorted(FOLDER.glob("*.ipynb")) == [path.with_suffix(".ipynb") for path in SCRIPTS]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_what_its_script_is(script):
    """``python scripts/notebooks.py`` writes them anew."""
    from notebooks import notebook  # jupytext takes half a second

    made = notebook(script)
    assert script.with_suffix(".ipynb").read_text() == made == notebook(script)
    assert all(not cell["outputs"] for cell in json.loads(made)["cells"] if cell["cell_type"] == "code")


def test_checking_a_release_runs(tmp_path, monkeypatch, capsys):
    """With few epochs; the others, and all as they are written, in the slow tests."""
    monkeypatch.chdir(tmp_path)
    with short_quick_v1(tmp_path / "home", epochs=2):
        found = runpy.run_path(str(FOLDER / "check_released.py"))
    assert found["found"].nearest.copies == 10
    assert found["distilled"].card.origin.form == "res"
    assert "10 of 10 images are training images" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("form", ["script", "notebook"])
def test_they_run_as_they_are_written(script, form, tmp_path):
    environment = os.environ | {"DISTILL_BENCH_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    words = [str(script)] if form == "script" else ["-c", code_of(script.with_suffix(".ipynb"))]
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout or "accuracy" in done.stdout


def test_the_navigation_has_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = [page for entry in nav for page in ([entry] if isinstance(entry, str) else next(iter(entry.values())))]
    outside = ["index.md", "contributing.md"]  # of scripts/site_pages.py
    docs = ROOT / "docs"
    pages = [str(path.relative_to(docs)) for where in ("*.md", "studies/*.md") for path in docs.glob(where)]
    assert sorted(named) == sorted([*outside, *pages])
