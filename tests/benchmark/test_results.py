"""Results as files: filed, folded into JSON lines, read back, and as a table."""

import json
import os
from pathlib import Path

import pytest
from result_files import failure, full, score, write

import distill_bench
from distill_bench.benchmark import results as room
from distill_bench.benchmark.results import file_result, fold, is_filed, load_results, read_results
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import Failure, Result


@pytest.fixture(autouse=True)
def _own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def test_results_and_failures_are_read_and_nothing_else(tmp_path):
    folder = write(tmp_path / "r", [score(), score(strict=True), failure()])
    (folder / "list.json").write_text("[1, 2]")
    (folder / "other.json").write_text('{"kind": "ranking"}')
    (folder / "kind.json").write_text('{"kind": {}}')
    assert read_results(folder) == [score(), score(strict=True), failure()]


def test_folding_moves_small_files_into_sorted_lines(folder):
    filed = [score(seed=seed, method=method) for method in ("dsa", "dm") for seed in (1, 0)]
    files = [file_result(each, folder) for each in filed]
    (folder / "digits/digits/mtt").mkdir()
    (folder / "digits/digits/mtt/ipc1-seed0.failed.json").write_text(failure().model_dump_json())
    (folder / "digits/digits/dm/note.txt").write_text("stays")
    fold(folder, "digits")
    assert not any(file.exists() for file in files)
    lines = (folder / "digits.jsonl").read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    assert [(each["method"], each["seed"]) for each in parsed] == [("dm", 0), ("dm", 1), ("dsa", 0), ("dsa", 1)]
    assert lines == [json.dumps(each, sort_keys=True) for each in parsed]
    assert sorted(path.name for path in (folder / "digits/digits").rglob("*")) == [
        "dm", "ipc1-seed0.failed.json", "mtt", "note.txt",
    ]  # fmt: skip
    assert read_results(folder) == [*sorted(filed, key=lambda each: (each.method, each.seed)), failure()]
    before = (folder / "digits.jsonl").read_bytes()
    fold(folder, "digits")
    assert (folder / "digits.jsonl").read_bytes() == before


def test_every_digit_of_an_accuracy_comes_back(folder):
    accuracies = (28.513333333333332, 100 / 3, 0.1 + 0.2)
    file_result(score(accuracies=accuracies), folder)
    fold(folder, "digits")
    assert read_results(folder)[0].accuracies == accuracies


def test_the_small_file_wins_over_the_line_and_replaces_it(folder):
    file_result(score(set_sha256="old"), folder)
    fold(folder, "digits")
    file_result(newer := score(set_sha256="new"), folder)
    assert read_results(folder) == [newer]
    fold(folder, "digits")
    assert read_results(folder) == [newer]
    assert len((folder / "digits.jsonl").read_text().splitlines()) == 1


def test_another_preset_and_other_images_of_ones_own_have_lines_of_their_own(folder):
    filed = [
        score(preset="cpu"), score(preset="paper"), score(dataset="folder:photos"),
        score(dataset="folder:photos", test_fingerprint="2"), score(dataset="folder:photos", train_fingerprint="2"),
    ]  # fmt: skip
    for each in filed:
        file_result(each, folder)
        fold(folder, "digits")
    assert len(read_results(folder)) == len(filed)
    file_result(score(test_fingerprint="2"), folder)  # of named data, which are read from other files
    assert len(read_results(folder)) == len(filed)


def test_a_result_of_fewer_networks_in_the_place_of_one_of_more_is_said(folder, caplog):
    for accuracies in ((80.0, 81.0, 82.0), (80.0,), (80.0, 81.0)):
        caplog.clear()
        file_result(score(accuracies=accuracies), folder)
        fold(folder, "digits")
        said = "a result of 1 network takes the place of one of 3" in caplog.text
        assert said == (len(accuracies) == 1)


