"""Fractions beside images per class: in suites, results, boards, and everything that looks results up."""

import csv
import json

import pytest
import torch
from result_files import failure, full, score, write
from short_protocol import short_quick_v1

from distill_bench import load_distilled, load_results, synthesize
from distill_bench.benchmark import expand, load_suite, parse_only
from distill_bench.benchmark.leaderboard import Source, board, merged_rows, render, tables
from distill_bench.benchmark.leaderboard.collect import leaderboard_rows
from distill_bench.benchmark.leaderboard.figures import _budgets, accuracy_figure
from distill_bench.benchmark.leaderboard.page.commands import commands
from distill_bench.benchmark.leaderboard.page.rows import page_data
from distill_bench.benchmark.results import as_lines, file_result, fold, slot
from distill_bench.distilled.playback import training_images
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import Result
from distill_bench.evaluation.result_file import parse, to_json


def of(fraction, images, method="random", **fields):
    return score(method, None, fraction=fraction, images=images, **fields)


RESULTS = [
    of(0.1, 145), of(0.1, 145, "el2n", accuracies=(70.0, 71.0, 72.0)), of(0.02, 30), score("random", 10), full(),
    score("random", 1, images=10), score("dm", 10, images=100), of(0.1, 145, seed=1, accuracies=(80.0, 81.0, 82.0)),
]  # fmt: skip


