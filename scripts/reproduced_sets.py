"""The sets of docs/reproduction.md in the results: their files, pictures, losses, and a registry that names them.

    python scripts/reproduced_sets.py results
    python scripts/reproduced_sets.py results --curves 2      # minutes a set: two networks on each of its iterates

Takes the sets that the suites of reproduction scored from the store into results/reproduced. What is there stays where
the store lacks it, so that each set can be made on another machine. Accuracies of iterates are on the test split: the
papers' runs have the whole training split. They are for the curve alone, no iterate is chosen.
"""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from distill_bench import evaluate
from distill_bench.benchmark import read_results
from distill_bench.benchmark.leaderboard.page.pictures import stored_set
from distill_bench.benchmark.leaderboard.tables import RANDOM
from distill_bench.datasets import dataset_info
from distill_bench.distilled.distilled_set import load_distilled
from distill_bench.distilled.render import grid
from distill_bench.errors import DataError
from distill_bench.evaluation import Result, score_folder
from distill_bench.evaluation.protocol import without_network
from distill_bench.evaluation.result_file import Filed
from distill_bench.hub.dataset_card import SetToPublish, registry_entry
from distill_bench.methods.recipe import PAPER
from distill_bench.methods.stored_sets import iterates_of, path_of
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.stored import beside, read_json
from distill_bench.runtime.tracking import LOSSES, losses_csv

SUITES = ("reproduction", "reproduction-convnet", "reproduction-experts", "reproduction-mnist")
FOLDER, CURVE = "reproduced", ".accuracy.csv"
PAGE = "https://github.com/distill-bench/distill_bench/tree/main/results/reproduced"
HEADER = """\
# Sets made with the papers' own values, see docs/reproduction.md; their files lie beside this one:
# distill-bench evaluate ID --registry results/reproduced/registry.toml
# Written by scripts/reproduced_sets.py.
"""


def scores_of(results: Path) -> list[Filed]:
    """What the suites have scored, and what failed."""
    return [each for suite in SUITES for each in read_results(results, suite)]


def by_id(results: Iterable[Filed]) -> dict[str, list[Result]]:
    """The scores of each set as it is stored, by its id in the registry: no other release's, so it says whose it is.

    Of several seeds the least stands for all. Random images are not in it: no paper has them.
    """
    found: dict[str, list[Result]] = {}
    for result in results:
        if isinstance(result, Result) and result.set_sha256 and not result.strict and result.method not in RANDOM:
            preset = () if result.preset == PAPER else (result.preset.removeprefix(f"{PAPER}-"),)
            words = (result.method, *preset, result.dataset, f"ipc{result.ipc}", "reproduced")
            found.setdefault(re.sub("[ _]", "-", "-".join(words)), []).append(result)
    return {name: [each for each in own if each.seed == min(one.seed for one in own)] for name, own in found.items()}


def fetch(name: str, result: Result, folder: Path) -> Path | None:
    """A set's file in the folder, with its losses beside it: taken from the store; None where neither has it.

    Raises:
        DataError: the folder's is another set than was scored.
    """
    file = folder / f"{name}.safetensors"
    if distilled := stored_set(result):
        write_atomically(file, distilled.to_bytes())
        if history := (read_json(beside(path_of(str(result.cell_key)))) or {}).get("history"):
            write_atomically(file.with_suffix(LOSSES), losses_csv(history))
    if not file.exists():
        return None
    if load_distilled(file).sha256 != result.set_sha256:
        raise DataError(f"{file} is not the set that {result.suite} scored. Delete it, or score it.")
    return file


def entry(name: str, file: Path, scores: list[Result]) -> str:
    """The registry's table of a set; what is claimed for it is its score under its paper's protocol."""
    distilled = load_distilled(file)
    own = {
        f"results/{each.suite}.jsonl": each
        for each in scores
        if without_network(each.protocol) == distilled.card.protocol
    }
    source = dataset_info(distilled.card.source.name)
    assert source, f"{name} is of a dataset without known terms"
    return registry_entry(SetToPublish(distilled, file.read_bytes(), name, source.licence, own, {}, page=PAGE))


def curve(key: str, networks: int) -> str:
    """Accuracies of a set's iterates under the protocol on its card as CSV; no line where none were kept."""
    lines = []
    for step, path in iterates_of(key).items():
        result = evaluate(path, networks=networks, cache=score_folder())
        lines.append(f"{step},{result.accuracy!r},{result.networks}\n")
    return "".join(["step,accuracy,networks\n", *lines]) if lines else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="the folder of results")
    parser.add_argument("--curves", type=int, default=0, metavar="N", help="networks for each iterate of the store")
    given = parser.parse_args()
    folder, entries = given.results / FOLDER, []
    for name, scores in sorted(by_id(scores_of(given.results)).items()):
        if (file := fetch(name, scores[0], folder)) is None:
            sys.stderr.write(f"{name}: its set is neither in the store nor in {folder}\n")
            continue
        write_atomically(file.with_suffix(".png"), grid(load_distilled(file)))
        if given.curves and (accuracies := curve(str(scores[0].cell_key), given.curves)):
            write_atomically(file.with_suffix(CURVE), accuracies)
        entries.append(entry(name, file, scores))
    write_atomically(folder / "registry.toml", "\n".join([HEADER, *entries]))


if __name__ == "__main__":
    main()
