"""What recovered digits lack: the teacher's word and batch norms on the images of each method, and what they teach.

    python scripts/diagnose_recovery.py 1              # IPC; prints a table, about a minute an IPC

All on a fifth held out of the training split, with the ``cpu`` presets and seed 0: no test image is read.
"""

import argparse
import sys

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.distilled.budget import Budget
from distill_bench.methods import load_method, new_run
from distill_bench.methods.decoupled.recover import watched
from distill_bench.methods.decoupled.relabel import teacher_of

HOLDOUT, PROTOCOL, NETWORKS = 0.2, "quick-v1", 3
CROPS = {"crop": True, "least_scale": 0.5}
COMPARED = {
    "random-soft": ("random-soft", {}),
    "rded": ("rded", {}),
    "sre2l, whole images": ("sre2l", {"crop": False}),
    "sre2l, crops from the start": ("sre2l", CROPS),
    "cda, crops that become smaller": ("cda", CROPS),
    "sre2l, whole images, no batch-norm loss": ("sre2l", {"crop": False, "bn_weight": 0.0}),
    "sre2l, whole images, batch-norm loss × 100": ("sre2l", {"crop": False, "bn_weight": 1.0}),
    "noise after one step": ("sre2l", {"crop": False, "iterations": 1}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ipc", type=int)
    ipc = parser.parse_args().ipc
    source, method, budget = load_dataset("digits", holdout=HOLDOUT), load_method("sre2l"), Budget(ipc)
    network = teacher_of(new_run(source, method, method.config_on(source, budget, "cpu"), budget, device="cpu")).network
    sys.stdout.write("| images | teacher right | distances from its batch norms | soft labels | hard labels |\n")
    sys.stdout.write("|---|---|---|---|---|\n")
    for title, (method, values) in COMPARED.items():
        made = synthesize(source, method, ipc, "cpu", **values)
        observed = watched(network)
        with torch.no_grad():
            right = (observed.network(made.images).argmax(dim=1) == made.labels).float().mean()
        apart = " and ".join(f"{float(each):.2f}" for each in observed.notes)
        soft, hard = (
            evaluate(made, source, PROTOCOL, networks=NETWORKS, labels=use).accuracy  # type: ignore[arg-type]
            for use in ("stored", "hard")
        )
        sys.stdout.write(f"| {title} | {right:.0%} | {apart} | {soft:.1f} | {hard:.1f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
