"""What released sets measure: the table of results/published/README.md, whose ids and claims the page says.

    python scripts/published_table.py results

Writes the page's columns of what was measured anew. Std is the standard deviation over
networks. The last column, ``check_claim``'s, stands where the claim has a std and ours two networks.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean, pstdev

from study_tables import with_tables

from distill_bench.benchmark.results import read_results
from distill_bench.evaluation import Result
from distill_bench.evaluation.claim import check_claim, claim_of
from distill_bench.hub.registry.registry import load_registry
from distill_bench.runtime.files import write_atomically

PAGE = Path(__file__).parent.parent / "results" / "published" / "README.md"
CLAIM = re.compile(r"(?P<accuracy>[\d.]+)(?:, std (?P<std>[\d.]+))?(?:, (?P<networks>\d+) networks)?")
HEADER = """\
| release | dataset | protocol | pixels | sets | networks | measured | claimed | claimed where | Δ / s.e. |
|---|---|---|---|---|---|---|---|---|---|
"""


def tables(page: str, results: Iterable[Result]) -> str:
    """The page's table, with what was measured of each of its releases.

    Args:
        page: with the table as it is; its columns of claims stay.
        results: the suite of released sets'.

    Returns:
        The table, in Markdown.
    """
    results = list(results)
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines()]
    return HEADER + "".join(row(*cells, results=results) for cells in lines if cells[0] in load_registry())


def row(name: str, *cells: str, results: Sequence[Result]) -> str:
    """The line of one release; what it is and what is claimed for it stay as they are."""
    dataset, protocol, pixels, claimed, where = *cells[:3], *cells[6:8]
    entry = load_registry()[name]
    wanted = (entry.method, dataset, entry.ipc, protocol, pixels)
    own = [each for each in results if (each.method, each.dataset, each.ipc, each.protocol, each.pixel_space) == wanted]
    by_set = [each.accuracies for each in own]
    networks = list(chain.from_iterable(by_set))
    measured = f"{fmean(networks):.2f}" + (f", std {pstdev(networks):.2f}" if len(networks) > 1 else "")
    counts = [dataset, protocol, pixels, str(len(own)), str(len(networks)), measured]
    return f"| {' | '.join([name, *counts, claimed, where, standard_errors(by_set, claimed)])} |\n"


def standard_errors(by_set: Sequence[Sequence[float]], claimed: str) -> str:
    """How many the measured accuracy is off; a dash where a side has no spread."""
    found = CLAIM.fullmatch(claimed)
    if found is None or found["std"] is None or sum(map(len, by_set)) < 2:
        return "–"
    networks = int(found["networks"]) if found["networks"] else None
    verdict = check_claim(by_set, claim_of(float(found["accuracy"]), float(found["std"]), networks))
    return f"{verdict.standard_errors:+.1f}".replace("-", "−")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    given = parser.parse_args()
    page = PAGE.read_text()
    found = [each for each in read_results(given.results, "published") if isinstance(each, Result)]
    write_atomically(PAGE, with_tables(page, "published_table.py", tables(page, found)))


if __name__ == "__main__":
    main()
