"""Why HeLlO's images do or do not beat random ones with the same labels: which part of choosing them costs what.

    python scripts/diagnose_projector.py 10              # IPC; prints a table, minutes

All on a fifth of the digits training split held out, with the ``cpu`` presets: no test image is read.
"""

import argparse
import sys
from statistics import fmean

import torch
from torch import Tensor

from distill_bench import evaluate, load_dataset, synthesize

HOLDOUT, PROTOCOL = 0.2, "quick-v1"


def compared(ipc: int) -> dict[str, tuple[str, dict]]:
    """Methods and values by what their images are."""
    return {
        "random images": ("random-projector", {}),
        "the surest crops of 300 images": ("hello", {"scale": [0.5, 1.0]}),
        "a crop of each of as many images as are kept": ("hello", {"pool": ipc, "scale": [0.5, 1.0]}),
        "the surest whole images of 300": ("hello", {"scale": [1.0, 1.0]}),
    }


def spread(images: Tensor, labels: Tensor) -> float:
    """The mean distance between two images of a class; 0 where each has one."""
    apart = [torch.pdist(images[labels == label].flatten(1)).mean() for label in labels.unique()]
    return float(torch.stack(apart).nan_to_num().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ipc", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--networks", type=int, default=2)
    arguments = parser.parse_args()
    ipc, networks = arguments.ipc, arguments.networks
    torch.set_num_threads(1)
    source = load_dataset("digits", holdout=HOLDOUT)
    sys.stdout.write("| images | apart | hard labels | a projector's labels |\n|---|--:|--:|--:|\n")
    for title, (method, values) in compared(ipc).items():
        found: list[tuple[float, float, float]] = []
        for seed in range(arguments.seeds):
            made = synthesize(source, method, ipc, "cpu", seed, **values)
            hard = evaluate(made, source, PROTOCOL, networks=networks, labels="hard").accuracy
            shown = evaluate(made, source, PROTOCOL, networks=networks).accuracy
            found.append((spread(made.images, made.labels), hard, shown))
        means = [f"{fmean(each):.1f}" for each in zip(*found, strict=True)]
        sys.stdout.write(f"| {title} | {' | '.join(means)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
