"""Kill a suite at random moments, resume it, and compare with a run that was left alone.

    python scripts/kill_suite.py                # 50 SIGKILLs over all methods of the digits suite at IPC 1
    python scripts/kill_suite.py --kills 5 --method dm --method mtt

Every set, every pretrained network and every score must have the same bytes, none missing, no cell done twice. One kill
in three hits the runner and its workers, one the runner alone, one a worker alone. Works in a temporary folder with one
thread; prints what it survived and in which stage each kill fell, and writes results/reliability/kills.json.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from distill_bench.provenance import run_block
from distill_bench.storage import write_atomically

ROOT = Path(__file__).parent.parent
OUTCOME = ROOT / "results" / "reliability" / "kills.json"
NETWORKS = 2
TARGETS = ("runner and workers", "runner", "worker")
STAGES = {
    "pretrained/experts": "experts",
    "pretrained/teachers": "teachers",
    "store/checkpoints": "making a set",
    "store/sets": "a set is done",
    "store/scores": "evaluation",
    "store/locks": "a cell begins",
}


def all_methods() -> list[str]:
    return tomllib.loads((ROOT / "benchmarks" / "suites" / "digits.toml").read_text())["methods"]


def suite(methods: list[str], reference: bool = True) -> str:
    """The suite that is killed: methods on digits with the `cpu` preset, IPC 1, one seed."""
    return f"""
title = "Killed"
datasets = ["digits"]
methods = {json.dumps(methods)}
ipc = [1]
seeds = [0]
preset = "cpu"
protocols = ["quick-v1"]
reference = "{"full-v1" if reference else "none"}"
"""


@dataclass
class Killed:
    """What a suite went through. ``alone`` and ``killed`` are the outcomes to compare, files by name."""

    alone: dict[str, object]
    killed: dict[str, object] = field(default_factory=dict)
    stages: Counter[str] = field(default_factory=Counter)
    targets: Counter[str] = field(default_factory=Counter)
    runs: int = 1
    repeated: int = 0
    left_over: int = 0

    @property
    def kills(self) -> int:
        return self.stages.total()

    @property
    def lost(self) -> list[str]:
        """What is missing, differs, or is too much."""
        return sorted(k for k in self.alone.keys() | self.killed.keys() if self.alone.get(k) != self.killed.get(k))


def start(folder: Path, home: Path, executor: str) -> subprocess.Popen:
    """Start the suite, with one thread; what it says is added to a file beside its home."""
    options = ["--executor", executor, "--checkpoint-seconds", "0", "--networks", str(NETWORKS), "--compile", "off"]
    options += ["--results", str(home / "results")]
    with (home.with_suffix(".err")).open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "distill_bench", "bench", folder / "killed.toml", *options],
            env=os.environ | {"DISTILL_BENCH_HOME": str(home), "DISTILL_BENCH_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )


def finish(folder: Path, home: Path, executor: str) -> float:
    """Run the suite to its end; the seconds it took. Raises RuntimeError with what it said if it failed."""
    began = time.monotonic()
    if code := start(folder, home, executor).wait():
        raise RuntimeError(f"exit code {code}: {home.with_suffix('.err').read_text()[-2000:]}")
    return time.monotonic() - began


def outcome(home: Path) -> dict[str, object]:
    """The hash of every set and pretrained network, and the accuracies of every score, by file."""
    tensors = [*home.glob("store/sets/*.safetensors"), *home.glob("pretrained/*/*.safetensors")]
    results = sorted((home / "results").rglob("*-v1*.json"))
    scores = {str(path.relative_to(home)): json.loads(path.read_text()) for path in results}
    return {str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() for path in tensors} | {
        name: (score["accuracies"], score["set_sha256"], score["cell_key"]) for name, score in scores.items()
    }


def kill(process: subprocess.Popen, target: str) -> str:
    """SIGKILL a runner, its workers, or both, and return what was hit."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    workers = [int(each) for each in found]
    target = target if workers else "runner"
    for each in ([] if target == "worker" else [process.pid]) + ([] if target == "runner" else workers):
        os.kill(each, signal.SIGKILL)
    if target != "worker":
        process.wait()
    return target


def stage(home: Path, since: float) -> str:
    """What a run was at, by the file it wrote last."""
    written = [(path.stat().st_mtime, path) for path in home.rglob("*") if path.is_file() and path.suffix != ".tmp"]
    at, path = max(written, default=(0.0, home))
    folder = str(path.parent.relative_to(home)) if at > since else ""
    return STAGES.get(folder, "results" if folder.startswith("results") else "the run begins")


def survive(kills: int, executor: str, seed: int, folder: Path, text: str) -> Killed:
    """Run a suite once alone, once with ``kills`` SIGKILLs at times that cover all of it."""
    (folder / "killed.toml").write_text(text)
    duration = finish(folder, folder / "alone", executor)
    begins = finish(folder, folder / "alone", executor)
    found, draw = Killed(outcome(folder / "alone")), random.Random(seed)
    home = folder / "killed"
    process: subprocess.Popen | None = None
    while found.kills < kills:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode == 0 and found.kills < kills:
                # it came through before the kills were used up: once more from the start
                _compare(found, home)
                home = folder / f"killed-{found.runs}"
                found.runs += 1
            began, process = time.time(), start(folder, home, executor)
        try:
            process.wait(draw.uniform(0.4, 1.6) * (begins + (duration - begins) / kills))
        except subprocess.TimeoutExpired:
            found.stages[stage(home, began)] += 1
            found.targets[kill(process, TARGETS[found.kills % len(TARGETS)])] += 1
    if process is not None:
        process.wait()
    finish(folder, home, executor)
    _compare(found, home)
    return found


def _compare(found: Killed, home: Path) -> None:
    """Add what a run that came to its end has, and check it; the first that differs is kept."""
    if not found.killed or found.killed == found.alone:
        found.killed = outcome(home)
    done = Counter(re.findall(r"\] (.+): done;", home.with_suffix(".err").read_text()))
    found.repeated += sum(done.values()) - len(done)
    found.left_over += len([*home.rglob("*.tmp"), *home.glob("store/checkpoints/*"), *home.rglob("*.partial*")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--method", action="append", help="instead of all; repeatable")
    parser.add_argument("--executor", default="local")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    methods, began = arguments.method or all_methods(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = survive(arguments.kills, arguments.executor, arguments.seed, Path(folder), suite(methods))
    figures = {
        "kind": "kills", "methods": methods, "executor": arguments.executor, "seed": arguments.seed,
        "kills": found.kills, "hit": dict(found.targets), "stages": dict(found.stages), "runs": found.runs,
        "files": len(found.alone), "lost": found.lost, "cells_repeated": found.repeated, "left_over": found.left_over,
    }  # fmt: skip
    sys.stdout.write("".join(f"{name}: {value}\n" for name, value in figures.items()))
    if not arguments.method:
        write_atomically(OUTCOME, json.dumps(figures | {"run": run_block(time.monotonic() - began)}, indent=1) + "\n")
    sys.exit(bool(found.lost or found.repeated))


if __name__ == "__main__":
    main()
