"""`cache`: what is kept, whether it is what was written, and how to be rid of it."""

import json
import os
import subprocess
import sys

import pytest
import torch

from distill_bench.benchmark.cached import KINDS
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.progress import SILENT
from distill_bench.runtime.stored import write_bytes, write_json, write_with_sum


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(folder))
    write_with_sum(folder / "store/sets/a.safetensors", b"a set", {"seconds": 1.0})
    write_with_sum(folder / "pretrained/teachers/b.safetensors", b"a teacher", {})
    write_json(folder / "pretrained/teachers/b.test.json", {"accuracy": 98.0}, bound=True)
    write_with_sum(folder / "zca/c.safetensors", b"a whitening", {})
    write_json(folder / "store/networks/d/0.json", {"accuracy": 91.0, "seconds": 1.0}, bound=True)
    Checkpoint(folder / "checkpoints/e.safetensors").save({"x": torch.zeros(3)})
    write_bytes(folder / "digests/f", b"digests")
    (folder / "sources/mnist").mkdir(parents=True)
    (folder / "sources/mnist/train.parquet").write_bytes(b"pictures")
    (folder / "results").mkdir()
    (folder / "results/board.md").write_text("")
    return folder


CHECKED = {
    "sets": "store/sets/a.safetensors",
    "pretrained": "pretrained/teachers/b.safetensors",
    "teacher-scores": "pretrained/teachers/b.test.json",
    "whitening": "zca/c.safetensors",
    "networks": "store/networks/d/0.json",
    "checkpoints": "checkpoints/e.safetensors",
    "digests": "digests/f",
}


def test_everything_kept_is_listed_by_kind_with_its_size(command, home):
    code, out, _ = command("cache", "list", "--json")
    listed = json.loads(out)
    assert code == 0 and listed["folder"] == str(home)
    assert {kind for kind, facts in listed["kinds"].items() if facts["pieces"] == 1} == {*CHECKED, "sources", "results"}
    assert listed["kinds"]["sources"]["bytes"] == len(b"pictures")
    files = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    assert sum(facts["bytes"] for facts in listed["kinds"].values()) == files
    assert list(listed["kinds"]) == [kind.name for kind in KINDS]
    code, out, _ = command("cache", "list")
    assert code == 0 and out.count("\n") == len(KINDS) + 1


@pytest.mark.parametrize("kind", CHECKED)
def test_a_damaged_piece_is_named_and_no_other_and_nothing_is_changed(command, home, kind):
    assert command("cache", "check")[0] == 0
    path = home / CHECKED[kind]
    content = path.read_bytes()
    path.write_bytes(content[:-3] + bytes([content[-3] ^ 4]) + content[-2:])
    spoiled = path.read_bytes()
    code, out, error = command("cache", "check")
    assert code == 3 and f"damaged: {path} ({kind})" in out and out.count("damaged: ") == 1
    assert error.startswith("error: 1 of ") and path.read_bytes() == spoiled
    code, out, _ = command("cache", "check", "--json")
    assert code == 3 and json.loads(out)["damaged"] == [{"kind": kind, "path": str(path)}]
    code, out, _ = command("cache", "clear", "--damaged")
    assert code == 0 and out.startswith("1 piece deleted") and not path.exists()
    assert command("cache", "check")[0] == 0


def test_kinds_are_cleared_and_results_and_datasets_never(command, home):
    assert command("cache", "clear", "sets", "digests")[0] == 0
    assert not (home / "store/sets/a.safetensors").exists() and not (home / "store/sets/a.run.json").exists()
    assert not (home / "digests/f").exists() and (home / "zca/c.safetensors").exists()
    code, _, _ = command("cache", "clear", "--all")
    assert code == 0
    left = sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())
    assert left == ["results/board.md", "sources/mnist/train.parquet"]


@pytest.mark.parametrize("words", [(), ("sources",), ("results",), ("nonsense",), ("sets", "--all")])
def test_nothing_is_cleared_that_was_not_named(command, home, words):
    before = sorted(home.rglob("*"))
    code, out, error = command("cache", "clear", *words)
    assert (code, out) == (2, "") and error.startswith("error: ") and sorted(home.rglob("*")) == before


@pytest.mark.slow
def test_what_torch_compiles_lies_in_the_cache_folder(tmp_path):
    code = (
        "import sys; sys.argv = ['distill-bench', 'list', 'methods']\n"
        "from distill_bench.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "from torch._inductor.runtime.cache_dir_utils import cache_dir\n"
        "from distill_bench.training.compilation import set_inductor_cache\n"
        "set_inductor_cache(); print(cache_dir())"
    )
    environment = os.environ | {"DISTILL_BENCH_HOME": str(tmp_path / "home")}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert said.stdout.splitlines()[-1] == str(tmp_path / "home/compiled"), said.stderr
    assert (tmp_path / "home/compiled").stat().st_mode & 0o777 == 0o700


def test_what_another_process_makes_stays(command, home):
    """Whoever makes a suite's set holds a lock in a folder of locks, and has its checkpoint."""
    checkpoint = home / "store/checkpoints/a.safetensors"
    Checkpoint(checkpoint).save({"x": torch.zeros(3)})
    with file_lock(home / "store/locks/a.lock", SILENT, "makes it"):
        code, _, error = command("cache", "clear", "sets", "checkpoints")
    assert (code, error.count("is being made by another process, and stays")) == (0, 2)
    assert checkpoint.exists() and (home / "store/sets/a.safetensors").exists()
    assert not (home / "checkpoints/e.safetensors").exists()
    assert command("cache", "clear", "sets", "checkpoints")[0] == 0 and not checkpoint.exists()
