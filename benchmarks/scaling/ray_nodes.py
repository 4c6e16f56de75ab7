"""How much faster two nodes of one core each run a suite than one: ``make bench-scaling``.

Nodes are those of ``ray.cluster_utils.Cluster`` on this machine, each tied to a core of its own, beside a head that
runs no cell. Cells are alike: distribution matching on digits and one network's score, each in a process that starts
anew. The same cells in one and in two processes without Ray say what two cores of this machine can give at all. A
single cell of many networks, which two nodes share, stands beside. Rounds go through all in turn, every other one
backwards. Prints the figures and writes ``ray.json``.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from distill_bench.benchmark import BenchConfig, SetCell, run_cells, tasks_of
from distill_bench.benchmark.on_ray import require_ray
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import run_block

ray = require_ray()  # which then listens on 127.0.0.1 alone

RECIPE = """
title = "Distribution matching for a few seconds"
function = "distill_bench.methods.mean_matching.distribution_matching:distribution_matching"
[defaults]
iterations = {iterations}
image_lr = 1.0
real_batch = 64
network = "ConvNetD2W32"
augment = "dsa"
"""
RUNS = {
    "one node": ("ray", 1, False),
    "two nodes": ("ray", 2, False),
    "one process": ("local", 1, False),
    "two processes": ("local", 2, False),
    "one cell, one node": ("ray", 1, True),
    "one cell, two nodes": ("ray", 2, True),
}
STORE_BYTES = 100_000_000


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--cells", type=int, default=4)
    told.add_argument("--iterations", type=int, default=100, help="of every cell's synthesis")
    told.add_argument("--networks", type=int, default=12, help="of the single cell")
    told.add_argument("--rounds", type=int, default=3)
    told.add_argument("--seconds", type=float, default=400, help="no round begins that would end after this")
    told.add_argument("--cores", default="0,1", help="the core of each node")
    told.add_argument("--results", type=Path, default=Path("results/scaling"))
    options = told.parse_args()
    cores = [int(core) for core in options.cores.split(",")]
    began, rounds = time.monotonic(), list[dict[str, float]]()
    measure("local", 1, False, cores, options)  # so that the first round finds the same files in memory as the others
    longest = 0.0
    for number in range(options.rounds):
        start = time.monotonic()
        if rounds and start - began + longest > options.seconds:
            break
        order = list(RUNS) if number % 2 == 0 else list(reversed(RUNS))
        rounds.append({name: measure(*RUNS[name], cores, options) for name in order})
        longest = max(longest, time.monotonic() - start)
        say(f"round {number + 1}: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in rounds[-1].items()))
    record = summary(rounds) | {"cells": options.cells, "iterations": options.iterations, "cores": cores}
    record["run"] = run_block(time.monotonic() - began) | {"ray": ray.__version__}
    write_atomically(options.results / "ray.json", json.dumps(record, indent=1) + "\n")
    say(f"two nodes against one: {record['speedup']:.2f} times as fast, efficiency {record['efficiency']:.0%}")
    say(f"two processes against one, without Ray: efficiency {record['efficiency_without_ray']:.0%}")
    say(f"one cell shared by two nodes: {record['speedup_of_one_cell']:.2f} times as fast")


def measure(executor: str, workers: int, shared: bool, cores: list[int], options: argparse.Namespace) -> float:
    """Seconds for the cells, or for the one that nodes share, into an empty cache, on a cluster that is up."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        os.environ["DISTILL_BENCH_HOME"] = str(folder / "home")
        (folder / "matched.toml").write_text(RECIPE.format(iterations=options.iterations))
        networks, seeds = (options.networks, 1) if shared else (1, options.cells)
        method, setting = (
            str(folder / "matched.toml"),
            BenchConfig("scaling", folder / "results", "cpu", networks=networks),
        )
        grid = [SetCell("digits", method, 10, seed, "paper", ("quick-v1",)) for seed in range(seeds)]
        works = [tasks_of(cell, setting) for cell in grid]
        if executor == "ray":
            stack.enter_context(cluster(cores[:workers]))
        began = time.monotonic()
        failed = run_cells(works, executor, workers, StreamMonitor(quiet=True), quiet=True, threads=1)
        seconds = time.monotonic() - began
        if failed:
            raise RuntimeError(works[0].result_path("failed").read_text())
        return seconds


@contextlib.contextmanager
def cluster(cores: list[int]) -> Iterator[None]:
    """A head without CPUs and a node of one CPU on each core, at ``RAY_ADDRESS``."""
    from ray.cluster_utils import Cluster

    nodes, everywhere = Cluster(), os.sched_getaffinity(0)
    common = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    try:
        nodes.add_node(num_cpus=0, **common)
        for core in cores:
            os.sched_setaffinity(0, {core})  # what is started takes it over
            nodes.add_node(num_cpus=1, **common)
            os.sched_setaffinity(0, everywhere)
        os.environ["RAY_ADDRESS"] = nodes.address
        yield
    finally:
        os.sched_setaffinity(0, everywhere)
        os.environ.pop("RAY_ADDRESS", None)
        nodes.shutdown()


def summary(rounds: list[dict[str, float]]) -> dict[str, object]:
    """Medians over the rounds, and what they say: speed-up, and efficiency, which is the speed-up over 2."""
    seconds = {name: round(statistics.median(each[name] for each in rounds), 2) for name in RUNS}
    speedup = seconds["one node"] / seconds["two nodes"]
    without = seconds["one process"] / seconds["two processes"]
    return {
        "seconds": seconds,
        "speedup": round(speedup, 3),
        "efficiency": round(speedup / 2, 3),
        "efficiency_without_ray": round(without / 2, 3),
        "speedup_of_one_cell": round(seconds["one cell, one node"] / seconds["one cell, two nodes"], 3),
        "rounds": [{name: round(value, 2) for name, value in each.items()} for each in rounds],
    }


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
