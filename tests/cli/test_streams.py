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


def shell(line, tmp_path):
    short_protocol(tmp_path)
    (tmp_path / "mini.toml").write_text(SUITE)
    environment = os.environ | {"DISTILL_BENCH_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = line.replace("distill-bench", f"{sys.executable} -m distill_bench")
    run = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120
    )
    return run.returncode, run.stdout, run.stderr


@needs_full
@pytest.mark.parametrize(
    ("command", "target"),
    [("list methods", f">{FULL}"), ("--help", ">&-")],
)
def test_output_that_cannot_be_printed_is_an_error_in_one_line(command, target, tmp_path):
    code, out, error = shell(f"distill-bench {command} {target}", tmp_path)
    assert (code, out) == (3, "") and error.count("\n") == 1
    assert error.startswith("error: cannot write to standard output (") and "is kept" in error


def test_progress_that_cannot_be_said_ends_no_work(tmp_path):
    made = "--dataset digits --ipc 1 --preset test --out set.safetensors"
    code, out, _ = shell(f"distill-bench synthesize dm {made} 2>&-", tmp_path)
    assert code == 0 and out.startswith("set.safetensors: 10 images")


@needs_full
def test_progress_onto_a_full_disk_ends_no_work(tmp_path):
    code, out, _ = shell(f"distill-bench bench mini.toml --executor in-process --results results 2>{FULL}", tmp_path)
    assert code == 0 and "| random |" in out


@needs_full
def test_what_was_made_is_kept_where_it_cannot_be_printed(tmp_path, command, monkeypatch):
    made = "--dataset digits --ipc 1 --preset test --out set.safetensors"
    assert shell(f"distill-bench synthesize random {made} >{FULL}", tmp_path)[0] == 3
    assert (tmp_path / "set.safetensors").exists() and (tmp_path / "set.run.json").exists()
    scored = "set.safetensors --protocol short.toml --json"
    assert shell(f"distill-bench evaluate {scored} --results results >{FULL}", tmp_path)[0] == 3
    assert (tmp_path / "results/evaluated.jsonl").exists()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    code, out, error = command("evaluate", *scored.split())
    assert code == 0 and json.loads(out)["networks"] == 1 and "networks tested before: 1" in error


def test_a_reader_that_has_enough_is_no_traceback(tmp_path):
    code, out, error = shell("set -o pipefail; distill-bench list methods | head -1", tmp_path)
    assert code in (0, 1, 3) and out.count("\n") == 1 and "Traceback" not in error


@needs_full
def test_errors_keep_their_exit_code_where_they_cannot_be_said(tmp_path):
    assert (
        shell(f"distill-bench synthesize nonsense --dataset digits --ipc 1 --out x.safetensors 2>{FULL}", tmp_path)[0]
        == 2
    )


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses are Linux's")
@pytest.mark.parametrize("gigabytes", [1, 2])
def test_a_limit_that_torch_does_not_fit_into_is_one_line(gigabytes, tmp_path):
    code, out, error = shell(f"ulimit -v {gigabytes * 10**6}; distill-bench list methods", tmp_path)
    assert (code, out) in ((0, out), (1, ""))
    if code:  # a build of torch without CUDA may fit
        assert error.startswith("error: torch cannot be loaded (") and error.count("\n") == 1
