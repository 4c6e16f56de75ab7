"""Results, failures and claims to make boards of."""

from statistics import fmean, pstdev

from distill_bench.benchmark.leaderboard.claims import Claim
from distill_bench.evaluation import Failure, Result, Synthesis
from distill_bench.evaluation.statistics import student


def score(method="dm", ipc=1, seed=0, accuracies=(88.0, 89.0, 90.0), **fields):
    low, high = student(accuracies).interval()
    values = {
        "suite": "digits", "dataset": "digits", "method": method, "ipc": ipc, "seed": seed, "preset": "cpu",
        "protocol": "quick-v1", "network": "ConvNetD2W64", "networks": len(accuracies), "labels": "hard",
        "learning_rate": 0.01, "pixel_space": "normalized", "accuracies": tuple(accuracies),
        "accuracy": fmean(accuracies), "std": pstdev(accuracies), "ci_low": low, "ci_high": high, "bytes": 2640,
        "set_sha256": f"of seed {seed}", "train_fingerprint": "0", "test_fingerprint": "1",
        "synthesis": Synthesis(seconds=10.0, peak_memory_mb=512.0), **fields,
    }  # fmt: skip
    return Result(**values)


def failure(method="mtt", ipc=1, seed=0, **fields):
    cell = {"suite": "digits", "dataset": "digits", "method": method, "ipc": ipc, "seed": seed, "preset": "cpu"}
    return Failure(**(cell | {"error": "loss is NaN"} | fields))


def full(*accuracies, **fields):
    alone = {"protocol": "full-v1", "bytes": None, "synthesis": None, "set_sha256": None}
    return score("full", None, accuracies=accuracies or [98.0], **{**alone, **fields})


def write(folder, results):
    """A small file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, result in enumerate(results):
        (folder / f"{index:04d}.json").write_text(result.model_dump_json())
    return folder


def claim(method="dm", dataset="digits", ipc=1, accuracy=70.0, protocol="dsa-v1", **fields):
    values = {
        "method": method, "dataset": dataset, "size": None, "ipc": ipc, "accuracy": accuracy, "std": None,
        "networks": None, "protocol": protocol, "network": "ConvNetD3", "norm": "instance", "pixels": "unknown",
        "labels": "hard", "selection": "last", "paper": "a paper", "source": "its table", "reading": "first-hand",
        "note": "", **fields,
    }  # fmt: skip
    return Claim(**values)
