"""How far two protocols agree on the order of methods: Spearman's rank correlation over a suite's results.

python scripts/rank_agreement.py results digits quick-v1 standard-v1
"""

import argparse
import sys
from pathlib import Path

from distill_bench import load_results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("suite")
    parser.add_argument("protocols", nargs=2)
    given = parser.parse_args()
    found = load_results(given.results)
    found = found[(found["suite"] == given.suite) & found["protocol"].isin(given.protocols) & ~found["strict"]]
    # the same set under both: another seed is another set
    both = found.pivot_table("accuracy", ["ipc", "method", "seed"], "protocol")[given.protocols].dropna()
    means = both.groupby(["ipc", "method"]).mean()
    first, second = given.protocols
    by_ipc = {ipc: group[first].corr(group[second], "spearman") for ipc, group in means.groupby("ipc")}
    for ipc, correlation in by_ipc.items():
        sys.stdout.write(f"ipc {ipc}: {len(means.loc[ipc])} methods, Spearman {correlation:.2f}\n")
    overall, mean = means[first].corr(means[second], "spearman"), sum(by_ipc.values()) / len(by_ipc)
    sys.stdout.write(f"mean over IPCs {mean:.2f}; all {len(means)} rows together {overall:.2f}\n")


if __name__ == "__main__":
    main()
