"""What the repository says of itself in several places is the same in all."""

import ast
import importlib
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
JOBS = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]


def test_the_versions_of_python_that_are_promised_are_tested():
    promised = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert JOBS["tests"]["strategy"]["matrix"]["python-version"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"


def test_the_workflow_runs_the_targets_that_make_has():
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if ":" in line}
    commands = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    asked = {line.removeprefix("make ") for line in commands if line.startswith("make ")}
    assert {"test", "lint", "typecheck", "docs"} == asked <= targets


def test_every_direct_dependency_has_a_lower_bound():
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    assert len(PROJECT["dependencies"]) > 10
    assert [line for line in PROJECT["dependencies"] + extras if ">=" not in line and "==" not in line] == []


def test_one_version_and_one_address():
    tree = ast.parse((ROOT / "distill_bench/__init__.py").read_text())
    (version,) = (n.value.value for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "__version__")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    assert citation["repository-code"] == site["repo_url"] == PROJECT["urls"]["Homepage"]


@pytest.mark.parametrize("script", sorted(path.stem for path in (ROOT / "scripts").glob("*.py")))
def test_every_script_finds_what_it_imports(script):
    """A name that the package no longer has is found here, and not when the script is run again after a year."""
    if script == "site_pages":
        pytest.importorskip("mkdocs", reason="the docs extra is not installed")
    importlib.import_module(script)
