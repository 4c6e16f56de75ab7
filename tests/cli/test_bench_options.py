"""``bench`` with other protocols, presets, budgets, seeds and values than the suite's, and the file to begin with."""

import json
import re
import tomllib

import pytest

from distill_bench.benchmark.suite import Suite, load_suite
from distill_bench.benchmark.template import TEMPLATE
from distill_bench.evaluation import PROTOCOLS

SUITE = 'title = "t"\ndatasets = ["digits"]\nmethods = ["random", "dm"]\nipc = [1, 2]\nreference = "none"\n'


@pytest.fixture
def cells(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    (tmp_path / "s.toml").write_text(SUITE)

    def listed(*words):
        code, out, error = command("bench", "s.toml", "--dry-run", "--json", *words)
        assert code == 0, error
        return json.loads(out)

    return listed


def test_the_grid_is_replaced_by_what_is_given(cells):
    given = ("--ipc", 3, "--ipc", 5, "--seed", 7, "--preset", "paper", "--protocol", "dc-v1", "--protocol", "dsa-v1")
    found = {(c["method"], c["ipc"], c["seed"], c["preset"], *c["protocols"]) for c in cells(*given)}
    assert found == {(name, ipc, 7, "paper", "dc-v1", "dsa-v1") for name in ("random", "dm") for ipc in (3, 5)}
    assert len(cells()) == 4


def test_a_value_makes_a_variant_of_every_method_that_has_the_field(cells, command):
    names = [cell["method"] for cell in cells("--ipc", 1, "--set", "iterations=3", "--only", "method=dm,method=random")]
    assert names == ["random", "dm iterations=3"]
    for words, said in (
        (("--set", "itertions=3"), "Did you mean iterations?"),
        (("--set", "network=3"), "network"),
        (("--protocol", "quick"), "Did you mean quick-v1?"),
        (("--protocol", "full-v1"), "name it as the reference"),
        (("--preset", "papr"), "Did you mean paper?"),
        (("--seed", -1), "--seed -1"),
    ):
        code, _, error = command("bench", "s.toml", "--dry-run", *words)
        assert (code, said in error) == (2, True), error


def test_the_result_of_a_variant_stands_beside_that_of_the_suite(cells, command, monkeypatch):
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    words = ("bench", "s.toml", "--only", "method=random,ipc=1", "--networks", 1, "--executor", "in-process", "--json")
    both = command(*words)[1], command(*words, "--set", "zca_eps=0.2", "--set", "pixel_space=zca")[1]
    assert [[row["method"] for row in json.loads(out)] for out in both] == [
        ["random"],
        ["random", "random zca_eps=0.2 pixel_space=zca"],
    ]


def test_a_new_suite_names_every_key_runs_and_is_never_replaced(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("bench", "--new", "my.toml")[0] == 0
    text = (tmp_path / "my.toml").read_text()
    assert text == TEMPLATE.read_text()
    lines = re.findall(r"^(?:# )?([a-z_]+ = .*)$", text, re.MULTILINE)  # what a # hides is valid TOML, too
    assert {*tomllib.loads("\n".join(lines))} == {*Suite.model_fields} - {"name"}
    code, out, _ = command("bench", "my.toml", "--dry-run")
    assert code == 0 and "2 cells" in out and load_suite("my.toml").name == "my"
    (tmp_path / "my.toml").write_text("mine")
    code, _, error = command("bench", "--new", "my.toml")
    assert code == 2 and "--force" in error and (tmp_path / "my.toml").read_text() == "mine"
    assert command("bench", "--new", "my.toml", "--force")[0] == 0 and (tmp_path / "my.toml").read_text() == text
    for words in (["--new", "my.txt"], ["--new", "evaluated.toml"], ["digits", "--new", "a.toml"], []):
        assert command("bench", *words)[0] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"my.toml"}


def test_budgets_of_one_kind_leave_none_of_the_other(command):
    words = ("bench", "digits", "--seed", 0, "--only", "method=random", "--dry-run", "--json")
    for given, budgets in {
        ("--fraction", 0.1): {(None, 0.1)},
        ("--ipc", 1): {(1, None)},
        ("--ipc", 1, "--fraction", 0.5): {(1, None), (None, 0.5)},
    }.items():
        code, output, _ = command(*words, *given)
        assert code == 0 and {(cell["ipc"], cell["fraction"]) for cell in json.loads(output)} == budgets
