"""Names that become paths lead nowhere else: suites, recipes, ids, methods, datasets, files of registries."""

import shutil
from pathlib import Path

import pytest
import torch

from distill_bench import DistilledSet
from distill_bench.benchmark import BenchConfig, expand, load_suite
from distill_bench.benchmark.cells import SetCell, slug
from distill_bench.errors import DataError, UsageError
from distill_bench.hub.publish import release
from distill_bench.hub.registry.registry import load_registry, read_registry
from distill_bench.methods import load_method
from distill_bench.methods.recipe import load_recipe

LEADS_AWAY = ["../../evil", "/tmp/evil", "", " ", ".", "..", "a/b", "a\\b", ".hidden", "-rf", "C:evil", "a\nb"]
LEADS_AWAY += ["x" * 256]
SUITE = 'title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1]\nreference = "none"\n'


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", LEADS_AWAY)
def test_a_suite_writes_nothing_outside_its_results(command, name, tmp_path, monkeypatch):
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    quoted = name.replace("\\", "\\\\").replace("\n", "\\n")
    (place / "s.toml").write_text(f'name = "{quoted}"\n{SUITE}')
    before = tree(tmp_path)
    code, out, error = command("bench", "s.toml", "--results", "results", "--executor", "in-process", "--networks", 1)
    assert (code, out) == (2, "")
    assert "s.toml: name: the suite's name" in error
    assert tree(tmp_path) - {tmp_path / "home"} == before


@pytest.mark.parametrize("name", LEADS_AWAY)
def test_neither_does_a_setting_from_python(name, tmp_path):
    with pytest.raises(UsageError, match="the suite's name"):
        BenchConfig(name, tmp_path)


@pytest.mark.parametrize("file", [".toml", "-x.toml", "a\nb.toml"])
def test_a_suite_without_a_name_is_called_by_its_file_which_is_checked_too(file, tmp_path):
    (tmp_path / file).write_text(SUITE)
    with pytest.raises(UsageError, match="the suite's name"):
        load_suite(str(tmp_path / file))
    shutil.move(tmp_path / file, tmp_path / "mine.toml")
    assert load_suite(str(tmp_path / "mine.toml")).name == "mine"


@pytest.mark.parametrize("load", [load_suite, load_recipe, load_method])
@pytest.mark.parametrize("name", ["../recipes/dm", "../suites/digits", "./dm", "./digits", "/dm", "", "."])
def test_what_comes_with_the_package_is_loaded_by_its_name_alone(load, name):
    with pytest.raises(UsageError, match=r"unknown (suite|method)|is empty"):
        load(name)


@pytest.mark.parametrize("key", ["datasets", "methods"])
@pytest.mark.parametrize("name", ["a\\u001bb", "", "\\u202e"])
def test_the_names_in_a_grid_can_be_printed(key, name, tmp_path):
    text = SUITE.replace(f'{key} = ["', f'{key} = ["{name}", "')
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UsageError, match=f"suite s: a {key[:-1]}.*(is empty|has the character)"):
        expand(load_suite(str(tmp_path / "s.toml")), {})


@pytest.mark.parametrize(
    "name", [".", "..", "...", "folder:..", "folder:../../etc", "a" * 300, "猫" * 300, "folder:" + "a/" * 2000]
)
def test_results_lie_below_the_suites_folder(name, tmp_path):
    path = tmp_path / SetCell(name, name, 1, 0, "cpu", ()).result_name("quick-v1")
    path.parent.mkdir(parents=True)  # neither too long for a file system
    assert len(path.resolve().relative_to(tmp_path.resolve()).parts) == 3


def test_names_that_were_files_before_keep_theirs():
    assert slug("digits") == "digits" and slug("folder:my data/photos") == "folder-my-data-photos-8f2559bb"
    assert slug("a" * 240) == "a" * 240
    assert len({slug("a" * 241), slug("a" * 242)}) == 2


ENTRY = """[{id}]
method = "dm"
dataset = "digits"
ipc = 1
importer = "res"
protocol = "dsa-v1"
page = "https://example.org"
[[{id}.files]]
path = {path}
"""


@pytest.mark.parametrize(
    "path",
    [
        "../x.pt",
        "/x.pt",
        "a/../../x.pt",
        ".",
        "",
        "a\\\\b",
        "C:x",
        "a/.hidden",
        "a/-x",
        "a\\u001b.pt",
        "x" * 256,
    ],
)
def test_a_file_of_a_registry_of_ones_own_stays_in_the_cache(path, tmp_path, monkeypatch):
    (tmp_path / "r.toml").write_text(ENTRY.format(id="a-set", path=f'"{path}"'))
    monkeypatch.setenv("DISTILL_BENCH_REGISTRY", str(tmp_path / "r.toml"))
    with pytest.raises(DataError, match=r"\[a-set\]: files.0.path"):
        load_registry()


@pytest.mark.parametrize("name", ["../x", "/x", "A", "a b", "", ".", "..", "-a", "a\\n", "x" * 256])
def test_an_id_is_the_name_of_a_file(name, tmp_path, digits):
    (tmp_path / "r.toml").write_text(ENTRY.format(id=f'"{name}"', path='"x.pt"'))
    with pytest.raises(DataError, match=r"an id has small letters|the id has"):
        read_registry(tmp_path / "r.toml")
    DistilledSet.from_tensors(torch.zeros(10, 1, 8, 8), torch.arange(10), digits).save(tmp_path / "a.safetensors")
    if name:  # nothing given is the usual id
        with pytest.raises(UsageError, match=r"--id .*(an id has small letters|the id has)"):
            release(tmp_path / "a.safetensors", name=name.replace("\\n", "\n"))


def test_a_key_of_experts_is_looked_for_and_no_path(command, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"")
    for key in ("../x", str(tmp_path / "x"), "."):
        code, _, error = command("experts", "show", key)
        assert (code, "0 experts have a key that begins with" in error) == (2, True)
