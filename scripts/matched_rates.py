"""Learning rates of the matched protocols: four for each optimiser, on a fifth held out of the digits training split.

    python scripts/matched_rates.py          # three minutes on one core

The set is random real images at IPC 10; no test image is read. Writes results/presets/matched-rates.json.
"""

import json
import time
from pathlib import Path

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.run_info import run_block

RESULT = Path(__file__).parent.parent / "results" / "presets" / "matched-rates.json"
RATES = {
    "matched-v1": (0.003, 0.01, 0.03, 0.1),
    "matched-average-v1": (0.003, 0.01, 0.03, 0.1),
    "matched-adamw-v1": (3e-4, 1e-3, 3e-3, 1e-2),
    "matched-muon-v1": (3e-4, 1e-3, 3e-3, 1e-2),
}


def main() -> None:
    torch.set_num_threads(1)
    source, found = load_dataset("digits", holdout=0.2), []
    made = synthesize(source, "random", 10)
    for name, rates in RATES.items():
        rules = PROTOCOLS[name]
        for rate in rates:
            began = time.monotonic()
            PROTOCOLS[name] = rules.model_copy(update={"learning_rate": rate})
            result = evaluate(made, source, name)
            found.append({
                "protocol": name, "learning_rate": rate, "holdout_accuracy": result.accuracy,
                "accuracies": result.accuracies, "run": run_block(time.monotonic() - began),
            })  # fmt: skip
            about = {"kind": "rates", "dataset": "digits", "method": "random", "ipc": 10, "holdout": 0.2, "seed": 0}
            write_atomically(RESULT, json.dumps(about | {"found": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
