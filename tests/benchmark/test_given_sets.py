"""Suites that name sets which are there already: files beside the suite, and published ones by their ids."""

import hashlib
import json
import sys

import pytest
from short_protocol import short_protocol

from distill_bench import synthesize
from distill_bench.benchmark import GivenSetCell, expand, load_suite, parse_only
from distill_bench.benchmark.leaderboard import board
from distill_bench.benchmark.results import read_results
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS


@pytest.fixture
def folder(monkeypatch, tmp_path, digits):
    """A suite of one set beside it, and protocols that take a moment."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "networks": 2, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    synthesize(digits, "random", 1, preset="cpu", seed=7).save(tmp_path / "mine.safetensors")
    write(tmp_path)
    return tmp_path


def write(folder, **changes):
    values = {"title": "t", "datasets": ["digits"], "sets": ["mine.safetensors"], "reference": "none"} | changes
    (folder / "own.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()))
    return load_suite(str(folder / "own.toml"))


def test_a_set_stands_on_the_board_beside_those_that_the_suite_makes(folder, command):
    write(folder, methods=["random"], ipc=[1])
    results = ["--results", folder / "results", "--executor", "in-process"]
    code, said, _ = command("bench", folder / "own.toml", *results, "--json")
    assert code == 0
    rows = json.loads(said)
    assert [(row["method"], row["ipc"], row["seeds"], row["status"]) for row in rows] == [("random", 1, 1, "done")] * 2
    assert {row["preset"].split()[0] for row in rows} == {"cpu"} and len({row["preset"] for row in rows}) == 2
    file = folder / "results/own.jsonl"
    given = [each for each in read_results(folder / "results") if each.seed == 7]
    assert [(each.synthesis, len(each.accuracies)) for each in given] == [(None, 2)]
    before = file.stat().st_mtime_ns
    assert command("bench", folder / "own.toml", *results)[0] == 0
    assert file.stat().st_mtime_ns == before  # done, and not done again
    assert len(board(folder / "results")) == 2


def test_a_published_set_is_a_value_of_a_variant(folder, monkeypatch):
    """By its id in the suite, by its file in the cell; one that is not there is refused, with what to do."""
    entry = load_distilled(folder / "mine.safetensors")
    file_sum = hashlib.sha256((folder / "mine.safetensors").read_bytes()).hexdigest()
    (folder / "registry.toml").write_text(
        '[mine-digits-ipc1]\nmethod = "random"\ndataset = "digits"\nipc = 1\nimporter = "distill-bench"\n'
        'protocol = "quick-v1"\npage = "https://example.org"\n'
        f'[[mine-digits-ipc1.files]]\npath = "mine.safetensors"\nsha256 = "{file_sum}"\n'
    )
    monkeypatch.setenv("DISTILL_BENCH_REGISTRY", str(folder / "registry.toml"))
    variant = "{ method = 'random-soft', set = { images = 'published:%s', labels = 'hard' }, as = 'anew' }"
    text = "title = 't'\ndatasets = ['digits']\nipc = [1]\nreference = 'none'\nmethods = [%s]\n"
    (folder / "anew.toml").write_text(text % variant % "mine-digits-ipc1")
    (cell,) = expand(load_suite(str(folder / "anew.toml")), {})
    assert load_distilled(cell.settings["images"]).sha256 == entry.sha256 and cell.settings["labels"] == "hard"
    (folder / "anew.toml").write_text(text % variant % "dm-cifar10-ipc1")
    with pytest.raises(DataError, match="dm-cifar10-ipc1"):
        expand(load_suite(str(folder / "anew.toml")), {})


def test_a_set_without_preset_and_seed_stays_so_and_its_result_can_be_verified(folder, digits, command):
    """As imported ones are: its name stands on the board in place of a preset, which no claim is then judged by."""
    made = load_distilled(folder / "mine.safetensors")
    card = made.card.model_copy(update={"preset": None, "seed": None, "recipe": {}})
    DistilledSet(made.images, made.labels, card).save(folder / "mine.safetensors")
    run = ["bench", folder / "own.toml", "--results", folder / "results", "--executor", "in-process"]
    assert command(*run)[0] == 0
    (given,) = read_results(folder / "results")
    assert (given.given, given.preset, given.seed) == ("mine", None, None)
    assert [row["preset"] for row in board(folder / "results")] == ["set mine"]
    code, said, _ = command("verify", folder / "mine.safetensors", folder / "results/own.jsonl")
    assert (code, said.split(":")[0]) == (0, "holds")


def test_a_given_set_is_scored_under_the_protocol_of_its_card(folder, digits):
    (cell,) = expand(write(folder, protocols=["card", "quick-v1"]), {})
    assert cell.protocols == (load_distilled(folder / "mine.safetensors").card.protocol, "quick-v1")


@pytest.mark.parametrize("protocol", ["antigravity:x", "mine.toml", "full-v1", "standard-v99"])
def test_what_a_card_names_is_not_loaded(folder, protocol):
    made = load_distilled(folder / "mine.safetensors")
    named = made.card.model_copy(update={"protocol": protocol})
    DistilledSet(made.images, made.labels, named).save(folder / "mine.safetensors")
    suite = write(folder, protocols=["card"])
    with pytest.raises(UsageError, match=r"mine.safetensors: its card's protocol .* is none of this project's"):
        expand(suite, {})
    assert "antigravity" not in sys.modules
    assert expand(write(folder), {})[0].protocols == ("quick-v1",)


def test_sets_alone_are_a_suite_and_a_filter_can_name_them(folder):
    suite = write(folder)
    (cell,) = expand(suite, parse_only("method=random,ipc=1,seed=7"))
    assert isinstance(cell, GivenSetCell)
    assert (cell.name, cell.file, cell.preset) == ("mine", str(folder / "mine.safetensors"), "cpu")
    with pytest.raises(UsageError, match=r"`only=ipc=2`: suite own has ipc 1"):
        expand(suite, parse_only("ipc=2"))
    with pytest.raises(UsageError, match="the filter leaves no cell"):
        expand(write(folder, methods=["random"], ipc=[2], seeds=[0]), parse_only("ipc=2,seed=7"))


@pytest.mark.slow
def test_a_worker_process_is_told_of_a_set(folder, command, monkeypatch):
    monkeypatch.chdir(folder)
    write(folder, protocols=[short_protocol(folder)])
    code, said, _ = command("bench", folder / "own.toml", "--results", folder / "results", "--json")
    assert (code, [row["status"] for row in json.loads(said)]) == (0, ["done"])


def test_a_dry_run_names_the_file(folder, command):
    _, said, _ = command("bench", folder / "own.toml", "--dry-run")
    assert f"missing    digits random ipc 1 set mine  {folder / 'mine.safetensors'}, quick-v1, " in said


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"sets": ["nowhere.safetensors"]}, DataError, "nowhere.safetensors: no such file"),
        ({"sets": ["dm-cifar10-ipc9999"]}, UsageError, "dm-cifar10-ipc9999"),
        ({"sets": ["dc-cifar10-ipc1"]}, DataError, "distill-bench download dc-cifar10-ipc1"),
        ({"sets": ["mine.safetensors"] * 2}, UsageError, "two sets called mine"),
        ({"datasets": ["mnist"]}, UsageError, "mine.safetensors is of digits; the suite has mnist"),
        ({"sets": []}, UsageError, "a suite names methods and ipc \\(or fraction\\), or sets"),
    ],
)
def test_what_is_not_there_or_does_not_fit_is_one_clear_error(folder, changes, error, said):
    with pytest.raises(error, match=said):
        expand(write(folder, **changes), {})


def test_a_set_that_does_not_fit_the_suites_data_cannot_be_run(folder, command):
    write(folder, size=16)
    code, _, said = command("bench", folder / "own.toml", "--results", folder / "results")
    assert (code, "the set's images are 1×8×8, those of digits 1×16×16" in said) == (2, True)


def test_a_suite_names_a_method_with_other_values_under_a_name_of_its_own(folder, command, forked_python, monkeypatch):
    monkeypatch.setattr(sys, "executable", forked_python)
    monkeypatch.chdir(folder)
    (folder / "own.toml").write_text(
        "title = 't'\ndatasets = ['digits']\nipc = [1]\nreference = 'none'\npreset = 'test'\n"
        "methods = ['dm', { method = 'dm', set = { iterations = 2, augment = 'none' }, as = 'plain-dm' }]\n"
        f"protocols = ['{short_protocol(folder)}']\n"
    )
    cells = expand(load_suite(str(folder / "own.toml")), {})
    assert [str(cell) for cell in cells] == ["digits dm ipc 1 seed 0", "digits plain-dm ipc 1 seed 0"]
    usual, plain = (cell.load_method().config("digits", 1, "test") for cell in cells)
    assert plain == usual.model_copy(update={"iterations": 2, "augment": "none"}) != usual
    words = ["bench", folder / "own.toml", "--results", folder / "results", "--json", "--networks", 1]
    code, said, error = command(*words, "--only", "method=plain-dm", "--jobs", 1)  # a process of its own is told all
    assert code == 0, error
    assert [(row["method"], row["status"]) for row in json.loads(said)] == [("plain-dm", "done")]
    (result,) = read_results(folder / "results")
    assert (result.method, result.recipe["iterations"], result.recipe["augment"]) == ("plain-dm", 2, "none")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("{ method = 'dm', set = { speed = 1 }, as = 'fast' }", "fast has no field speed"),
        ("{ method = 'dmm', set = {}, as = 'fast' }", "unknown method 'dmm'. Did you mean dm"),
        ("{ method = 'dm', set = {}, as = 'dm' }, 'dm'", "has the method dm twice"),
        ("{ method = 'dm', set = {}, as = \"a\\u0007b\" }", "has the character"),
        ("{ method = 'dm', as = 'fast' }", "'fast' has no values of its own: give them as set or each"),
    ],
)
def test_a_variant_that_makes_no_sense_is_refused(folder, command, entry, complaint):
    (folder / "own.toml").write_text(
        f"title = 't'\ndatasets = ['digits']\nipc = [1]\nreference = 'none'\nmethods = [{entry}]\n"
    )
    code, _, error = command("bench", folder / "own.toml", "--results", folder / "results", "--dry-run")
    assert (code, complaint in error) == (2, True), error
