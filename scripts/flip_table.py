"""What FYI's flip gains, and what its changed augmentation gains: the tables of docs/flip.md, from results.

    python scripts/flip_table.py results/fyi results/fyi-always-flip results/fyi-others results/fyi-cifar10

Writes them between the two comments in docs/flip.md. A gain is a difference of paired scores (same seed, same
initial networks); its interval is Student-t at 95 %, over synthesis seeds where there are two or more, else over
networks. A strict row is a set's score without its soft labels and learned rate.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from distill_bench.evaluation.statistics import Interval, hierarchical_interval
from distill_bench.leaderboard.collect import Result, read_results
from distill_bench.storage import write_atomically

PAGE = Path(__file__).parent.parent / "docs" / "flip.md"
BEGIN, END = "<!-- tables: scripts/flip_table.py -->", "<!-- end of tables -->"

Variant = tuple[bool, bool]
"""Whether batches are followed by their mirror images, and whether DSA always flips."""
BySeed = dict[int, list[float]]
OFF, FLIP, ALWAYS, BOTH = (False, False), (True, False), (False, True), (True, True)
EFFECTS = (
    ("the flip, DSA as published", OFF, FLIP),
    ("the flip, DSA always flipping", ALWAYS, BOTH),
    ("DSA always flipping, without the flip", OFF, ALWAYS),
    ("DSA always flipping, with the flip", FLIP, BOTH),
    ("both, as the released code runs", OFF, BOTH),
)


def gather(results: Iterable[Result]) -> dict[tuple[str, int, str, str], dict[Variant, BySeed]]:
    """Accuracies of every network by (dataset, IPC, protocol, method without FYI), variant and seed."""
    found: dict[tuple[str, int, str, str], dict[Variant, BySeed]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result["kind"] == "score" and "flip" in result.get("recipe", {}):
            method = result["method"].removeprefix("fyi-").removesuffix("-released").removesuffix("-always-flip")
            variant = (result["recipe"]["flip"], result["recipe"]["always_flip"])
            name = f"{method} (strict)" if result["strict"] else method
            key = (result["dataset"], result["ipc"], result["protocol"], name)
            found[key][variant][result["seed"]] = result["accuracies"]
    return dict(found)


def gain(before: BySeed, after: BySeed) -> tuple[float, Interval, int]:
    """Mean difference in points, its interval, and the number of seeds that both have."""
    seeds = sorted(before.keys() & after.keys())
    differences = [[b - a for a, b in zip(before[seed], after[seed], strict=True)] for seed in seeds]
    return fmean(map(fmean, differences)), hierarchical_interval(differences), len(seeds)


def with_half_width(mean: float, interval: Interval, form: str) -> str:
    """``mean ± half the interval``, in percent or points."""
    low, high = interval
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.1f}"
    return (format(mean, form) + half).replace("-", "−")


def accuracy(by_seed: BySeed) -> str:
    values = list(by_seed.values())
    return with_half_width(fmean(map(fmean, values)), hierarchical_interval(values), ".1f")


def tables(results: Iterable[Result]) -> str:
    """Both tables in Markdown: the flip on and off, then the two effects told apart where all four variants ran."""
    found = sorted(gather(results).items())
    lines = ["| dataset | IPC | method | without (%) | with the flip (%) | gain (points) | seeds |"]
    lines += ["|---|--:|---|--:|--:|--:|--:|"]
    apart = ["| dataset | IPC | method | effect | gain (points) | seeds |", "|---|--:|---|---|--:|--:|"]
    for (dataset, ipc, _, method), variants in found:
        if OFF in variants and FLIP in variants:
            mean, interval, seeds = gain(variants[OFF], variants[FLIP])
            both = f"{accuracy(variants[OFF])} | {accuracy(variants[FLIP])}"
            lines.append(
                f"| {dataset} | {ipc} | {method} | {both} | {with_half_width(mean, interval, '+.1f')} | {seeds} |"
            )
        if len(variants) == 4:
            for name, before, after in EFFECTS:
                mean, interval, seeds = gain(variants[before], variants[after])
                points = with_half_width(mean, interval, "+.1f")
                apart.append(f"| {dataset} | {ipc} | {method} | {name} | {points} | {seeds} |")
    return "\n".join(lines) + "\n\n" + "\n".join(apart) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders of suites")
    results = [result for folder in parser.parse_args().results for result in read_results(folder)]
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    write_atomically(PAGE, f"{before}{BEGIN}\n\n{tables(results)}\n{END}{after}")


if __name__ == "__main__":
    main()
