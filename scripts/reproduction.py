"""Sets made with the papers' own values beside what the papers claim: tables and figure of docs/reproduction.md.

    python scripts/reproduction.py results --out docs

Reads the results of the suites of reproduction, the sets that scripts/reproduced_sets.py has put
beside them, and claims as boards have them. ± and verdicts are those of the claims table, see docs/results.md.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reproduced_sets import FOLDER, SUITES, scores_of
from reproduction_figure import draw
from study_tables import PAGES, table, with_tables

from distill_bench.benchmark.leaderboard import published
from distill_bench.benchmark.leaderboard.claimed import OTHER, claims_table
from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.benchmark.leaderboard.collect import Row, leaderboard_rows
from distill_bench.evaluation.result_file import Filed
from distill_bench.runtime.files import write_atomically

PAGE = PAGES.parent / "reproduction.md"
FIGURE = "images/reproduction.png"
ABOUT_FIGURE = "The sets, first image of each class; losses; accuracies of iterates where they were scored"


def _percent(value: float, half: float | None) -> str:
    return f"{value:.1f}" if half is None else f"{value:.1f} ± {half:.1f}"


def _half(row: Row) -> float | None:
    return None if row["ci_low"] is None else (row["ci_high"] - row["ci_low"]) / 2


def _set(row: Mapping[str, Any]) -> str:
    return f"{row['method']}, {row['dataset']}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")


def tables(results: list[Filed], claims: list[Claim]) -> str:
    """How many claims hold, those that were measured under their conditions, and the others.

    Args:
        results: of the suites.
        claims: published accuracies.
    """
    rows = claims_table(leaderboard_rows(results, claims), claims)
    judged = [row for row in rows if row["verdict"] != OTHER]
    held = sum(row["verdict"] == "holds" for row in judged)
    header = ["set", "protocol", "paper (std)", "here", "difference", "standard errors", "verdict", "what to know"]
    entries = [
        [
            _set(row), row["protocol"], _percent(row["claimed"], row["claimed_std"]),
            _percent(row["measured"], _half(row)), _signed(row["difference"]), _signed(row["standard_errors"]),
            row["verdict"], "; ".join(row["why"]),
        ]
        for row in judged
    ]  # fmt: skip
    others = [
        [
            _set(row), row["protocol"], _percent(row["measured"], _half(row)), f"{row['claimed']:.1f}",
            "; ".join(row["why"]),
        ]
        for row in rows
        if row["verdict"] == OTHER
    ]  # fmt: skip
    parts = [f"{held} of the {len(judged)} claims that were measured under their own conditions hold.\n"]
    parts += [table(header, entries)] if entries else []
    parts += [table(["under other conditions", "protocol", "here", "paper", "what differs"], others)] if others else []
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("--out", type=Path, required=True, help=f"the folder to write {PAGE.name} to")
    given = parser.parse_args()
    results = scores_of(given.results)
    if not results:
        parser.error(f"{given.results} has no results of the suites: run `distill-bench bench {SUITES[0]}` first")
    text = tables(results, published())
    if (registry := given.results / FOLDER / "registry.toml").exists():
        (given.out / FIGURE).parent.mkdir(parents=True, exist_ok=True)
        draw(registry).savefig(given.out / FIGURE, metadata={"Software": None})
        text += f"\n![{ABOUT_FIGURE}]({FIGURE})\n"
    write_atomically(given.out / PAGE.name, with_tables(PAGE.read_text(), Path(__file__).name, text))


if __name__ == "__main__":
    main()
