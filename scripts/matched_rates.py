"""Learning rates of the matched protocols: three for each optimiser, on a fifth held out of the digits training split.

    python scripts/matched_rates.py

Prints a table; the set is random real images at IPC 10. No test image is read.
"""

import sys

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.evaluation import PROTOCOLS

RATES = {
    "matched-v1": (0.003, 0.01, 0.03),
    "matched-average-v1": (0.003, 0.01, 0.03),
    "matched-adamw-v1": (3e-4, 1e-3, 3e-3),
    "matched-muon-v1": (3e-4, 1e-3, 3e-3),
}


def main() -> None:
    torch.set_num_threads(1)
    source = load_dataset("digits", holdout=0.2)
    made = synthesize(source, "random", 10)
    sys.stdout.write("| protocol | learning rate | accuracy |\n|---|--:|--:|\n")
    for name, rates in RATES.items():
        rules = PROTOCOLS[name]
        for rate in rates:
            PROTOCOLS[name] = rules.model_copy(update={"learning_rate": rate})
            sys.stdout.write(f"| {name} | {rate:g} | {evaluate(made, source, name).accuracy:.1f} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
