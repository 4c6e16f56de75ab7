"""A built wheel, installed away from the checkout, has everything it needs."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(out)!r}))"
    built = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return out / built.stdout.split()[-1]


def test_it_carries_recipes_suites_published_accuracies_and_the_registry_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "distill_bench/py.typed" in names
    assert "distill_bench/benchmark/leaderboard/published.csv" in names
    suites = {str(path.relative_to(ROOT)) for path in (ROOT / "distill_bench/benchmark/suites").glob("*.toml")}
    recipes = {str(path.relative_to(ROOT)) for path in (ROOT / "distill_bench/methods").glob("*/*.toml")}
    assert min(map(len, (suites, recipes))) >= 10
    page = {f"benchmark/leaderboard/page/page.{ending}" for ending in ("html.j2", "css", "js")}
    written = {"hub/dataset_card.md.j2", "hub/registry_entry.toml.j2"}
    templates = {f"distill_bench/{name}" for name in written | page}
    assert suites | recipes | templates <= names
    tables = {"hub/registry/registry.toml", "evaluation/protocols.toml", "datasets/named.toml"}
    assert {f"distill_bench/{name}" for name in tables} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"distill_bench"}


@pytest.mark.slow
def test_installed_in_a_clean_environment_it_benches(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    zipfile.ZipFile(wheel).extractall(packages)
    # third-party packages are lent by path; the checkout is not among them
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin" / "python"
    code = "import distill_bench, sys; print(distill_bench.__file__); from distill_bench.cli import main; main()"
    done = subprocess.run(
        [python, "-c", code, "bench", "digits", "--dry-run", "--only", "method=dm,ipc=1,seed=0,protocol=quick-v1"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "DISTILL_BENCH_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(environment) in done.stdout.splitlines()[0]
    assert "missing" in done.stdout
    assert "digits dm ipc 1 seed 0" in done.stdout
