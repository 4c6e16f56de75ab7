"""Evaluate the released sets of benchmarks/published.toml and put the accuracies beside those their authors claim.

    python scripts/score_published.py --files DIR [--only ID]…     evaluate, going on where an earlier run stopped
    python scripts/score_published.py --table                      only write results/published/README.md again

One JSON file a set and protocol, written again after every network.
"""

import argparse
import json
import math
import statistics
import tomllib
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from distill_bench.datasets import load_dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation import NothingKept, evaluate
from distill_bench.hub import import_release
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.progress import Monitor, StreamMonitor
from distill_bench.runtime.run_info import run_block

ROOT = Path(__file__).parent.parent


class Earlier(NothingKept):
    """The first networks are those of a result file."""

    def __init__(self, accuracies: list[float]) -> None:
        self._accuracies = accuracies

    @property
    def tested(self) -> dict[int, float]:
        return dict(enumerate(self._accuracies))

    def obtain(self, index: int, test: Callable[[], float], monitor: Monitor) -> float:
        return self._accuracies[index] if index < len(self._accuracies) else test()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, help="the folder of released files")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "published")
    parser.add_argument("--only", action="append", default=[], metavar="ID")
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    listed = tomllib.loads((ROOT / "benchmarks" / "published.toml").read_text())
    if not given.table:
        if given.files is None:
            parser.error("--files DIR is needed: the folder that the paths in benchmarks/published.toml start from")
        for name in given.only or listed:
            score_release(name, listed[name], given.files, given.results)
    write_atomically(given.results / "README.md", table(given.results))


def score_release(name: str, entry: dict, files: Path, results: Path) -> None:
    """Evaluate every set of one release."""
    source = load_dataset(entry["dataset"])
    paths = [files / path for path in entry["files"]]
    found = import_release(paths, source, entry.get("space"), method=entry.get("method"), protocol=entry["protocol"])
    for index, made in enumerate(found.sets):
        own = name if len(found.sets) == 1 else f"{name}-{index}"
        score_set(own, name, entry, made, results / f"{own}.{entry['protocol']}.json")


def score_set(own: str, release: str, entry: dict, made: DistilledSet, path: Path) -> None:
    """Evaluate one set, a network at a time, going on from what ``path`` has of the same set."""
    earlier = json.loads(path.read_text()) if path.exists() else {}
    known = earlier if earlier.get("set_sha256") == made.sha256 else {"accuracies": [], "seconds": 0.0}
    monitor = StreamMonitor()
    monitor.listen()
    source = load_dataset(entry["dataset"])
    for count in range(len(known["accuracies"]) + 1, entry["networks"] + 1):
        start = perf_counter()
        kept = Earlier(known["accuracies"])
        score = evaluate(made, source, entry["protocol"], networks=count, kept=kept, monitor=monitor)
        seconds = known["seconds"] + perf_counter() - start
        claims = {key: entry.get(key) for key in ("claimed", "claimed_std", "claimed_networks", "claimed_source")}
        origin = made.card.origin
        assert origin is not None
        known = {
            "kind": "published",
            "id": own,
            "release": release,
            **score.model_dump(mode="json"),
            **claims,
            "files": origin.files,
            "set_index": origin.set_index,
            "seconds": seconds,
            "run": run_block(seconds),
        }
        write_atomically(path, json.dumps(known, indent=1, sort_keys=True) + "\n")


def table(results: Path) -> str:
    """Measured beside claimed, a line a release; sets of one release are pooled."""
    scores = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    lines = [
        "# Released sets, measured beside claimed",
        "",
        "Written by `scripts/score_published.py` from the JSON files beside it. ± is the standard deviation over "
        "networks. The last column is the difference in combined standard errors, where the claim says enough.",
        "",
        "| release | dataset | protocol | pixels | sets | networks | measured | claimed | claimed where | Δ / s.e. |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for release in dict.fromkeys(score["release"] for score in scores):
        lines.append(_line([score for score in scores if score["release"] == release]))
    return "\n".join(lines) + "\n"


def _line(scores: list[dict]) -> str:
    first = scores[0]
    values = [value for score in scores for value in score["accuracies"]]
    mean, spread = statistics.fmean(values), statistics.pstdev(values)
    claimed = f"{first['claimed']:.2f}" + (f" ± {first['claimed_std']:.2f}" if first["claimed_std"] else "")
    distance = "–"
    if first["claimed_std"] and first["claimed_networks"] and len(values) > 1:
        errors = statistics.variance(values) / len(values) + first["claimed_std"] ** 2 / first["claimed_networks"]
        distance = f"{(mean - first['claimed']) / math.sqrt(errors):+.1f}"
    return (
        f"| {first['release']} | {first['dataset']} | {first['protocol']} | {first['pixel_space']} | {len(scores)} | "
        f"{len(values)} | {mean:.2f} ± {spread:.2f} | {claimed} | {first['claimed_source']} | {distance} |"
    )


if __name__ == "__main__":
    main()
