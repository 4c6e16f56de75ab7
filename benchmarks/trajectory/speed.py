"""The time of one exact trajectory gradient against an eager TESLA iteration, side by side.

    python benchmarks/trajectory/speed.py              # 20 minutes on two idle cores; writes results/trajectory/

CIFAR-10 shape, ConvNetD3, batch 100. Fresh processes, interleaved: ours (compiled, tuned allocator), the reference with
the system's allocator settings, the reference with the tuned ones. Medians over rounds. The entries have the fields of
results/speed/speed.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from iteration import CLASSES, NETWORK, SHAPE, timed
from torch.utils.flop_counter import FlopCounterMode

from distill_bench.networks import build_network
from distill_bench.provenance import peak_memory_mb, run_block
from distill_bench.randomness import generator
from distill_bench.storage import write_atomically

RESULTS = Path(__file__).parents[2] / "results" / "trajectory"
ALLOCATOR = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_TOP_PAD_": str(64 * 2**20)}
# convolutions of a layer, in units of its forward pass: a gradient has 3; a directional derivative of it 3 forward (one
# of them the network's own), 3 towards the input and 2 towards the weights
UNITS = 3 + 8
RUNS = {
    "ours": ("exact", True, True),
    "reference": ("reference-tesla", False, False),
    "reference_tuned": ("reference-tesla", False, True),
}


def measure(kind: str, compiled: bool, tuned: bool, steps: int, batch: int) -> dict[str, float]:
    """Seconds of one gradient (median of three) and peak MB of a fresh process."""
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    command = [sys.executable, __file__, "--one", kind, "--steps", str(steps), "--batch", str(batch)]
    command += ["--compiled"] if compiled else []
    settings = environment | (ALLOCATOR if tuned else {})
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=settings).stdout)


def limit(steps: int, batch: int) -> float:
    """Seconds that the convolutions of all steps would take at the rate of a large matrix product."""
    side = 2048
    left, right = torch.rand(side, side), torch.rand(side, side)
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - began)
    network = build_network(NETWORK, SHAPE, CLASSES, generator("shapes"))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, *SHAPE))
    return counter.get_total_flops() * batch * steps * UNITS / (2 * side**3 / min(seconds))


def case(steps: int, batch: int, rounds: int) -> dict[str, Any]:
    """One entry, from interleaved rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(rounds):
        for name, setting in RUNS.items():
            found[name].append(measure(*setting, steps, batch))
    seconds = {name: median(run["seconds"] for run in runs) for name, runs in found.items()}
    return {
        "case": f"trajectory-exact-n{steps}",
        "ours_seconds": seconds["ours"],
        "reference_seconds": seconds["reference"],
        "ratio": seconds["ours"] / seconds["reference"],
        "reference_tuned_seconds": seconds["reference_tuned"],
        "ratio_tuned": seconds["ours"] / seconds["reference_tuned"],
        "ours_mb": median(run["mb"] for run in found["ours"]),
        "reference_mb": median(run["mb"] for run in found["reference"]),
        "limit_seconds": limit(steps, batch),
        "machine": f"{run_block(0.0)['cpu']}, {torch.get_num_threads()} threads, {platform.system()}",
    }


def table(entries: list[dict[str, Any]]) -> str:
    lines = [
        "| case | ours s | TESLA as shipped s | ratio | TESLA tuned s | ratio | ours MB | TESLA MB | limit s |",
        "|---" * 9 + "|",
    ]
    for e in entries:
        lines.append(
            f"| {e['case']} | {e['ours_seconds']:.2f} | {e['reference_seconds']:.2f} | {e['ratio']:.2f} | "
            f"{e['reference_tuned_seconds']:.2f} | {e['ratio_tuned']:.2f} | {e['ours_mb']:,.0f} | "
            f"{e['reference_mb']:,.0f} | {e['limit_seconds']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help="time one kind of gradient in this process and print seconds and peak")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--steps", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        seconds = timed(given.one, given.batch, given.steps[0], compiled=given.compiled, repetitions=3)
        sys.stdout.write(json.dumps({"seconds": median(seconds), "mb": peak_memory_mb()}) + "\n")
        return
    entries = [case(steps, given.batch, given.rounds) for steps in given.steps]
    write_atomically(given.out / "speed.json", json.dumps(entries, indent=1) + "\n")
    write_atomically(given.out / "speed.md", table(entries))
    sys.stdout.write(table(entries))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    main()
