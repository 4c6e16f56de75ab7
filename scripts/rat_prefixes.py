"""What the first images of a set made in blocks are worth, beside sets of their size.

    python scripts/rat_prefixes.py          # ten minutes on one core

One set of digits at ten images per class by the `cpu` preset in blocks of 1, 4 and 5, with as many steps each as the
sets of 1, 5 and 10 beside it, three seeds, scored under quick-v1 with three networks on a fifth held out of the
training split; no test image is read. Writes results/presets/rat-prefixes.json.
"""

import json
import time
from itertools import accumulate
from pathlib import Path

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.run_info import run_block

RESULT = Path(__file__).parent.parent / "results" / "presets" / "rat-prefixes.json"
BLOCKS, SEEDS, NETWORKS = (1, 4, 5), (0, 1, 2), 3
FIELDS = {"init": "k-center", "images_per_class": 5, "total": 200, "window": 40, "iterations": 25, "image_lr": 0.005}
"""The preset's at ten images per class, for all sizes."""


def main() -> None:
    torch.set_num_threads(1)
    source, found = load_dataset("digits", holdout=0.2), []
    for seed in SEEDS:
        whole = synthesize(source, "rat-bptt", sum(BLOCKS), preset="cpu", seed=seed, blocks=BLOCKS, **FIELDS)
        for ipc in accumulate(BLOCKS):
            began = time.monotonic()
            part = whole if ipc == sum(BLOCKS) else whole.prefix(ipc)
            alone = synthesize(source, "rat-bptt", ipc, preset="cpu", seed=seed, **FIELDS)
            scores = [evaluate(each, source, "quick-v1", networks=NETWORKS) for each in (part, alone)]
            found.append({
                "seed": seed, "ipc": ipc, "prefix_accuracies": scores[0].accuracies,
                "alone_accuracies": scores[1].accuracies, "run": run_block(time.monotonic() - began),
            })  # fmt: skip
            about = {"kind": "prefixes", "dataset": "digits", "method": "rat-bptt", "holdout": 0.2, "blocks": BLOCKS}
            write_atomically(RESULT, json.dumps(about | {"fields": FIELDS, "found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
