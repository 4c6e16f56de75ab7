"""All measures of all methods' sets of a dataset, scaled down, and the tables of docs/transfer.md from them.

    python scripts/measure_table.py --sets build/measures            # makes sets and measures them: an hour on one core
    python scripts/measure_table.py --tables                         # the tables alone

Sets have one image per class (preset cpu, seed 0) and are evaluated under quick-v1; there are three class orders, and
the dozen networks of width 32 with average pooling. What is there already is not made again. Writes
results/measures/<dataset>.json, and the tables between the two comments in docs/transfer.md.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from distill_bench import Dataset, DistilledSet, load_dataset, load_distilled, synthesize
from distill_bench.benchmark import load_suite
from distill_bench.benchmark.beside import random_beside
from distill_bench.cli.measures import fraction, percent
from distill_bench.evaluation import score_folder
from distill_bench.evaluation.measures import (
    ArchitectureSearch,
    Continual,
    Measured,
    Privacy,
    RobustScore,
    ars,
    continual,
    lrs,
    nas,
    privacy,
)
from distill_bench.evaluation.measures.nas import SPACE
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import run_block

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "results" / "measures", ROOT / "docs" / "transfer.md"
BEGIN, END = "<!-- tables: scripts/measure_table.py -->", "<!-- end of tables -->"
IPC, PROTOCOL, ORDERS = 1, "quick-v1", 3
NETWORKS = tuple(name for name in SPACE if "W32" in name and name.endswith("AP"))
LISTS = {"nearest": {"distances", "indices", "reference"}}
"""Of which the file has the summary alone."""


def measures_of(distilled: DistilledSet, dataset: Dataset, monitor: Any) -> dict[str, Callable[[], Measured]]:
    """Each measure of a set by its name."""
    shared: dict[str, Any] = {"monitor": monitor}
    cached = shared | {"cache": score_folder()}
    return {
        "continual": lambda: continual(distilled, dataset, PROTOCOL, orders=ORDERS, **cached),
        "nas": lambda: nas(distilled, dataset, PROTOCOL, NETWORKS, **cached),
        "lrs": lambda: lrs(distilled, random_beside(distilled, dataset, **shared), dataset, PROTOCOL, **cached),
        "ars": lambda: ars(distilled, random_beside(distilled, dataset, **shared), dataset, PROTOCOL, **cached),
        "privacy": lambda: privacy(distilled, dataset, PROTOCOL, **shared),
    }


def measure_all(name: str, sets: Path, methods: list[str]) -> None:
    """Make what is missing, measure by measure, and write it down as it comes."""
    path, dataset, monitor = RESULTS / f"{name}.json", load_dataset(name), StreamMonitor()
    found = json.loads(path.read_text())["measures"] if path.exists() else {}
    for method in methods:
        file = sets / f"{method}.safetensors"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            synthesize(dataset, method, IPC, "cpu", monitor=monitor).save(file)
        for kind, measure in measures_of(load_distilled(file), dataset, monitor).items():
            if method not in found.get(kind, {}):
                found.setdefault(kind, {})[method] = measure().model_dump(mode="json", exclude=LISTS)
                run = run_block(0.0, resolve_device("auto"))
                run = {key: run[key] for key in ("git_commit", "dirty", "torch", "threads", "instructions")}
                content = {"dataset": name, "ipc": IPC, "protocol": PROTOCOL, "run": run, "measures": found}
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def tables(measures: dict[str, dict[str, Any]], methods: list[str]) -> Iterator[str]:
    """The lines of all tables, of the methods that have all measures; the others are named."""
    whole = [method for method in methods if all(method in found for found in measures.values())]
    measures = {kind: {method: found[method] for method in whole} for kind, found in measures.items()}
    if missing := [method for method in methods if method not in whole]:
        yield from (f"Not measured yet: {', '.join(f'`{method}`' for method in missing)}.", "")
    yield from _continual(_read(measures["continual"], Continual))
    yield from _search(_read(measures["nas"], ArchitectureSearch))
    yield from _scores(_read(measures["lrs"], RobustScore), _read(measures["ars"], RobustScore))
    yield from _privacy(measures["privacy"])


def _read(found: dict[str, Any], model: type[Any]) -> dict[str, Any]:
    """By method what was measured, without the fields that are computed."""
    return {
        method: model.model_validate_json(json.dumps({name: facts[name] for name in model.model_fields}))
        for method, facts in found.items()
    }


def _rows(title: str, head: list[str], rows: dict[str, list[str]]) -> list[str]:
    lines = [["method", *head], [":--", *["--:"] * len(head)], *([method, *cells] for method, cells in rows.items())]
    return [f"**{title}**", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _continual(found: dict[str, Continual]) -> list[str]:
    seen = next(iter(found.values())).classes_seen
    rows = {method: [*map(percent, each.steps), percent(each.average)] for method, each in found.items()}
    title = "`continual`: accuracy over the classes seen, in percent"
    return _rows(title, [*(f"{count} seen" for count in seen), "mean over steps"], rows)


def _interval(estimate: Any, digits: int) -> str:
    if estimate.value is None:
        return "–"
    ends = (f"{end:.{digits}f}" for end in (estimate.ci_low, estimate.ci_high) if end is not None)
    return f"{estimate.value:.{digits}f} [{', '.join(ends)}]".replace(" []", "").replace("-", "−")


def _search(found: dict[str, ArchitectureSearch]) -> list[str]:
    best = next(iter(found.values())).best
    rows = {
        method: [_interval(each.correlation, 2), each.chosen.network, f"{each.chosen.on_whole:.1f}"]
        for method, each in found.items()
    }
    count = len(next(iter(found.values())).candidates)
    title = (
        f"`nas`: Spearman's correlation over {count} networks with its 95 % interval, and the network that the set "
        f"puts first, with its accuracy on the whole split in percent (the best, {best.network}: {best.on_whole:.1f})"
    )
    return _rows(title, ["correlation", "first on the set", "on the whole split (%)"], rows)


def _scores(labels: dict[str, RobustScore], augmentation: dict[str, RobustScore]) -> list[str]:
    rows = {
        method: [
            _interval(each.score, 3),
            *(fraction(each.parts[name]) for name in ("IOR", "HLR")),
            _interval(augmentation[method].score, 3),
            *(fraction(augmentation[method].parts[name]) for name in ("augmented", "plain")),
        ]
        for method, each in labels.items()
    }
    head = ["LRS", "IOR", "HLR", "ARS", "over random, augmented", "over random, plain"]
    return _rows(
        "`lrs` and `ars`: of 0 to 1 with the 95 % interval over networks; their parts as fractions", head, rows
    )


def _privacy(found: dict[str, dict[str, Any]]) -> list[str]:
    rows = {}
    for method, facts in found.items():
        near, membership = facts["nearest"], Privacy.model_fields["membership"].annotation(**facts["membership"])
        rows[method] = [
            str(near["copies"]), f"{near['median']:.3f}", f"{near['nearer']:.0%}", fraction(membership.area),
        ]  # fmt: skip
    usual = next(iter(found.values()))["nearest"]["reference_median"]
    title = (
        "`privacy`: images that are training images in 8 bits; the median distance to the nearest training image (of "
        f"test images: {usual:.3f}); those nearer than 19 in 20 test images; and the area under the loss's ROC curve"
    )
    return _rows(title, ["copies", "distance", "nearer", "membership"], rows)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--sets", type=Path, default=ROOT / "build" / "measures")
    parser.add_argument("--methods", nargs="*", help="of the dataset's suite, all unless given")
    parser.add_argument("--tables", action="store_true", help="from what is there")
    asked = parser.parse_args(arguments)
    methods = [method for method in load_suite(asked.dataset).methods if isinstance(method, str)]
    if not asked.tables:
        torch.set_num_threads(1)
        measure_all(asked.dataset, asked.sets, asked.methods or methods)
    found = json.loads((RESULTS / f"{asked.dataset}.json").read_text())["measures"]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    text = "\n".join([BEGIN, "", *tables(found, methods), END])
    write_atomically(PAGE, (before + text + rest.partition(END)[2]).encode())


if __name__ == "__main__":
    main()
