"""Cells that cannot be run are said with their reason, and the others run; what a run says of the time it takes."""

import json
import re

import pytest
from folders import images_folder
from result_files import full, score

from distill_bench.benchmark import BenchConfig, SetCell, run_cells, tasks_of
from distill_bench.benchmark.leaderboard import board, tables
from distill_bench.benchmark.leaderboard.collect import leaderboard_rows
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.errors import UsageError
from distill_bench.runtime.progress import StreamMonitor, clock


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Two classes of twelve pictures, a third of six and a fourth of four; protocols that take a moment."""
    from distill_bench.evaluation import PROTOCOLS

    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    for name in ("quick-v1", "full-v1"):
        short = {"epochs": 1, "minimum_steps": 0, "networks": 1, "network": "ConvNetD1W4"}
        monkeypatch.setitem(PROTOCOLS, name, PROTOCOLS[name].model_copy(update=short))
    images_folder(tmp_path / "pets", ("cat", "dog"), count=12)
    images_folder(tmp_path / "pets", ("newt",), count=6)
    images_folder(tmp_path / "pets", ("axolotl",), count=4)
    monkeypatch.chdir(tmp_path)


BENCH = ("bench", "own", "--dataset", "folder:pets", "--only", "method=random,method=full", "--results", "results")
REASON = "class 'axolotl' has 4 training images, fewer than the 10 per class asked for"


@pytest.mark.parametrize("executor", ["in-process", pytest.param("local", marks=pytest.mark.slow)])
def test_a_small_class_stops_its_cells_alone(command, pets, tmp_path, executor):
    if executor == "local":  # whose processes have no protocols of the test
        options = ("--networks", 1, "--only", "method=random", "--executor", executor)
    else:
        options = ("--executor", executor)
    code, out, error = command(*BENCH, *options)
    assert code == 1
    assert "| 1 | random | hard |" in out and "| 10 | random | – | failed |" in out
    assert f"random ipc 10 seed 0 cannot be run: folder:pets: {REASON}" in error
    assert error.splitlines()[-1].endswith(
        f"{REASON}. Run the IPCs up to 4 alone, such as --only ipc=1, or add images."
    )
    assert "--ipc" not in error
    rows = {(row["method"], row["ipc"]): row["status"] for row in board(tmp_path / "results")}
    reference = {} if executor == "local" else {("full", None): "done"}
    assert rows == {("random", 1): "done", ("random", 10): "failed"} | reference
    (failed,) = (tmp_path / "results").rglob("*.failed.json")
    assert REASON in json.loads(failed.read_text())["error"]


def test_the_reason_is_said_where_progress_is_not(command, pets):
    _, _, error = command(*BENCH, "--executor", "in-process", "--quiet")
    assert error.startswith("error: 1 of 3 cells failed") and REASON in error


@pytest.mark.parametrize("as_json", [False, True])
def test_a_dry_run_lists_what_cannot_be_run(command, pets, as_json):
    code, out, _ = command(*BENCH, "--dry-run", *(["--json"] if as_json else []))
    assert code == 0
    if as_json:
        states = [(cell["ipc"], cell["state"], cell["cannot"] and REASON in cell["cannot"]) for cell in json.loads(out)]
        assert states == [(1, "missing", None), (10, "impossible", True), (None, "missing", None)]
    else:
        assert f"impossible folder:pets random ipc 10 seed 0  folder:pets: {REASON}" in out
        assert "3 cells: 2 missing, 1 impossible" in out
        assert "folder:pets full  the suite's reference, trained on the whole training split, full-v1" in out


def test_where_no_set_can_be_made_the_request_is_wrong(command, pets, tmp_path):
    for more in ((), ("--dry-run",)):
        code, out, error = command(*BENCH, "--only", "method=random,method=full,ipc=10", *more)
        assert (code, out) == (2, "")
        assert REASON in error and "--only ipc=1" in error
    assert not (tmp_path / "results").exists()


def test_it_runs_when_there_are_images_enough(command, pets, tmp_path):
    assert command(*BENCH, "--executor", "in-process")[0] == 1
    for name in ("newt", "axolotl"):
        for folder in ((tmp_path / "pets" / split / name) for split in ("train", "test")):
            folder.rename(tmp_path / f"{folder.parent.name}-{name}")
    assert command(*BENCH, "--executor", "in-process")[0] == 0
    assert {row["status"] for row in board(tmp_path / "results")} == {"done"}


def test_any_reason_stops_its_cell_alone(pets, tmp_path):
    setting = BenchConfig("mine", tmp_path / "results")
    cells = [SetCell("digits", method, 1, 0, "cpu", ("quick-v1",)) for method in ("random", "rded")]
    works = [tasks_of(cell, setting) for cell in cells]
    works[1].cannot = "it takes square images"  # as a method's fields say of a source
    assert run_cells(works, "in-process", 1, StreamMonitor(quiet=True)) == 1
    assert [row["status"] for row in board(tmp_path / "results")] == ["done", "failed"]
    with pytest.raises(UsageError, match="square"):
        works[1].run(StreamMonitor(quiet=True))


def test_the_advice_for_one_set_is_in_its_commands_words(command, pets):
    from distill_bench import load_dataset, synthesize

    with pytest.raises(UsageError, match=r"class 'axolotl' has 4 training images.* Give `ipc=4` or less"):
        synthesize(load_dataset("folder:pets"), "random", 5)
    code, _, error = command(
        "synthesize", "random", "--dataset", "folder:pets", "--ipc", 5, "--out", "x.safetensors"
    )  # what the error advises is enough: it names the smallest class
    assert (code, "Give --ipc 4 or less" in error) == (2, True)
    assert command("synthesize", "random", "--dataset", "folder:pets", "--ipc", 4, "--out", "x.safetensors")[0] == 0
    assert load_distilled("x.safetensors").card.ipc == 4


# --- how long it takes


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min 00 s"), (750, "12 min 30 s"), (3600, "1 h 00 min"), (29079, "8 h 04 min")],
)
def test_a_time_has_its_units(seconds, said):
    assert clock(float(seconds)) == said


def test_the_total_says_what_it_leaves_out(command, pets, monkeypatch):
    monkeypatch.setattr(
        "distill_bench.benchmark.predict",
        lambda works, *_: {work: 750.0 if work.cell.ipc == 1 else None for work in works},
    )
    monkeypatch.setattr("distill_bench.benchmark.predict_pretraining", lambda works: {})
    _, out, _ = command("bench", "digits", "--only", "method=mtt,ipc=1,ipc=10,seed=0,protocol=quick-v1", "--dry-run")
    assert "digits mtt ipc 1 seed 0  preset cpu, quick-v1, about 12 min 30 s, up to " in out
    assert "digits mtt ipc 10 seed 0  preset cpu, quick-v1, no time known yet, up to " in out
    rest = "not counting 1 cells of which no time is known yet"
    assert f"about 12 min 30 s for the suite, 1 at a time, {rest}" in out


# --- what a board says of itself


def test_a_reference_is_named_where_there_is_one():
    other = score(dataset="other")
    assert "full is the reference named above the table." in tables.markdown(leaderboard_rows([score(), full()]))
    without = tables.markdown(leaderboard_rows([score()]))
    assert "above" not in without and "full is training on the whole split, which was not scored here" in without
    assert "above the table, where there is one." in tables.markdown(leaderboard_rows([score(), full(), other]))
    assert "1 synthesis seed." in without and "1 synthesis seeds" not in without


@pytest.mark.parametrize("content", [{}, {"reports/x.json": "[]"}, {"mine/digits/x.json": '{"kind": "other"}'}])
@pytest.mark.parametrize("options", [[], ["--json"], ["--html", "board.html"]])
def test_a_folder_without_results_is_an_error_that_says_what_was_looked_for(command, tmp_path, content, options):
    for name, text in content.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    code, out, error = command("leaderboard", "--results", tmp_path, *options)
    assert (code, out) == (2, "")
    assert f"{tmp_path} has no results. Run distill-bench bench digits" in error and "<suite>.jsonl" in error


def test_leaderboard_shows_what_bench_wrote_where_nothing_is_said(command, pets, tmp_path, monkeypatch):
    assert command("bench", "digits", "--only", "method=random,ipc=1,seed=0,protocol=quick-v1",
                   "--executor", "in-process")[0] == 0  # fmt: skip
    assert (tmp_path / "home/results/digits/leaderboard.md").exists()
    code, out, _ = command("leaderboard", "--html", tmp_path / "board.html")
    assert (code, out) == (0, f"{tmp_path / 'board.html'}\n")
    page = (tmp_path / "board.html").read_text()
    (data,) = re.findall(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert "random" in data and "digits" in data
