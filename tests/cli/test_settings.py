"""What is set once and for all: the command line before the environment before the file; slips are named."""

import json
from pathlib import Path

import pytest

from distill_bench import UsageError, cli
from distill_bench.cli.commands import options_of
from distill_bench.cli.settings import defaults
from distill_bench.runtime.paths import cache_dir, offline


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = tmp_path / "config.toml"
    monkeypatch.setenv("DISTILL_BENCH_CONFIG", str(path))

    def write(text):
        path.write_text(text)
        return path

    write("")
    return write


def test_what_is_nearer_counts(config, monkeypatch):
    options = options_of(cli.app)
    assert defaults(options) == {}
    config(
        'device = "cpu"\n[bench]\nset = ["a=1"]\ndevice = "cuda"\n[cache.list]\njson = true\n[import]\nzca-eps = 0.3\n'
    )
    found = defaults(options)
    assert found["bench"] == {"device": "cuda", "values": ["a=1"]} and found["synthesize"] == {"device": "cpu"}
    assert found["cache"] == {"list": {"as_json": True}} and found["import"] == {"zca_eps": 0.3}
    monkeypatch.setenv("DISTILL_BENCH_DEVICE", "mps")
    monkeypatch.setenv("DISTILL_BENCH_BENCH_SET", "b=2")
    found = defaults(options)
    assert found["bench"] == {"device": "cuda", "values": ["b=2"]} and found["synthesize"] == {"device": "mps"}


def test_options_come_from_the_file_unless_they_are_typed(config, command):
    config('[recipe.show]\ndataset = "cifar10"\nset = ["iterations=3"]\n[list]\njson = true\n')
    shown = json.loads(command("recipe", "show", "dm", "--ipc", 100)[1])
    assert (shown["fields"]["iterations"], shown["fields"]["image_lr"]) == (3, 10.0)
    assert json.loads(command("recipe", "show", "dm", "--set", "iterations=4")[1])["fields"]["iterations"] == 4
    assert "suites" in json.loads(command("list", "suites")[1])


def test_an_option_that_is_typed_takes_the_place_of_what_it_excludes(config, monkeypatch):
    config("[synthesize]\nipc = 1\n[evaluate]\nholdout = 0.2\nnetworks = 1\n[bench]\nipc = [1, 2]\nsplit = 'test'\n")
    options = options_of(cli.app)
    assert defaults(options, ["synthesize", "random", "--fraction", "0.1"])["bench"] == {"split": "test"}
    assert defaults(options, ["evaluate", "x", "--split=test"])["evaluate"] == {"networks": 1}
    assert defaults(options, ["evaluate", "x", "--networks", "3"])["evaluate"]["holdout"] == 0.2
    monkeypatch.setenv("DISTILL_BENCH_BENCH_FRACTION", "0.1")  # nearer than the file
    assert defaults(options)["bench"] == {"split": "test", "fraction": ["0.1"]}


def test_settings_for_other_suites_are_none_of_one_that_makes_no_set(config, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", "mine.safetensors")[0] == 0
    (tmp_path / "sets.toml").write_text(
        'title = "t"\ndatasets = ["digits"]\nsets = ["mine.safetensors"]\nreference = "none"\n'
    )
    config('[bench]\npreset = "paper"\nipc = 5\nset = ["iterations=3"]\nforce = true\n')
    code, said, error = command("bench", "sets.toml", "--dry-run")
    assert code == 0 and "set mine" in said, error


def test_a_method_that_is_named_takes_the_place_of_the_files(config, command, tmp_path):
    config('[synthesize]\nmethod = "dm"\nipc = 1\n')
    out = tmp_path / "x.safetensors"
    assert command("synthesize", "random", "--dataset", "digits", "--out", out)[0] == 0
    assert json.loads(command("info", out)[1])["card"]["method"] == "random"
    code, _, error = command("synthesize", "random", "--method", "dm", "--dataset", "digits", "--out", out)
    assert code == 2 and "name one method" in error


def test_values_of_the_file_are_written_as_on_the_command_line(config):
    config('[bench]\nclasses = ["a,b", "c"]\nresults = "~/there"\n')
    found = defaults(options_of(cli.app))["bench"]
    assert (json.loads(found["classes"]), found["results"]) == (["a,b", "c"], str(Path.home() / "there"))
    config('[bench]\nflip_invariant = false\nclasses = ["1", "2"]\nset = "a=1"\ndry_run = true\nmethod = ["a", "b"]\n')
    expected = {"flip_invariant": "no", "classes": "1,2", "values": ["a=1"], "dry_run": True, "method": ["a", "b"]}
    assert defaults(options_of(cli.app))["bench"] == expected


def test_a_home_may_begin_with_a_tilde(config, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DISTILL_BENCH_HOME")
    config('home = "~/there"\n')
    assert cache_dir() == tmp_path / "there"
    monkeypatch.setenv("DISTILL_BENCH_HOME", "~/here")
    assert cache_dir() == tmp_path / "here"


def test_the_package_itself_has_settings(config, monkeypatch, tmp_path):
    monkeypatch.delenv("DISTILL_BENCH_OFFLINE")
    config(f'home = "{tmp_path}/there"\noffline = true\n')
    assert offline() and str(cache_dir()) != f"{tmp_path}/there"  # the tests' own environment counts before it
    monkeypatch.delenv("DISTILL_BENCH_HOME")
    assert str(cache_dir()) == f"{tmp_path}/there"
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "0")
    assert not offline()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('divice = "cpu"', "no setting 'divice'. Did you mean device?"),
        ('[synthesise]\npreset = "cpu"', "no setting 'synthesise'. Did you mean synthesize?"),
        ('[synthesize]\nprest = "cpu"', "synthesize has no option 'prest'. Did you mean preset"),
        ("[cache.lst]\njson = true", "cache has no command 'lst'. Did you mean list?"),
        ('bench = "digits"', "bench is a command: its options stand in a table, [bench]"),
        ("device = ", "not valid TOML"),
    ],
)
def test_what_is_no_setting_is_refused(config, command, text, said):
    path = config(text)
    code, out, error = command("list", "suites")
    assert (code, out, said in error, str(path) in error) == (2, "", True, True), error


def test_slips_in_the_environment_are_named_and_other_variables_left_alone(config, command, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_QX", "1")
    assert command("list", "suites")[0] == 0
    monkeypatch.setenv("DISTILL_BENCH_DEVCE", "cpu")
    code, _, error = command("list", "suites")
    assert (code, error) == (
        2,
        "error: the environment variable DISTILL_BENCH_DEVCE is no setting. Did you mean DISTILL_BENCH_DEVICE?\n",
    )
    monkeypatch.delenv("DISTILL_BENCH_DEVCE")
    monkeypatch.setenv("DISTILL_BENCH_CONFIG", "nowhere.toml")
    assert command("list", "suites")[0] == 2


@pytest.mark.parametrize(("said", "forbidden"), [("", False), ("0", False), ("no", False), ("1", True), ("Yes", True)])
def test_offline_is_yes_or_no(monkeypatch, said, forbidden):
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", said)
    assert offline() is forbidden


@pytest.mark.parametrize("said", ["n", "flase", "2"])
def test_another_word_is_neither(monkeypatch, said):
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", said)
    with pytest.raises(UsageError, match="give yes or no"):
        offline()
