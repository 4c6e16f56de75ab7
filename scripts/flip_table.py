"""What FYI's flip gains, and what its changed augmentation gains: the tables of docs/flip.md, from results.

    python scripts/flip_table.py results/fyi results/fyi-always-flip results/fyi-others results/fyi-cifar10

Writes them between the two comments in docs/flip.md. A gain is a difference of paired scores (same seed, same
initial networks); its interval is Student-t at 95 %, over synthesis seeds where there are two or more, else over
networks; bold gains are beyond it. A strict row is a set's score without its soft labels and learned rate.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean

from distill_bench.benchmark.leaderboard.collect import Result, read_results
from distill_bench.evaluation.statistics import Interval, hierarchical_interval
from distill_bench.runtime.files import write_atomically

PAGE = Path(__file__).parent.parent / "docs" / "flip.md"
BEGIN, END = "<!-- tables: scripts/flip_table.py -->", "<!-- end of tables -->"

Variant = tuple[bool, bool]
"""Whether batches are followed by their mirror images, and whether DSA always flips."""
BySeed = dict[int, list[float]]
SAME = ("preset", "protocol", "network", "pixel_space")
"""What two results need to have in common, besides dataset, IPC and method, to be compared."""
Conditions = tuple[str, int, str, str, str, str, str]
"""Dataset, IPC, the method without FYI, and ``SAME``."""
OFF, FLIP, ALWAYS, BOTH = (False, False), (True, False), (False, True), (True, True)
EFFECTS = (
    ("the flip, DSA as published", OFF, FLIP),
    ("the flip, DSA always flipping", ALWAYS, BOTH),
    ("DSA always flipping, without the flip", OFF, ALWAYS),
    ("DSA always flipping, with the flip", FLIP, BOTH),
    ("both, as the released code runs", OFF, BOTH),
)


def gather(results: Iterable[Result]) -> dict[Conditions, dict[Variant, BySeed]]:
    """Accuracies of every network under the same conditions, by variant and seed."""
    found: dict[Conditions, dict[Variant, BySeed]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        if result["kind"] == "score" and "flip" in result.get("recipe", {}):
            variant = (result["recipe"]["flip"], result["recipe"]["always_flip"])
            name = plain(result["method"]) + (" (strict)" if result["strict"] else "")
            conditions = (result["dataset"], result["ipc"], name, *(result[key] for key in SAME))
            found[conditions][variant][result["seed"]] = result["accuracies"]
    return dict(found)


def plain(method: str) -> str:
    """The method that one of FYI's recipes is based on; any other's own name."""
    if method.startswith("fyi-"):
        return method.removeprefix("fyi-").removesuffix("-released")
    return method.removesuffix("-always-flip")


def gain(before: BySeed, after: BySeed) -> str:
    """Mean difference in points with its interval, in bold where that leaves out zero."""
    differences = [[b - a for a, b in zip(before[seed], after[seed], strict=True)] for seed in before]
    low, high = interval = hierarchical_interval(differences)
    written = with_half_width(fmean(map(fmean, differences)), interval, "+.1f")
    return f"**{written}**" if low is not None and high is not None and (low > 0 or high < 0) else written


def with_half_width(mean: float, interval: Interval, form: str) -> str:
    """``mean ± half the interval``, in percent or points."""
    low, high = interval
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.1f}"
    return (format(mean, form) + half).replace("-", "−")


def accuracy(by_seed: BySeed) -> str:
    values = list(by_seed.values())
    return with_half_width(fmean(map(fmean, values)), hierarchical_interval(values), ".1f")


def paired(variants: dict[Variant, BySeed], *wanted: Variant) -> list[BySeed]:
    """The accuracies of some variants, of the seeds that all of them have; empty where there is none."""
    seeds = sorted(set.intersection(*(set(variants.get(variant, {})) for variant in wanted)))
    return [{seed: variants[variant][seed] for seed in seeds} for variant in wanted] if seeds else []


def tables(results: Iterable[Result]) -> str:
    """Both tables in Markdown: the flip on and off, then the two effects told apart where all four variants ran."""
    lines = ["| dataset | IPC | method | without (%) | with the flip (%) | gain (points) | seeds |"]
    lines += ["|---|--:|---|--:|--:|--:|--:|"]
    apart = ["| dataset | IPC | method | effect | gain (points) | seeds |", "|---|--:|---|---|--:|--:|"]
    for (dataset, ipc, method, *_), variants in sorted(gather(results).items()):
        row = f"| {dataset} | {ipc} | {method}"
        if pair := paired(variants, OFF, FLIP):
            lines.append(f"{row} | {accuracy(pair[0])} | {accuracy(pair[1])} | {gain(*pair)} | {len(pair[0])} |")
        for name, before, after in EFFECTS if paired(variants, OFF, FLIP, ALWAYS, BOTH) else ():
            pair = paired(variants, before, after)
            apart.append(f"{row} | {name} | {gain(*pair)} | {len(pair[0])} |")
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
