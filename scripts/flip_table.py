"""What FYI's flip gains, and what its changed augmentation gains: the tables of docs/flip.md, from results.

    python scripts/flip_table.py results fyi fyi-always-flip fyi-others fyi-cifar10

Writes them between the two comments in docs/flip.md. A gain is a difference of paired scores (same seed, same
initial networks); its interval is Student-t at 95 %, over synthesis seeds where there are two or more, else over
networks; bold gains are beyond it. A strict row is a set's score without its soft labels and learned rate.
"""

import argparse
from pathlib import Path
from statistics import fmean

import pandas

from distill_bench import load_results
from distill_bench.evaluation.statistics import Interval, hierarchical_interval
from distill_bench.runtime.files import write_atomically

PAGE = Path(__file__).parent.parent / "docs" / "flip.md"
BEGIN, END = "<!-- tables: scripts/flip_table.py -->", "<!-- end of tables -->"

CONDITIONS = ["data", "ipc", "name", "preset", "protocol", "network", "pixel_space"]
"""What two results need to have in common to be compared; ``name`` is the method without FYI."""
# whether batches are followed by their mirror images, and whether DSA always flips
OFF, FLIP, ALWAYS, BOTH = (False, False), (True, False), (False, True), (True, True)
EFFECTS = (
    ("the flip, DSA as published", OFF, FLIP),
    ("the flip, DSA always flipping", ALWAYS, BOTH),
    ("DSA always flipping, without the flip", OFF, ALWAYS),
    ("DSA always flipping, with the flip", FLIP, BOTH),
    ("both, as the released code runs", OFF, BOTH),
)


def by_variant(results: pandas.DataFrame) -> dict[tuple, pandas.DataFrame]:
    """Accuracies of every network, for each of ``CONDITIONS`` a table of seeds by variants."""
    known = results.dropna(subset=["recipe.flip", "recipe.always_flip"])
    name = known["method"].map(plain) + known["strict"].map({True: " (strict)", False: ""})
    variant = list(zip(known["recipe.flip"].astype(bool), known["recipe.always_flip"].astype(bool), strict=True))
    known = known.assign(name=name, variant=pandas.Series(variant, known.index, dtype=object))
    return {
        conditions: group.set_index(["seed", "variant"])["accuracies"].unstack()
        for conditions, group in known.groupby(CONDITIONS)
    }


def plain(method: str) -> str:
    """The method that one of FYI's recipes is based on; any other's own name."""
    if method.startswith("fyi-"):
        return method.removeprefix("fyi-").removesuffix("-released")
    return method.removesuffix("-always-flip")


def gain(pairs: pandas.DataFrame, before: tuple, after: tuple) -> str:
    """Mean difference in points with its interval, in bold where that leaves out zero."""
    differences = [
        [b - a for a, b in zip(*pair, strict=True)] for pair in zip(pairs[before], pairs[after], strict=True)
    ]
    low, high = interval = hierarchical_interval(differences)
    written = with_half_width(fmean(map(fmean, differences)), interval, "+.1f")
    return f"**{written}**" if low is not None and high is not None and (low > 0 or high < 0) else written


def with_half_width(mean: float, interval: Interval, form: str) -> str:
    """``mean ± half the interval``, in percent or points."""
    low, high = interval
    half = "" if low is None or high is None else f" ± {(high - low) / 2:.1f}"
    return (format(mean, form) + half).replace("-", "−")


def accuracy(values: pandas.Series) -> str:
    """Mean accuracy of all seeds in percent, with its interval."""
    return with_half_width(fmean(map(fmean, values)), hierarchical_interval(list(values)), ".1f")


def paired(variants: pandas.DataFrame, *wanted: tuple) -> pandas.DataFrame:
    """The accuracies of some variants, of the seeds that all of them have."""
    return variants.reindex(columns=pandas.Index(wanted, tupleize_cols=False)).dropna()


def tables(results: pandas.DataFrame) -> str:
    """Both tables in Markdown: the flip on and off, then the two effects told apart where all four variants ran."""
    lines = ["| dataset | IPC | method | without (%) | with the flip (%) | gain (points) | seeds |"]
    lines += ["|---|--:|---|--:|--:|--:|--:|"]
    apart = ["| dataset | IPC | method | effect | gain (points) | seeds |", "|---|--:|---|---|--:|--:|"]
    for (dataset, ipc, method, *_), variants in by_variant(results).items():
        row, both = f"| {dataset} | {ipc} | {method}", paired(variants, OFF, FLIP)
        if len(both):
            shown = f"{accuracy(both[OFF])} | {accuracy(both[FLIP])} | {gain(both, OFF, FLIP)}"
            lines.append(f"{row} | {shown} | {len(both)} |")
        for name, before, after in EFFECTS if len(paired(variants, OFF, FLIP, ALWAYS, BOTH)) else ():
            pairs = paired(variants, before, after)
            apart.append(f"{row} | {name} | {gain(pairs, before, after)} | {len(pairs)} |")
    return "\n".join(lines) + "\n\n" + "\n".join(apart) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("suites", nargs="+", help="the suites to compare in")
    given = parser.parse_args()
    results = load_results(given.results)
    page = PAGE.read_text()
    before, after = page.split(BEGIN)[0], page.split(END)[1]
    found = tables(results[results["suite"].isin(given.suites)])
    write_atomically(PAGE, f"{before}{BEGIN}\n\n{found}\n{END}{after}")


if __name__ == "__main__":
    main()
