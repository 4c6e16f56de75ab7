"""What a suite cannot do is said before a set is made: where results may lie, what can be tested, what was asked."""

import pytest
from folders import images_folder
from result_files import score
from short_protocol import short_protocol

from distill_bench.benchmark import load_suite, plan
from distill_bench.benchmark.grid import expand, parse_only
from distill_bench.benchmark.results import file_result, fold, read_results
from distill_bench.errors import UsageError
from distill_bench.evaluation.protocol import members

GRID = """title = "t"
datasets = {datasets}
methods = {methods}
ipc = [1]
reference = "none"
protocols = ["{protocol}"]
"""


def flat_folder(path):
    """Pictures of one split: a class a folder."""
    images_folder(path.parent / "made")
    (path.parent / "made/train").rename(path)


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = short_protocol(tmp_path)

    def write(datasets, methods='["random"]', protocol=short):
        (tmp_path / "own.toml").write_text(GRID.format(datasets=datasets, methods=methods, protocol=protocol))
        return "own.toml"

    return write


@pytest.mark.parametrize("where", ["pets/train/results", "pets/test/deep/er", "flat/results"])
def test_results_never_lie_in_a_folder_of_images(command, suite, tmp_path, where):
    images_folder(tmp_path / "pets")
    flat_folder(tmp_path / "flat")
    name = where.split("/")[0]
    options = ("--holdout", 0.5) if name == "flat" else ()
    code, _, error = command("bench", suite(f'["folder:{name}"]'), "--results", where, *options)
    assert code == 2 and f"--results {where} lies in a folder of" in error
    assert (
        command("synthesize", "random", "--dataset", f"folder:{name}", "--ipc", 1, "--out", "set.safetensors")[0] == 0
    )
    for words in (
        ("evaluate", "set.safetensors", "--results", where, *options),
        ("publish", "set.safetensors", "--to", "folder", "--out", where),
    ):
        code, _, error = command(*words)
        assert code == 2 and "lies in a folder of" in error
    assert not (tmp_path / where).exists()


def test_results_beside_the_images_are_no_class(suite, tmp_path):
    images_folder(tmp_path / "pets")
    assert plan(load_suite(suite('["folder:pets"]')), tmp_path / "pets/results").works


def test_data_without_a_test_split_end_a_suite_before_a_set_is_made(command, suite, tmp_path):
    flat_folder(tmp_path / "flat")
    for more in ((), ("--dry-run",)):
        code, _, error = command("bench", suite('["folder:flat"]'), "--results", "results", *more)
        assert code == 2 and "has no test split" in error and "--holdout 0.2" in error
    assert not list(tmp_path.rglob("*.safetensors"))


def test_data_that_a_filter_leaves_out_need_not_be_there(suite, tmp_path):
    own = load_suite(suite('["digits", "folder:gone"]'))
    assert [work.cell.dataset for work in plan(own, tmp_path / "results", "dataset=digits").works] == ["digits"]


@pytest.mark.parametrize(("method", "protocol"), [("dm", "probe-v1-linear-1"), ("krr-st", "quick-v1")])
def test_labels_that_a_protocol_cannot_train_on_are_known_before_the_set(suite, tmp_path, method, protocol):
    for methods in (f'["{method}"]', f'[{{ method = "{method}", set = {{ iterations = 2 }}, as = "mine" }}]'):
        with pytest.raises(UsageError, match=f"{protocol} trains on (targets|labels)"):
            plan(load_suite(suite('["digits"]', methods, protocol)), tmp_path / "results")


def test_a_protocol_that_fits_is_enough(suite, tmp_path):
    """Of several protocols, some are for one method's sets and some for another's."""
    path = suite('["digits"]', '["random", "random-targets"]', 'quick-v1", "probe-v1-linear-1')
    assert [work.cannot for work in plan(load_suite(path), tmp_path / "results").works] == [None, None]


def test_sets_that_are_there_take_no_budget_seed_preset_or_value(command, suite, tmp_path):
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", "mine.safetensors")[0] == 0
    own = 'title = "t"\ndatasets = ["digits"]\nsets = ["mine.safetensors"]\nreference = "none"\n'
    (tmp_path / "sets.toml").write_text(own)
    for words in (("--ipc", 5), ("--seed", 7), ("--preset", "paper"), ("--fraction", 0.1)):
        code, _, error = command("bench", "sets.toml", "--dry-run", *words)
        assert code == 2 and "there already" in error and words[0] in error
    code, _, error = command("bench", "sets.toml", "--dry-run", "--set", "iterations=5")
    assert code == 2 and "no set is made here" in error
    (tmp_path / "none.toml").write_text(GRID.format(datasets='["digits"]', methods="[]", protocol="quick-v1"))
    code, _, error = command("bench", "none.toml", "--dry-run")
    assert code == 2 and "has no cell" in error and "filter" not in error


def test_a_filter_takes_names_with_commas(suite):
    methods = '[{ method = "dm", set = { iterations = 2 }, as = "dm, short" }, "random"]'
    own = load_suite(suite('["digits"]', methods))
    assert [str(cell) for cell in expand(own, parse_only("method=dm, short,ipc=1"))] == [
        "digits dm, short ipc 1 seed 0"
    ]
    for text, wanted in {
        "method=dm,ipc=1,ipc=10": {"method": {"dm"}, "ipc": {"1", "10"}},
        "method=a, b,": {"method": {"a, b"}}, "": {}, "ipc=1,10": {"ipc": {"1,10"}},
    }.items():  # fmt: skip
        assert parse_only(text) == wanted
    for wrong in ("dm,ipc=1", "method=dm,icp=1"):
        with pytest.raises(UsageError, match="is not key=value"):
            parse_only(wrong)


def test_a_protocol_that_stands_for_several_is_all_of_them_on_the_command_line_too():
    suite = load_suite("digits").adapted([], [], None, None, protocols=("probe-v1",))
    assert suite.protocols == members("probe-v1") and len(suite.protocols) > 1


def test_caches_of_their_own_lose_no_result_of_one_folder(tmp_path, monkeypatch):
    """The lock of a folder of results is in it: another cache's process waits for it."""
    for home in ("a", "b"):
        monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / home))
        file_result(score(seed=len(home) + ord(home)), tmp_path / "results")
        fold(tmp_path / "results", "digits")
    assert len(read_results(tmp_path / "results")) == 2
    assert (tmp_path / "results/.digits.lock").exists() and not (tmp_path / "a").exists()