@pytest.mark.parametrize("killed", ["before the lines are written", "before the files are deleted"])
def test_a_fold_that_is_killed_loses_nothing(folder, monkeypatch, killed):
    file_result(score(seed=0), folder)
    fold(folder, "digits")
    file_result(score(seed=1), folder)

    def stop(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if "deleted" in killed:
            patch.setattr(Path, "unlink", stop)
        else:
            patch.setattr(room, "write_atomically", stop)
        with pytest.raises(KeyboardInterrupt):
            fold(folder, "digits")
    assert [each.seed for each in read_results(folder)] == [0, 1]
    fold(folder, "digits")
    assert [each.seed for each in read_results(folder)] == [0, 1]
    assert not list(folder.rglob("*.json"))


def test_two_sets_that_no_suite_made_are_two_results_and_one_evaluated_again_is_one(folder):
    for digest in ("a", "b", "b"):
        file_result(score(suite="evaluated", synthesis=None, set_sha256=digest), folder)
    file_result(score(suite="evaluated", synthesis=None, set_sha256="b", network="MLP"), folder)
    fold(folder, "evaluated")
    found = [(each.set_sha256, each.network) for each in read_results(folder)]
    assert found == [("a", "ConvNetD2W64"), ("b", "ConvNetD2W64"), ("b", "MLP")]


def test_what_is_filed_is_found_in_the_small_file_and_in_the_lines(folder):
    name = file_result(score(score_key="k-3"), folder).relative_to(folder / "digits")
    assert is_filed("k-3", folder, "digits", name) and not is_filed("k-2", folder, "digits", name)
    fold(folder, "digits")
    assert is_filed("k-3", folder, "digits", name) and not is_filed("k-2", folder, "digits", name)
    file_result(score(score_key="k-2", seed=1), folder)
    fold(folder, "digits")  # the lines are read again after they were written again
    assert is_filed("k-2", folder, "digits", name)
    assert not is_filed("k-3", folder, "other", name)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"kind": "score"}', "dataset: Field required"),
        (score().model_dump_json().replace("[88.0,89.0,90.0]", "[]").encode(), "accuracies"),
    ],
)
@pytest.mark.parametrize("name", ["ipc1-seed0.quick-v1.json", "digits.jsonl"])
def test_a_broken_result_is_named_and_left_out(folder, content, complaint, name):
    (folder / name).write_bytes(content + b"\n")
    wrong = []
    assert read_results(folder, wrong=wrong) == []
    (line,) = wrong
    assert complaint in line and name in line


@pytest.mark.parametrize("content", [b"{half", b"\xff\xfe{}", b""])
def test_an_unreadable_result_is_left_out_and_said(folder, content, caplog):
    good = file_result(score(), folder)
    (folder / "ipc1-seed0.quick-v1.json").write_bytes(content)
    assert read_results(folder) == [score()]
    (line,) = caplog.messages
    assert "ipc1-seed0.quick-v1.json" in line and "left out" in line
    assert (folder / "ipc1-seed0.quick-v1.json").read_bytes() == content
    assert good.exists()


def test_a_line_that_cannot_be_read_is_left_out_and_outlives_a_fold(folder, caplog):
    file_result(score(), folder)
    fold(folder, "digits")
    with open(folder / "digits.jsonl", "a") as file:
        file.write("{half a line\n")
    file_result(score(seed=1), folder)
    assert [each.seed for each in read_results(folder)] == [0, 1]
    assert "digits.jsonl:2" in caplog.text and "left out" in caplog.text
    fold(folder, "digits")
    assert (folder / "digits.jsonl").read_text().splitlines()[-1] == "{half a line"
    assert [each.seed for each in read_results(folder)] == [0, 1]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="not a folder"):
        read_results(tmp_path / "nowhere")


def test_the_table_has_a_row_a_result_and_nested_values_as_columns(folder):
    file_result(score(recipe={"iterations": 3, "teacher": {"network": "ConvNet"}}, size=16), folder)
    file_result(full(), folder)
    write(folder / "digits" / "x", [failure()])
    table = distill_bench.load_results(folder).sort_values("method")
    assert list(table["method"]) == ["dm", "full"]
    assert list(table["data"]) == ["digits at 16 px", "digits"]
    assert table["ipc"].tolist()[0] == 1 and table["ipc"].isna().tolist() == [False, True]
    assert {str(table[name].dtype) for name in ("ipc", "seed", "size", "networks", "bytes")} == {"Int64"}
    assert table["synthesis.seconds"].tolist()[0] == 10.0
    assert table["recipe.teacher.network"].tolist()[0] == "ConvNet"
    assert table["accuracies"].tolist()[1] == [98.0]
    assert not {"recipe", "synthesis", "run", "origin"} & set(table.columns)


def test_the_table_of_no_results_has_the_columns(folder):
    table = load_results(folder)
    assert len(table) == 0 and {"data", "accuracy", "ipc", "strict", "notes"} <= set(table.columns)


def test_a_result_has_nothing_that_its_docstring_leaves_out():
    for model in (Result, Failure):
        said = " ".join(cls.__doc__ or "" for cls in model.__mro__ if "Attributes:" in (cls.__doc__ or ""))
        names = {name.strip() for line in said.splitlines() for name in line.split(":")[0].split(",")}
        assert set(model.model_fields) <= names, set(model.model_fields) - names


def test_no_suite_takes_the_name_of_what_evaluate_files(tmp_path):
    path = tmp_path / "evaluated.toml"
    path.write_text('title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1]\n')
    with pytest.raises(UsageError, match="evaluate `results`"):
        distill_bench.benchmark.load_suite(str(path))


def test_committed_results_are_folded_and_canonical():
    committed = Path(__file__).parents[2] / "results"
    for path in sorted(committed.glob("*.jsonl")):
        results = read_results(committed, path.stem)
        assert results and {each.suite for each in results} == {path.stem}
        assert room.as_lines(results) == path.read_text(), path
    assert len(list(committed.glob("*.jsonl"))) >= 13


