"""Where the time of our side of a case goes, by kind of operation.

    python benchmarks/speed/shares.py --case "dsa IPC 1" --case "dc IPC 1"     # on an idle machine; joins shares.json

The profiler sees the whole process, so the first steps with their compilation count too, and the times of operations
are a few per cent above those without it.
"""

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from cases import CASES  # noqa: E402

KINDS = {
    "convolution": ("conv",),
    "matrix products": ("mm", "matmul", "linear"),
    "compiled loops": ("graph_", "cpp_fused", "Torch-Compiled", "CompiledFunction"),
    "norm": ("norm",),
    "pooling": ("pool",),
    "augmentation": ("grid", "flip", "affine"),
}


def kind_of(operation: str) -> str:
    """The kind of an operation of torch's profiler."""
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), "the rest")


def shares(case: str, threads: int) -> dict[str, float]:
    """The fraction of all operations' own CPU time that each kind took."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.set_num_threads(threads)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        CASES[case].sides["ours"]()
    took: Counter[str] = Counter()
    for event in seen.key_averages():
        took[kind_of(event.key)] += event.self_cpu_time_total
    return {kind: round(time / took.total(), 3) for kind, time in took.most_common()}


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--case", action="append", choices=list(CASES), required=True)
    told.add_argument("--threads", type=int, default=os.cpu_count())
    told.add_argument("--results", type=Path, default=Path("results/speed"))
    options = told.parse_args()
    path = options.results / "shares.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for case in options.case:
        found[case] = shares(case, options.threads)
        sys.stdout.write(f"{case}: {found[case]}\n")
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
