"""What README and docs show is run as written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from folders import images_folder
from study_tables import suites_of

from distill_bench.benchmark import load_suite

ROOT = Path(__file__).parent.parent


def commands(page: str) -> list[str]:
    """The distill-bench lines of a page's shell blocks, comments removed."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    lines = [line.split(" #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("distill-bench")]


def blocks_of(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_every_link_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
    links = [(page, target) for page in pages for target in re.findall(r"\]\(([^)#]+)\)", page.read_text())]
    assert len(links) >= 40
    for page, target in links:
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_row_that_is_explained_stands_on_the_board():
    page = (ROOT / "docs/reading-a-board.md").read_text().splitlines()
    board = (ROOT / "results/digits/leaderboard.md").read_text().splitlines()
    table = [line for line in page if line.startswith("|")]
    assert len(table) == 3 and set(table) <= set(board)


def test_the_python_of_the_readme_runs(tmp_path, forked_python):
    code = "\n".join(blocks_of("README.md"))
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # two would wait for each other on a busy machine
    done = subprocess.run(
        [forked_python, "-c", code], cwd=tmp_path, env=one_thread, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dm.safetensors").exists()
    assert float(done.stdout.split()[0]) > 60


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("target", ["bench", "bench-all", "leaderboard", "bench-speed", "bench-scaling", "test-kills"])
def test_no_target_of_make_writes_what_is_tracked_unless_told(target):
    def lines(*settings: str) -> str:
        words = ["make", "--dry-run", "--always-make", target, *settings]
        return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout

    (place,) = re.findall(r"--(?:results|out) (\S+)", lines()) or [None]
    assert place is None or place.split("/")[0] == "build"  # else in the cache
    assert "build/" in (ROOT / ".gitignore").read_text()
    (place,) = re.findall(r"--(?:results|out) (\S+)", lines("RESULTS=results"))
    assert place.split("/")[0] == "results"


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize("study", ["pruning", "recovery", "evaluator", "gradient", "difficulty"])
@pytest.mark.parametrize(("settings", "pages"), [((), "build/studies"), (("RESULTS=results",), "docs/studies")])
def test_a_study_is_written_to_the_docs_only_when_told(study, settings, pages):
    said = _dry_run(f"study-{study}", "ONLY=seed=0", *settings)
    folder = "results" if settings else "build"
    assert (
        re.findall(r"distill-bench bench (\S+) ", said) == [study] and f'--only "seed=0" --results {folder}\n' in said
    )
    assert f"{study}_study.py {folder} --out {pages}\n" in said
    assert re.findall(r"distill-bench bench (\S+) ", _dry_run(f"study-{study}")) == suites_of(study), (
        "all that its page reads"
    )


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_some_cells_of_a_study_can_be_of_its_other_data():
    said = _dry_run("study-gradient", "SUITE=gradient-cifar10", "ONLY=seed=0")
    assert re.findall(r"distill-bench bench (\S+) .*--only \"seed=0\"", said) == ["gradient-cifar10"]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
def test_a_study_downloads_the_sets_of_its_suite_before_it_runs_any():
    named = {each for method in load_suite("evaluator-cifar10").methods for each in [method.set["images"]]}
    released = {each.removeprefix("published:") for each in named if each != "random" and "reproduced" not in each}
    said = _dry_run("study-evaluator").split("distill-bench download ")
    assert len(said) == 2 and "bench evaluator " not in said[0] and {*said[1].split("\n")[0].split()} == released
    assert "download" not in _dry_run("study-evaluator", "ONLY=seed=0")


def _dry_run(*words: str) -> str:
    whole = ["make", "--dry-run", "--always-make", *words]
    return subprocess.run(whole, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)  # some thirty commands, beside other work
@pytest.mark.parametrize("page", ["README.md", "docs/own-method.md", "docs/getting-started.md"])
def test_the_commands_run_in_the_order_they_stand(page, tmp_path):
    images_folder(tmp_path / "photos", count=4, side=40)
    (tmp_path / "mean_images.py").write_text(blocks_of("docs/own-method.md")[0])
    environment = os.environ | {"DISTILL_BENCH_HOME": str(tmp_path / "home")}
    lines = commands(page)
    assert len(lines) >= 3
    for line in lines:
        words = [sys.executable, "-m", "distill_bench", *shlex.split(line)[1:]]
        done = subprocess.run(words, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
