"""A suite of three methods, two of which share pretrained networks, that takes seconds; and what came of it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from distill_bench.benchmark.results import read_results

METHOD = """
import os
from distill_bench.runtime.paths import cache_dir
from distill_bench.methods.mean_matching.distribution_matching import distribution_matching

def counted(job):
    with open(cache_dir() / "begun", "a") as file:
        file.write(f"{os.getpid()} {os.environ.get('RAY_RAYLET_PID', 0)}\\n")
    return distribution_matching(job)

counted.config = distribution_matching.config
"""
RECIPES = {
    "matched": """
title = "Distribution matching that tells where it began"
function = "counted_method:counted"
[defaults]
iterations = 60
image_lr = 1.0
real_batch = 16
network = "ConvNetD1W8"
augment = "dsa"
""",
    "trajectories": """
title = "Trajectory matching with two short experts"
function = "distill_bench.methods.trajectory_matching.trajectory_matching:trajectory_matching"
[defaults]
network = "ConvNetD1W4"
experts = 2
iterations = 6
student_steps = 2
student_lr = 0.05
rate_lr = 1e-5
segment = [0, 2, 3]
segment_epochs = 1
image_lr = 1.0
loss_gate = 0.0
[defaults.expert]
epochs = 3
batch_size = 128
learning_rate = 0.1
momentum = 0.9
""",
    "recovered": """
title = "Recovered images in batches of one class"
function = "distill_bench.methods.decoupled.recover:recover"
[defaults]
iterations = 200
image_lr = 0.1
bn_weight = 0.1
classes_per_batch = 1
labels = "hard"
[defaults.teacher]
network = "ConvNetD1W4BN"
epochs = 2
learning_rate = 0.05
""",
    "softened": """
title = "Random images with a teacher's labels"
function = "distill_bench.methods.selection.relabelled:relabelled_selection"
[defaults]
labels = "soft"
[defaults.teacher]
network = "ConvNetD1W4"
epochs = 3
learning_rate = 0.05
""",
}
CELLS = 8


def write(folder: Path) -> None:
    """The suite's files."""
    (folder / "counted_method.py").write_text(METHOD)
    for name, text in RECIPES.items():
        (folder / f"{name}.toml").write_text(text)
    methods = [str(folder / f"{name}.toml") for name in RECIPES]
    (folder / "small.toml").write_text(
        f"title = 'small'\ndatasets = ['digits']\nmethods = {methods}\nipc = [1]\nseeds = [0, 1]\nreference = 'none'\n"
    )


def bench(
    folder: Path, home: Path, executor: str, *options: str, program: str = "", **environment: str
) -> subprocess.Popen:
    """Start the suite, every cell at one thread, in a process group of its own; ``program`` instead of the command."""
    path = os.pathsep.join(filter(None, [str(folder), *sys.path]))
    asked = ["--executor", executor, "--threads", "1", "--networks", "1", "--checkpoint-seconds", "0"]
    return subprocess.Popen(
        [
            *(sys.executable, *(["-c", program] if program else ["-m", "distill_bench"])),
            *("bench", "small.toml", "--results", home / "results", *asked, *options),
        ],
        cwd=folder,
        env=os.environ | {"DISTILL_BENCH_HOME": str(home), "PYTHONPATH": path} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen) -> str:
    """Wait for a run; what it said. Raises where it failed."""
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


def outcome(home: Path) -> dict[str, object]:
    """The bytes of every set and pretrained network, and every score, by file or cell."""
    made = [path for kind in ("store/sets", "pretrained") for path in (home / kind).rglob("*.safetensors")]
    files: dict[str, object] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made}
    for result in read_results(home / "results"):
        name = f"{Path(result.method).stem} {result.ipc} {result.seed} {getattr(result, 'protocol', 'failed')}"
        files[name] = getattr(result, "accuracies", None), getattr(result, "set_sha256", None), result.kind
    assert len(files) >= 2  # a set and its score
    return files


class Start(NamedTuple):
    """A process that began on a matched set, and the raylet of its node."""

    process: int
    raylet: int


def begun(home: Path) -> list[Start]:
    """Every start of the matched sets."""
    lines = (home / "begun").read_text().splitlines() if (home / "begun").exists() else []
    return [Start(*map(int, line.split())) for line in lines]
