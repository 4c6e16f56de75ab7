"""How far two protocols agree on the order of methods: Spearman's rank correlation over a suite's results.

python scripts/rank_agreement.py results/digits quick-v1 standard-v1
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from scipy.stats import spearmanr

from distill_bench.benchmark.leaderboard.collect import read_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("protocols", nargs=2)
    arguments = parser.parse_args()
    scores: dict[tuple[int, str, int], dict[str, float]] = defaultdict(dict)
    for result in read_results(arguments.results):
        if result["kind"] == "score" and result["protocol"] in arguments.protocols:
            key = (result["ipc"], result["method"], result["seed"])
            scores[key][result["protocol"]] = result["accuracy"]
    accuracies: dict[int, dict[str, dict[str, float]]] = defaultdict(dict)
    for protocol in arguments.protocols:
        for (ipc, method, _), found in scores.items():
            if len(found) == 2:  # the same set under both: another seed is another set
                same = [f[protocol] for (i, m, _), f in scores.items() if (i, m) == (ipc, method) and len(f) == 2]
                accuracies[ipc].setdefault(method, {})[protocol] = fmean(same)
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
