"""How far TESLA's gradient is from the gradient: relative error and cosine, with real experts.

    python benchmarks/trajectory/error.py                         # digits: a minute; trains one short expert
    python benchmarks/trajectory/error.py --dataset cifar10       # an expert of three epochs: ten minutes on two cores

Real images, ten a class, DSA in every step, the whole set a batch. Writes results/trajectory/error-<dataset>.{json,md}.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_bench import load_dataset
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.methods.trajectory_matching.gradient import trajectory_gradient
from distill_bench.networks import build_network
from distill_bench.pretrained.experts import ExpertRecipe, get_or_train_experts
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import run_block
from distill_bench.runtime.seeds import generator
from distill_bench.training.student import Batch, Student

RESULTS = Path(__file__).parents[2] / "results" / "trajectory"
IPC, NETWORK = 10, "ConvNet"
SETTINGS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 20, "batch": 64, "rate": 0.05, "segment": 2, "starts": (0, 5, 15), "steps": (1, 5, 10, 20, 40),
               "rates": (0.01, 0.05)},
    "cifar10": {"epochs": 3, "batch": 256, "rate": 0.01, "segment": 2, "starts": (0, 1), "steps": (1, 10, 30),
                "rates": (0.01, 0.05)},
}  # fmt: skip


def batches(count: int, steps: int, training: TrainingData) -> list[Batch]:
    """The whole set at every step, with a DSA operation each."""
    operations = dsa.usual_operations(training.flip_invariant)

    def batch(step: int) -> Batch:
        drawn = dsa.sample(operations, count, training.shape, generator("error", step))
        return lambda images, labels: (dsa.apply(drawn, images), labels)

    return [batch(step) for step in range(steps)]


def compare(found: Tensor, true: Tensor) -> dict[str, float]:
    """Relative error, and cosine, of one gradient."""
    error = (found - true).norm() / true.norm()
    cosine = (found * true).sum() / (found.norm() * true.norm())
    return {"error": float(error), "cosine": float(cosine)}


def measure(dataset: str) -> list[dict[str, Any]]:
    """One entry for every start, number of steps and learning rate."""
    chosen, source, monitor = SETTINGS[dataset], load_dataset(dataset), StreamMonitor()
    training = TrainingData(source, pixel_space_of(source, "normalized"), torch.device("cpu"))
    recipe = ExpertRecipe(epochs=chosen["epochs"], batch_size=chosen["batch"], learning_rate=chosen["rate"])
    experts = get_or_train_experts(training, NETWORK, recipe, 1, monitor=monitor)
    classes = len(training.class_names)
    images = torch.cat([training.draw(label, IPC, generator("error", label)) for label in range(classes)])
    labels = torch.arange(classes).repeat_interleave(IPC)
    student = Student(build_network(NETWORK, training.shape, classes, generator("shapes")).double())
    entries = []
    cases = list(itertools.product(chosen["starts"], chosen["rates"], chosen["steps"]))
    with monitor.stage(f"TESLA's error on {dataset}", len(cases)) as stage:
        for start, rate, steps in cases:
            ends = [experts.snapshot(0, epoch).double() for epoch in (start, start + chosen["segment"])]
            made = batches(len(images), steps, training)
            given = (*ends, images.double(), labels, torch.tensor(rate, dtype=torch.float64), made)
            exact, tesla = (trajectory_gradient(student, *given, kind) for kind in ("exact", "tesla"))
            entries.append(
                {
                    "start": start,
                    "steps": steps,
                    "rate": rate,
                    "images": compare(tesla.images, exact.images),
                    "learning_rate": compare(tesla.learning_rate, exact.learning_rate),
                }
            )
            stage.advance()
    return entries


def table(dataset: str, entries: list[dict[str, Any]]) -> str:
    lines = [f"TESLA's gradient against the exact one: {dataset}, IPC {IPC}, real images, one expert, float64.", ""]
    lines += [
        "| start epoch | learning rate | N | images: error | cosine | learning rate: error |",
        "|---|---|---|---|---|---|",
    ]
    for entry in entries:
        lines.append(
            f"| {entry['start']} | {entry['rate']} | {entry['steps']} | {entry['images']['error']:.1%} | "
            f"{entry['images']['cosine']:.3f} | {entry['learning_rate']['error']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=SETTINGS, default="digits")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    entries = measure(given.dataset)
    content = {"kind": "tesla-error", "dataset": given.dataset, "entries": entries, "run": run_block(0.0)}
    write_atomically(given.out / f"error-{given.dataset}.json", json.dumps(content, indent=1) + "\n")
    write_atomically(given.out / f"error-{given.dataset}.md", table(given.dataset, entries))
    sys.stdout.write(table(given.dataset, entries))


if __name__ == "__main__":
    main()
