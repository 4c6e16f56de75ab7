"""Kill a suite at random moments, resume it, and compare with a run that was left alone.

    python scripts/kill_suite.py --kills 50 --executor local

Every set must have the same bytes and every score the same accuracies, none missing and none twice. Works in a
temporary folder; prints what it survived.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RECIPE = """
title = "Distribution matching, small enough to be killed often"
synthesizer = "distribution_matching"
[defaults]
iterations = 60
image_lr = 1.0
real_batch = 16
network = "ConvNetD1W8"
augment = "dsa"
"""
SUITE = """
title = "Two methods"
datasets = ["digits"]
methods = ["random", "{recipe}"]
ipc = [1]
seeds = [0]
protocols = ["quick-v1"]
{reference}
"""


def command(folder: Path, home: Path, executor: str) -> subprocess.Popen:
    """Start the suite, in a process group of its own."""
    options = ["--executor", executor, "--checkpoint-seconds", "0", "--networks", "2", "--results", home / "results"]
    return subprocess.Popen(
        [sys.executable, "-m", "distill_bench", "bench", folder / "killed.toml", "--quiet", *options],
        env=os.environ | {"DISTILL_BENCH_HOME": str(home), "DISTILL_BENCH_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def outcome(home: Path) -> dict[str, object]:
    """The hash of every set and the accuracies of every score, by file."""
    sets = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in home.glob("store/sets/*.safetensors")}
    results = home / "results"
    scores = {}
    for path in sorted(results.rglob("*-v1.json")):
        score = json.loads(path.read_text())
        scores[str(path.relative_to(results))] = (score["accuracies"], score["set_sha256"])
    return sets | scores


def finish(process: subprocess.Popen) -> None:
    """Wait for a run; raise with what it said if it failed."""
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"exit code {process.returncode}: {said.decode()}")


def survive(kills: int, executor: str, seed: int, folder: Path, reference: bool = False) -> dict[str, object]:
    """Run the suite once alone, once with ``kills`` SIGKILLs; return both outcomes and the number of kills that hit."""
    (folder / "quick.toml").write_text(RECIPE)
    line = 'reference = "full-v1"' if reference else 'reference = "none"'
    (folder / "killed.toml").write_text(SUITE.format(recipe=folder / "quick.toml", reference=line))
    began = time.monotonic()
    finish(command(folder, folder / "alone", executor))
    duration = time.monotonic() - began
    draw, hits = random.Random(seed), 0
    for attempt in range(kills):
        process = command(folder, folder / "killed", executor)
        try:
            process.wait(draw.uniform(0.2, 1.0) * duration)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            hits += 1
        process.communicate()
        if process.returncode == 0:
            # it came through: start over, so that the remaining kills have something to hit
            if outcome(folder / "killed") != outcome(folder / "alone"):
                break
            (folder / "killed").rename(folder / f"survived-{attempt}")
    finish(command(folder, folder / "killed", executor))
    return {"alone": outcome(folder / "alone"), "killed": outcome(folder / "killed"), "kills": hits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--executor", default="local")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = survive(arguments.kills, arguments.executor, arguments.seed, Path(folder), reference=True)
    same = found["alone"] == found["killed"]
    sys.stdout.write(f"kills: {found['kills']}; sets and scores: {len(found['alone'])}; identical: {same}\n")
    sys.exit(not same)


if __name__ == "__main__":
    main()
