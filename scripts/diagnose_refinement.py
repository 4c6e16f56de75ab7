"""What NRR-DD's parts do on digits: which crops are kept, whether they are refined, and what labels they have.

    python scripts/diagnose_refinement.py 1 10        # IPCs; prints a table, some minutes on one thread

All on a fifth held out of the training split, with the ``cpu`` presets: no test image is read.
"""

import argparse
import statistics
import sys

import torch

from distill_bench import evaluate, load_dataset, synthesize
from distill_bench.distilled.budget import Budget
from distill_bench.methods import load_method, new_run
from distill_bench.methods.decoupled.relabel import predict, teacher_of

HOLDOUT, PROTOCOL = 0.2, "quick-v1"
RECORDED = {"labels": "recorded", "record": load_method("nrr-dd").config("digits", 1, "cpu").record.model_dump()}
PLAIN, SUREST = {"iterations": 0}, {"keep": "surest"}
COMPARED = {
    "random": ("random-soft", RECORDED),
    "rded": ("rded", RECORDED),
    "surest crops": ("nrr-dd", SUREST | PLAIN),
    "surest crops, refined": ("nrr-dd", SUREST),
    "least sure crops": ("nrr-dd", PLAIN),
    "least sure crops, refined: `nrr-dd`": ("nrr-dd", {}),
    "random, two logits: `random-top2`": ("random-top2", {}),
    "random, distances: `random-distances`": ("random-distances", {}),
    "`nrr-dd-distances`": ("nrr-dd-distances", {}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ipc", type=int, nargs="+")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--networks", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    source = load_dataset("digits", holdout=HOLDOUT)
    sys.stdout.write(
        "| IPC | images | teacher's p of the class | its labels | hard labels | bytes |\n|--|---|--:|--:|--:|--:|\n"
    )
    for ipc in arguments.ipc:
        for title, (method, values) in COMPARED.items():
            found = [measured(source, method, ipc, seed, values, arguments.networks) for seed in range(arguments.seeds)]
            p, soft, hard, size = (statistics.fmean(column) for column in zip(*found, strict=True))
            sys.stdout.write(f"| {ipc} | {title} | {p:.3f} | {soft:.1f} | {hard:.1f} | {size:,.0f} |\n")
            sys.stdout.flush()


def measured(source, method: str, ipc: int, seed: int, values: dict, networks: int) -> tuple[float, float, float, int]:
    """The teacher's mean probability of the class, both accuracies and the bytes of one set."""
    made = synthesize(source, method, ipc, "cpu", seed, **values)
    chosen, budget = load_method(method), Budget(ipc)
    run = new_run(source, chosen, chosen.config_on(source, budget, "cpu"), budget, seed, device="cpu")
    said = predict(teacher_of(run).network, made.images, run.device).softmax(dim=1)
    p = said.gather(1, made.labels[:, None])
    soft, hard = (
        evaluate(made, source, PROTOCOL, networks=networks, labels=use).accuracy  # type: ignore[arg-type]
        for use in ("stored", "hard")
    )
    return float(p.mean()), soft, hard, made.nbytes


if __name__ == "__main__":
    main()
