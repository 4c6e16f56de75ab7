"""How many steps rat-v1 has: sets by the paper's inner optimiser, scored after each number that the release looks at.

    python scripts/rat_steps.py          # a few minutes on one core

The sets are made on digits with Adam at 1e-3 and rotations inside, T = 200, and scored on a fifth held out of the
training split; no test image is read. Writes results/presets/rat-steps.json.
"""

import json
import time
from pathlib import Path

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.run_info import run_block

RESULT = Path(__file__).parent.parent / "results" / "presets" / "rat-steps.json"
STEPS, NETWORKS = (300, 600, 1000, 3000), 2
COMMON = {"window": 40, "real_batch": 256, "image_lr": 0.01}
SETS = {
    1: COMMON | {"init": "k-means", "iterations": 30},
    10: COMMON | {"init": "k-center", "iterations": 10, "images_per_class": 5},
}
"""What differs from the paper's values, by IPC."""
LONGEST = {1: 3000, 10: 1000}


def main() -> None:
    torch.set_num_threads(1)
    source, found = load_dataset("digits", holdout=0.2), []
    for ipc, fields in SETS.items():
        made = synthesize(source, "rat-bptt", ipc, **fields)
        for steps in [steps for steps in STEPS if steps <= LONGEST[ipc]]:
            name, began = f"rat-{steps}", time.monotonic()
            PROTOCOLS[name] = PROTOCOLS["rat-v1"].model_copy(update={"id": name, "epochs": steps})
            result = evaluate(made, source, name, networks=NETWORKS)
            found.append({
                "ipc": ipc, "fields": fields, "steps": steps, "holdout_accuracy": result.accuracy,
                "accuracies": result.accuracies, "run": run_block(time.monotonic() - began),
            })  # fmt: skip
            about = {"kind": "steps", "dataset": "digits", "method": "rat-bptt", "holdout": 0.2, "seed": 0}
            write_atomically(RESULT, json.dumps(about | {"found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
