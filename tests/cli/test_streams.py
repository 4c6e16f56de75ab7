"""Standard streams that are full or closed: work goes on, and a result that cannot be printed is exit code 3."""

import json
import os
import subprocess
import sys

import pytest
from short_protocol import short_protocol

FULL = "/dev/full"
SUITE = """title = "t"
datasets = ["digits"]
methods = ["random"]
ipc = [1]
seeds = [0]
protocols = ["short.toml"]
reference = "none"
"""
needs_full = pytest.mark.skipif(not os.path.exists(FULL), reason="no /dev/full here")


@pytest.fixture
def shell(tmp_path, forked_python):
    """Run a line of a shell: (exit code, standard output, standard error)."""
    short_protocol(tmp_path)
    (tmp_path / "mini.toml").write_text(SUITE)
    environment = os.environ | {"DISTILL_BENCH_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}

    def run(line: str, python: str = forked_python) -> tuple[int, str, str]:
        command = line.replace("distill-bench", f"{python} -m distill_bench")
        done = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    return run


@needs_full
@pytest.mark.parametrize(("line", "python"), [(f"list methods >{FULL}", sys.executable), ("--help >&-", "forked")])
def test_output_that_cannot_be_printed_is_an_error_in_one_line(line, python, shell, forked_python):
    code, out, error = shell(f"distill-bench {line}", forked_python if python == "forked" else python)
    assert (code, out) == (3, "") and error.count("\n") == 1
    assert error.startswith("error: cannot write to standard output (") and "is kept" in error


def test_progress_that_cannot_be_said_ends_no_work(shell):
    made = "--dataset digits --ipc 1 --preset test --out set.safetensors"
    code, out, _ = shell(f"distill-bench synthesize dm {made} 2>&-")
    assert code == 0 and out.startswith("set.safetensors: 10 images")


@needs_full
def test_progress_onto_a_full_disk_ends_no_work(shell):
    code, out, _ = shell(f"distill-bench bench mini.toml --executor in-process --results results 2>{FULL}")
    assert code == 0 and "| random |" in out


@needs_full
def test_what_was_made_is_kept_where_it_cannot_be_printed(shell, tmp_path, command, monkeypatch):
    made = "--dataset digits --ipc 1 --preset test --out set.safetensors"
    assert shell(f"distill-bench synthesize random {made} >{FULL}")[0] == 3
    assert (tmp_path / "set.safetensors").exists() and (tmp_path / "set.run.json").exists()
    scored = "set.safetensors --protocol short.toml --json"
    assert shell(f"distill-bench evaluate {scored} --results results >{FULL}")[0] == 3
    assert (tmp_path / "results/evaluated.jsonl").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    code, out, error = command("evaluate", *scored.split())
    assert code == 0 and json.loads(out)["networks"] == 1 and "networks tested before: 1" in error


def test_a_reader_that_has_enough_is_no_traceback(shell):
    code, out, error = shell("set -o pipefail; distill-bench list methods | head -1")
    assert code in (0, 1, 3) and out.count("\n") == 1 and "Traceback" not in error


@needs_full
def test_errors_keep_their_exit_code_where_they_cannot_be_said(shell):
    assert shell(f"distill-bench synthesize nonsense --dataset digits --ipc 1 --out x.safetensors 2>{FULL}")[0] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses are Linux's")
@pytest.mark.parametrize("gigabytes", [1, 2])
def test_a_limit_that_torch_does_not_fit_into_is_one_line(gigabytes, shell):
    code, out, error = shell(f"ulimit -v {gigabytes * 10**6}; distill-bench list methods", sys.executable)
    assert (code, out) in ((0, out), (1, ""))
    if code:  # a build of torch without CUDA may fit
        assert error.startswith("error: torch cannot be loaded (") and error.count("\n") == 1
