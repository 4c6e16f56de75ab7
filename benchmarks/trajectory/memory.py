"""Peak memory of a trajectory gradient against the number of steps: constant for exact and tesla, growing for unrolled.

    python benchmarks/trajectory/memory.py                # about ten minutes on two cores; writes results/trajectory/

CIFAR-10 shape, batch 100, eager. Every figure is a fresh process with the system's own allocator settings, the median
of three. Beside the measured peak of the exact gradient at the largest N stands what constant memory allows: the peak
at the smallest N plus the stored parameters of the further steps.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch
from iteration import CLASSES, NETWORK, SHAPE, take
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from distill_bench.networks import build_network
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.run_info import peak_memory_mb, run_block
from distill_bench.runtime.seeds import generator

RESULTS = Path(__file__).parents[2] / "results" / "trajectory"
STEPS = {"exact": [5, 10, 20, 50], "tesla": [5, 10, 20, 50], "unrolled": [1, 2, 5, 10]}
ALLOCATOR = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")


def measure(kind: str, steps: int, batch: int) -> float:
    """Peak resident MB of a fresh process that takes one gradient."""
    command = [sys.executable, __file__, "--one", kind, "--steps", str(steps), "--batch", str(batch)]
    environment = {name: value for name, value in os.environ.items() if name not in ALLOCATOR}
    return float(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


def report(found: dict[str, dict[int, float]], batch: int) -> str:
    """The table, and how far constant memory holds."""
    every = sorted({steps for peaks in found.values() for steps in peaks})
    lines = [f"Peak resident memory in MB of one gradient: {NETWORK}, {SHAPE[1]}×{SHAPE[2]}, batch {batch}, eager.", ""]
    lines += ["| gradient | " + " | ".join(f"N = {steps}" for steps in every) + " |", "|---" * (len(every) + 1) + "|"]
    for kind, peaks in found.items():
        lines.append(f"| {kind} | " + " | ".join(f"{peaks[n]:,.0f}" if n in peaks else "" for n in every) + " |")
    exact = found["exact"]
    few, many = min(exact), max(exact)
    network = build_network(NETWORK, SHAPE, CLASSES, generator("size"))
    stored = sum(parameter.numel() for parameter in network.parameters()) * 4 * (many - few) / 1e6
    share = exact[many] / (exact[few] + stored)
    lines += [
        "",
        f"exact at N = {many}: {share:.3f} of its peak at N = {few} plus the parameters of the further steps ",
    ]
    lines[-1] += f"({stored:.0f} MB). Inputs are not stored: they are made again."
    grown = found["unrolled"]
    slopes = [(grown[b] - grown[a]) / (b - a) for a, b in zip(sorted(grown), sorted(grown)[1:], strict=False)]
    lines += ["", "unrolled, MB a further step: " + ", ".join(f"{slope:,.0f}" for slope in slopes) + "."]
    return "\n".join(lines) + "\n"


def plot(found: dict[str, dict[int, float]], path: Path) -> None:
    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    axes = figure.subplots()
    for kind, peaks in found.items():
        axes.plot(list(peaks), [peak / 1000 for peak in peaks.values()], marker="o", label=kind)
    axes.set_xlabel("student steps N")
    axes.set_ylabel("peak memory, GB")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.grid(color="#E4E4E4")
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", choices=STEPS, help="take one gradient in this process and print its peak")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--most", type=int, default=50, help="leave out larger N")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    if given.one:
        take(given.one, given.batch, given.steps)
        sys.stdout.write(f"{peak_memory_mb()}\n")
        return
    found = {
        kind: {
            n: median(measure(kind, n, given.batch) for _ in range(given.repetitions)) for n in steps if n <= given.most
        }
        for kind, steps in STEPS.items()
    }
    content = {"kind": "trajectory-memory", "batch": given.batch, "peak_mb": found, "run": run_block(0.0)}
    write_atomically(given.out / "memory.json", json.dumps(content, indent=1) + "\n")
    write_atomically(given.out / "memory.md", report(found, given.batch))
    plot(found, given.out / "memory.png")
    sys.stdout.write(report(found, given.batch))


if __name__ == "__main__":
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    main()
