"""How far two protocols agree on the order of methods: Spearman's rank correlation over a suite's results.

python scripts/rank_agreement.py results/digits quick-v1 standard-v1
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from scipy.stats import spearmanr

from distill_bench.leaderboard import board


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("protocols", nargs=2)
    arguments = parser.parse_args()
    accuracies: dict[int, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in board(arguments.results):
        if row["protocol"] in arguments.protocols and row["accuracy"] is not None:
            accuracies[row["ipc"]][row["method"]][row["protocol"]] = row["accuracy"]
    first, second = arguments.protocols
    pooled: list[tuple[float, float]] = []
    correlations = []
    for ipc, methods in sorted(accuracies.items()):
        pairs = [(found[first], found[second]) for found in methods.values() if len(found) == 2]
        correlations.append(float(spearmanr(*zip(*pairs, strict=True)).statistic))
        pooled += pairs
        sys.stdout.write(f"ipc {ipc}: {len(pairs)} methods, Spearman {correlations[-1]:.2f}\n")
    overall = float(spearmanr(*zip(*pooled, strict=True)).statistic)
    sys.stdout.write(f"mean over IPCs {fmean(correlations):.2f}; all {len(pooled)} rows together {overall:.2f}\n")


if __name__ == "__main__":
    main()