def spoiled(path, kind):
    """Make a file of a result wrong in one way."""
    content = json.loads(path.read_text())
    changes = {
        "accuracy beyond 100": {"accuracies": [99999.0], "accuracy": 99999.0, "std": 0.0, "networks": 1},
        "accuracy without end": {"accuracies": [1e308, 1e308, 1e308]},
        "ipc without end": {"ipc": 10**30},
        "no ipc": {"ipc": None},
        "full with an ipc": {"method": "full"},
        "seed below 0": {"seed": -1},
        "negative time": {"synthesis": {"seconds": -1.0}},
        "another mean": {"accuracy": 12.0},
        "another interval": {"ci_low": 1.0},
        "another number of networks": {"networks": 7},
        "a text for a number": {"ipc": "1"},
        "a list for a text": {"dataset": ["digits"]},
        "a name with a line break": {"method": "d\nm"},
        "no accuracies": {"accuracies": []},
        "a rate below 0": {"learning_rate": -1.0},
    }
    texts = {
        "cut": path.read_text()[:200],
        "no text": "\x00\xff",
        "half a letter": path.read_text().replace('"digits"', '"\\ud800"'),
        "NaN": path.read_text().replace('"accuracy":89.0', '"accuracy":NaN'),
    }
    if kind == "a pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_text(texts[kind] if kind in texts else json.dumps(content | changes[kind]), errors="surrogateescape")


WRONG = [
    "accuracy beyond 100", "accuracy without end", "ipc without end", "no ipc", "full with an ipc", "seed below 0",
    "negative time", "another mean", "another interval", "another number of networks", "a text for a number",
    "a list for a text", "a name with a line break", "no accuracies", "a rate below 0", "cut", "no text",
    "half a letter", "NaN", "a pipe",
]  # fmt: skip


def test_a_board_of_500_results_with_20_bad_ones_shows_480_and_names_20(command, folder, caplog):
    write(folder, [score(ipc=ipc) for ipc in range(1, 501)])
    bad = {folder / f"{25 * index + 3:04d}.json": kind for index, kind in enumerate(WRONG)}
    assert len(bad) == 20
    for path, kind in bad.items():
        spoiled(path, kind)
    code, out, error = command("leaderboard", "--results", folder, "--json")
    rows = json.loads(out)
    assert code == 0 and len(rows) == 480 and max(row["accuracy"] for row in rows) <= 100
    assert len(caplog.messages) == 20 and all("left out" in line for line in caplog.messages)
    assert all(sum(str(path) in line for line in caplog.messages) == 1 for path in bad)
    assert "note: 20 results left out" in error
    assert command("leaderboard", "--results", folder, "--json", "--strict")[0] == 3


def test_only_bad_results_are_an_error_that_names_them(command, folder, caplog):
    write(folder, [score()])
    spoiled(folder / "0000.json", "another mean")
    code, out, error = command("leaderboard", "--results", folder)
    assert (code, out) == (3, "") and "0000.json" in caplog.text and "no result there is as it should be" in error


@pytest.mark.parametrize("lines", [False, True])
def test_a_result_that_was_changed_since_it_was_written_says_so_on_the_board(command, folder, lines, caplog):
    path = file_result(score(), folder)
    file_result(score(method="random"), folder)
    if lines:
        fold(folder, "digits")
        path = folder / "digits.jsonl"
    path.write_text(path.read_text().replace('"seconds": 10.0', '"seconds": 11.0', 1))
    code, out, error = command("leaderboard", "--results", folder, "--json")
    assert code == 0 and sorted(row["status"] for row in json.loads(out)) == ["changed", "done"]
    assert f"{path}" in caplog.text and "changed since it was written" in caplog.text and "note: 1 result" in error
    code, out, _ = command("leaderboard", "--results", folder)
    assert out.count(", changed since it was written") == 1
    assert command("leaderboard", "--results", folder, "--strict")[0] == 3
    before = path.read_text()
    fold(folder, "digits")  # which gives no new sum to it
    assert before in (path.read_text() if path.exists() else "") or lines
    (changed,) = [each for each in read_results(folder) if room.CHANGED in each.notes]
    assert changed.synthesis.seconds == 11.0


def test_a_sum_whose_own_name_was_damaged_is_no_result_without_one(folder, caplog):
    path = file_result(score(), folder)
    path.write_text(path.read_text().replace('"sum":', '"sul":'))
    (changed,) = read_results(folder)
    assert room.CHANGED in changed.notes and str(path) in caplog.text
    assert room.stored_result(path) is None


def test_a_result_without_a_sum_is_taken(folder):
    write(folder, [score()])
    assert "sum" not in json.loads((folder / "0000.json").read_text())
    assert read_results(folder) == [score()]
