"""What result files hold."""

from distill_bench.benchmark.leaderboard.claims import Claim


def score(method="dm", ipc=1, seed=0, accuracies=(88.0, 89.0, 90.0), **fields):
    return {
        "kind": "score", "suite": "digits", "dataset": "digits", "method": method, "ipc": ipc, "seed": seed,
        "preset": "cpu", "protocol": "quick-v1", "network": "ConvNetD2W64", "labels": "hard",
        "pixel_space": "normalized", "accuracies": list(accuracies), "bytes": 2640,
        "synthesis": {"seconds": 10.0, "peak_memory_mb": 512.0}, **fields,
    }  # fmt: skip


def failure(method="mtt", ipc=1, seed=0, **fields):
    cell = {"suite": "digits", "dataset": "digits", "method": method, "ipc": ipc, "seed": seed, "preset": "cpu"}
    return {"kind": "failure", **cell, "error": "loss is NaN", **fields}


def full(accuracy=98.0):
    return score("full", None, accuracies=[accuracy], protocol="full-v1", bytes=None, synthesis=None)


def claim(method="dm", dataset="digits", ipc=1, accuracy=70.0, protocol="dsa-v1", **fields):
    values = {
        "method": method, "dataset": dataset, "size": None, "ipc": ipc, "accuracy": accuracy, "std": None,
        "protocol": protocol, "network": "ConvNetD3", "norm": "instance", "labels": "hard", "selection": "last",
        "paper": "a paper", "source": "its table", "reading": "first-hand", "note": "", **fields,
    }  # fmt: skip
    return Claim(**values)