@pytest.fixture
def suite(tmp_path):
    values = {"title": "t", "datasets": ["digits"], "methods": ["random", "dm"], "ipc": [1], "fraction": [0.02, 0.1]}
    values |= {"preset": "test", "reference": "none"}
    (tmp_path / "own.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return load_suite(str(tmp_path / "own.toml"))


def test_a_suite_is_a_grid_of_both_kinds_of_budget(suite):
    cells = expand(suite, {})
    assert [str(cell) for cell in cells[::2]] == [
        f"digits random {budget} seed 0" for budget in ("ipc 1", "2 %", "10 %")
    ]
    assert [(cell.ipc, cell.fraction) for cell in cells[::2]] == [(1, None), (None, 0.02), (None, 0.1)]
    assert str(cells[4].result_name("quick-v1")) == "digits/random/fraction0.1-seed0.quick-v1.json"
    assert str(cells[0].result_name("quick-v1")) == "digits/random/ipc1-seed0.quick-v1.json"


@pytest.mark.parametrize(
    ("only", "budgets"),
    [
        ("fraction=0.1", ["10 %"]),
        ("fraction=0.10", ["10 %"]),
        ("ipc=1", ["ipc 1"]),
        ("ipc=1,fraction=0.02", ["ipc 1", "2 %"]),
        ("method=random", ["ipc 1", "2 %", "10 %"]),
    ],
)
def test_filters_on_either_are_alternatives(suite, only, budgets):
    cells = expand(suite, parse_only("method=random," + only if "method" not in only else only))
    assert [str(cell.budget) for cell in cells] == budgets


def test_a_filter_on_what_is_not_there_is_refused(suite):
    with pytest.raises(UsageError, match=r"`only=fraction=0.5`: suite own has fraction 0.02, 0.1"):
        expand(suite, parse_only("fraction=0.5"))
    with pytest.raises(UsageError, match=r"suite digits has no fraction"):
        expand(load_suite("digits"), parse_only("fraction=0.5"))


@pytest.mark.parametrize("fraction", [0, 1.5, -0.1])
def test_a_suite_with_an_impossible_fraction_is_refused(tmp_path, fraction):
    (tmp_path / "own.toml").write_text(
        f'title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nfraction = [{fraction}]\n'
    )
    with pytest.raises(UsageError, match="fraction"):
        load_suite(str(tmp_path / "own.toml"))


def test_results_say_one_of_the_two_and_those_of_before_are_read(tmp_path):
    old, new = score("random", 10), of(0.1, 145)
    assert {"fraction", "images"}.isdisjoint(to_json(old)) and to_json(new)["fraction"] == 0.1
    for each in (old, new, full()):
        assert parse(json.dumps(to_json(each))) == each
    for wrong in ({"ipc": 1, "fraction": 0.1}, {"ipc": None}, {"fraction": 1.5, "ipc": None}):
        with pytest.raises(DataError):
            parse(json.dumps(old.model_dump(mode="json") | wrong))
    assert slot(old)[:4] == ("digits", "digits", "random", 10) and slot(new) != slot(of(0.2, 290))
    assert as_lines([new, old, full(), of(0.02, 30)]).count("\n") == 4
    names = {file_result(each, tmp_path).name.partition("-")[0] for each in (old, new, full())}
    assert names == {"ipc10", "fraction0.1", "full"}
    fold(tmp_path, "digits")
    table = load_results(tmp_path).sort_values("fraction", na_position="first")
    assert table["fraction"].tolist()[-1] == 0.1 and table["images"].tolist()[-1] == 145
    assert str(table["images"].dtype) == "Int64" and table["ipc"].isna().sum() == 2


def test_boards_have_one_budget_column_in_the_order_of_numbers_of_images(tmp_path):
    rows = leaderboard_rows([*RESULTS, failure("mtt", None, fraction=0.1, images=145)])
    (section,) = tables.sections(rows)
    lines = [line.cells[:2] for line in section.tables[0].lines]
    assert lines == [
        ["1", "random"], ["2 %", "random"], ["10", "dm"], ["10", "random"], ["10 %", "random"], ["10 %", "el2n"],
        ["10 %", "mtt"],
    ]  # fmt: skip
    assert [row["images"] for row in rows if row["method"] == "random"] == [10, 30, 100, 145]
    random, chosen = (
        next(row for row in rows if row["fraction"] == 0.1 and row["method"] == m) for m in ("random", "el2n")
    )
    assert random["seeds"] == 2
    (compared,) = [row for row in tables.compared(rows) if row["method"] == "el2n"]
    assert compared["random"] == random["accuracy"] and compared["vs_random"].difference == pytest.approx(
        71 - 89
    )  # of seed 0
    assert chosen["claimed"] is None
    files = render(rows, tmp_path)
    assert "| budget | method |" in files[0].read_text() and "| 10 % | el2n |" in files[0].read_text()
    (line,) = [each for each in csv.DictReader(files[1].read_text().splitlines()) if each["method"] == "el2n"]
    assert (line["ipc"], line["fraction"], line["images"]) == ("", "0.1", "145")


def test_a_set_of_fewer_images_stands_where_its_budget_does():
    """As of infer, whose compensators take the place of some: behind the better ones of as many images per class."""
    rows = [score("random", 2, images=20), score("infer", 2, images=10, accuracies=(70.0, 71.0, 72.0)), of(0.02, 15)]
    for shown in (leaderboard_rows(rows), merged_rows([Source("here", rows)])):
        assert [(row["method"], row["images"]) for row in shown] == [("random", 15), ("random", 20), ("infer", 20)]
    unknown = [score("infer", 2, dataset="folder:x", images=10)]
    assert leaderboard_rows(unknown)[0]["images"] == 10


def test_the_figure_has_both_on_one_axis():
    rows = leaderboard_rows(RESULTS)
    sets = [row for row in rows if row["method"] != "full"]
    assert _budgets(sets) == {10: "1", 30: "2 %", 100: "10", 145: "10 %"}
    uneven = [{**row, "images": 144} for row in sets if row["fraction"] == 0.1]
    assert _budgets([*sets, *uneven]) == {10: "1", 30: "2 %", 100: "10", 144: "10 %"}  # of unequal ones the least
    assert accuracy_figure(rows)[:4] == b"\x89PNG"


def test_the_page_knows_budgets_and_the_commands_that_make_them():
    rows = merged_rows(
        [Source("here", [of(0.1, 145, recipe={"pixel_space": "normalized"}), score("random", 10), full()])]
    )
    shown = {row["budget"]: row for row in page_data(rows)["rows"]}
    assert list(shown) == ["10", "10 %", None] and shown["10 %"]["images"] == 145
    (row,) = [row for row in rows if row["fraction"]]
    make, test = commands(row)
    assert "synthesize random --dataset digits --fraction 0.1 --preset cpu" in make
    assert "random-digits-fraction0.1-seed0.safetensors" in make and "random-digits-fraction0.1-seed0" in test


def test_of_one_suite_rows_of_a_fraction_are_made_again_by_a_filter(monkeypatch):
    suite = load_suite("digits").model_copy(update={"fraction": (0.1,)})
    monkeypatch.setattr("distill_bench.benchmark.leaderboard.page.commands.load_suite", lambda name: suite)
    (row,) = merged_rows([Source("here", [of(0.1, 145)])])
    (line,) = commands(row)
    assert line.startswith("distill-bench bench digits --only method=random,fraction=0.1,seed=0")


def test_methods_are_compared_at_a_fraction(tmp_path, command):
    folder = write(tmp_path / "results", RESULTS)
    code, said, _ = command("compare", "random", "el2n", "--results", folder, "--fraction", "0.1")
    assert code == 0 and "digits, 10 %, quick-v1" in said and "random is better than el2n by 18.0" in said
    code, said, _ = command("compare", "random", "dm", "--results", folder, "--json")
    assert [(each["ipc"], each["fraction"]) for each in json.loads(said)] == [(10, None)]
    code, _, error = command("compare", "random", "el2n", "--results", folder, "--fraction", "0.5")
    assert code == 2 and "0.02" in error


def test_from_synthesize_to_a_published_folder_and_back(tmp_path, digits, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with short_quick_v1(tmp_path / "home", 1):
        args = ["--dataset", "digits", "--fraction", "0.02", "--out", "a.safetensors", "--quiet"]
        assert command("synthesize", "random", *args)[0] == 0
        code, said, _ = command("evaluate", "a.safetensors", "--protocol", "quick-v1", "--json", "--results", "results")
        result = Result.model_validate_json(json.dumps({k: v for k, v in json.loads(said).items() if k != "sum"}))
        assert (result.ipc, result.fraction, result.images, result.budget) == (None, 0.02, 30, "2 %")
        (tmp_path / "a.json").write_text(said)
        code, said, _ = command("verify", "a.safetensors", "a.json")
        assert code == 0 and "random on digits, 2 %, protocol quick-v1" in said
        assert [row["fraction"] for row in board(tmp_path / "results")] == [0.02]
        code, said, error = command("publish", "a.safetensors", "--to", "folder", "--out", "p", "--result", "a.json")
        assert code == 0, error
        entry = (tmp_path / "p/registry-entry.toml").read_text()
        assert "fraction = 0.02" in entry and '["random-digits-fraction0.02"]' in entry
        assert "random on digits, 2 % of it" in (tmp_path / "p/README.md").read_text()


@pytest.mark.parametrize("form", ["folder", "mtt"])
def test_a_form_that_holds_pictures_and_classes_gives_the_fraction_back(tmp_path, digits, command, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    made = synthesize(digits, "random", fraction=0.02)
    made.save("a.safetensors")
    code, said, error = command("export", "a.safetensors", "--to", form, "--out", "back")
    assert code == 0, error
    (way,) = [line for line in said.splitlines() if "distill-bench import" in line]
    words = way.partition("distill-bench import ")[2].split()
    assert words[words.index("--fraction") + 1] == "0.02"
    code, said, error = command("import", *words, "--out", "b.safetensors")
    assert code == 0 and "30 images, 2 %" in said, error
    again = load_distilled("b.safetensors")
    assert again.card.fraction == 0.02
    torch.testing.assert_close(training_images(again), training_images(made))
    words[words.index("--fraction") + 1] = "0.1"
    code, _, error = command("import", *words, "--out", "c.safetensors")
    assert code == 2 and "there are 30 images, and 144 or 145 would be that fraction of the 1438" in error


def test_recipes_are_shown_for_a_fraction_where_there_is_one(command):
    code, said, _ = command("recipe", "show", "random", "--dataset", "digits", "--fraction", "0.1")
    assert code == 0 and json.loads(said)["fields"]["pixel_space"] == "normalized"
    code, _, error = command("recipe", "show", "dm", "--dataset", "digits", "--fraction", "0.1")
    assert code == 2 and "dm makes equally many images" in error
