"""leaderboard: tables in a terminal, Markdown elsewhere, several folders together, and where rows were made."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from result_files import failure, full, score, write

from distill_bench.benchmark.leaderboard.merged import CHECKOUT, HERE, origin_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    write(tmp_path / "mine", [score(accuracies=(70.0, 71.0)), score("random", accuracies=(50.0, 51.0))])
    theirs = [score(accuracies=(90.0, 91.0)), score("[bold]x", accuracies=(20.0, 21.5)), full(), failure()]
    write(tmp_path / "theirs", theirs)
    return tmp_path


def test_tables_where_asked_for_with_what_may_be_best_in_every_dataset(command, place):
    code, said, _ = command("leaderboard", "--results", "theirs", "--format", "table")
    lines = [line.split() for line in said.splitlines()]
    assert code == 0 and "|" not in said and "\x1b" not in said
    assert lines[0] == ["digits"]
    assert ["1", "dm", "hard"] in [line[:3] for line in lines]
    assert ["1", "[bold]x", "hard"] in [line[:3] for line in lines]  # no markup of rich's
    assert ["1", "mtt", "–", "failed"] in [line[:4] for line in lines]
    assert [line[1] for line in lines if line[3:4] == ["*"]] == ["dm"], "what may be best has a mark without colour too"


@pytest.mark.parametrize(("columns", "kept", "left_out"), [(80, "vs random", "peak memory"), (60, "budget", "size")])
def test_a_narrow_terminal_has_fewer_columns_and_whole_numbers(command, place, monkeypatch, columns, kept, left_out):
    long = [score("a-method-of-a-long-name-indeed", preset=f"a long preset {i}", accuracies=(90.0, 91.0)) for i in "ab"]
    write(place / "long", [*long, score("random", accuracies=(50.0, 51.0)), full()])
    monkeypatch.setenv("COLUMNS", str(columns))
    said = command("leaderboard", "--results", "long", "--format", "table")[1]
    (head,) = [line for line in said.splitlines() if "accuracy (%)" in line]
    assert "…" not in said and said.count("* 90.5 ± 6.4") == 2
    assert kept in head and left_out not in head
    assert max(map(len, said.splitlines())) <= columns
    (left,) = re.findall(rf"No room at {columns} columns for: ([^.]*)\.", " ".join(said.split()))
    assert left_out in left and kept not in left
    everything = {"published (%)", "peak memory", "synthesis", "size", "gap to full", "vs random"}
    assert {name for name in everything if name in head} == everything - {*left.split(", ")}


def test_markdown_where_it_goes_elsewhere(command, place):
    plain, asked = (command("leaderboard", "--results", "mine", *more) for more in ((), ("--format", "md")))
    assert plain == asked and plain[1].startswith("# Leaderboard")


def test_a_terminal_gets_tables_and_bold(command, place, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("distill_bench.cli.boards._is_terminal", lambda: True)
    code, said, _ = command("leaderboard", "--results", "theirs")
    assert code == 0 and re.search(r"\x1b\[1m *\* 90\.5 ± 6\.4\x1b\[0m", said)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in command("leaderboard", "--results", "theirs")[1]


def test_two_folders_stand_together_and_rows_say_where_they_are_from(command, place, monkeypatch):
    folders = ["--results", "mine", "--beside", "theirs"]
    names = {"mine": HERE, "theirs": CHECKOUT}
    board = sys.modules["distill_bench.benchmark.leaderboard.board"]  # the package has a function of that name
    monkeypatch.setattr(board, "origin_of", lambda folder: names[folder.name])
    rows = json.loads(command("leaderboard", *folders, "--json")[1])
    assert sorted({(row["origin"], row["method"]) for row in rows}) == [
        ("checkout", "[bold]x"), ("checkout", "dm"), ("checkout", "full"), ("checkout", "mtt"),
        ("here", "dm"), ("here", "random"),
    ]  # fmt: skip
    said = command("leaderboard", *folders)[1]
    assert "| dm, here |" in said and "| dm, checkout |" in said and said.count("# Leaderboard") == 1
    assert "dm, here" not in (place / "mine/digits/leaderboard.md").read_text()
    assert not (place / "theirs/digits").exists()  # what stands beside is not written to
    assert "dm, here" in command("leaderboard", *folders, "--format", "table")[1]
    assert command("leaderboard", *folders, "--html", "page.html")[0] == 0
    assert '"origin":"here"' in Path("page.html").read_text()


def test_folders_of_one_kind_go_by_their_paths(command, place):
    rows = json.loads(command("leaderboard", "--results", "mine", "--beside", "theirs", "--json")[1])
    assert {row["origin"] for row in rows} == {"mine", "theirs"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--beside", "nowhere"], "--beside nowhere is not a folder"),
        (["--beside", "./mine"], "is shown already"),
        (["--format", "html"], "give table or md"),
        (["--format", "md", "--json"], "leave out --html and --json"),
    ],
)
def test_what_cannot_be_shown_is_said(command, place, arguments, words):
    code, said, error = command("leaderboard", "--results", "mine", *arguments)
    assert (code, said) == (2, "") and words in error


def test_beside_needs_no_results_of_ones_own(command, place):
    code, said, _ = command("leaderboard", "--results", "none-yet", "--beside", "theirs")
    assert code == 0 and "| dm, " in said and not Path("none-yet").exists()


def test_what_git_tracks_came_with_the_checkout(tmp_path):
    tracked = subprocess.run(["git", "-C", ROOT, "ls-files", "results"], capture_output=True, check=False).stdout
    assert origin_of(ROOT / "results") == (CHECKOUT if tracked else HERE)
    assert origin_of(tmp_path) == origin_of(tmp_path / "missing") == HERE
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "x.jsonl").write_text("")
    subprocess.run(["git", "-C", tmp_path, "add", "x.jsonl"], check=True)
    assert origin_of(tmp_path) == HERE  # another repository's settings are not obeyed
