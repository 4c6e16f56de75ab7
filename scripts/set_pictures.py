"""Small pictures of the sets that results are of, beside the results: for pages where the store has no such set.

    python scripts/set_pictures.py results

Of every row that the page of all datasets shows, the set of its first seed: results/pictures/<sha256 of the set>.png.
Pictures of sets that no result is of any more go.
"""

import argparse
from pathlib import Path

from distill_bench.benchmark.leaderboard.board import sources_of
from distill_bench.benchmark.leaderboard.claims import published
from distill_bench.benchmark.leaderboard.merged import merged_rows, without_studies
from distill_bench.benchmark.leaderboard.page.pictures import PICTURES, picture, stored_set
from distill_bench.evaluation import Result
from distill_bench.runtime.files import write_atomically


def first_sets(results: Path) -> list[Result]:
    """Of every row its result of the least seed."""
    rows = without_studies(merged_rows(sources_of([results]), published()))
    scored = ([each for each in row["results"] if isinstance(each, Result) and each.set_sha256] for row in rows)
    return [min(found, key=lambda each: each.seed or 0) for found in scored if found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    given = parser.parse_args()
    folder, wanted = given.results / PICTURES, first_sets(given.results)
    for result in wanted:
        if distilled := stored_set(result):
            write_atomically(folder / f"{result.set_sha256}.png", picture(distilled))
    for path in folder.glob("*.png"):
        if path.stem not in {result.set_sha256 for result in wanted}:
            path.unlink()


if __name__ == "__main__":
    main()
