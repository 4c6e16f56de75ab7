"""What convolutions alone take of an update by DC or DSA: ``python benchmarks/speed/shares.py`` on an idle machine.

The convolutions of a ConvNetD3 of 32 px and their gradients (of weights everywhere, of inputs behind the first), on
batches of 256 images in channels last, as the gradient of a class's real images needs them; nothing between them.
Beside it that gradient as it is taken, compiled, with all between them. Written: ``shares.json``, in
seconds for ten classes.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from cases import CHANNELS, CLASSES, SIDE  # noqa: E402

BATCH, WIDTH, DEPTH, ROUNDS = 256, 128, 3, 5


def median_seconds(work: Callable[[], object]) -> float:
    """Of some rounds, after one that is not counted."""
    work()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def convolutions() -> dict[str, float]:
    """Seconds of a batch: forward, gradients of weights, gradients of inputs."""
    import torch
    from torch.nn import functional as F

    found = {"forward": 0.0, "weights": 0.0, "inputs": 0.0}
    channels, side = CHANNELS, SIDE
    for layer in range(DEPTH):
        shape = (BATCH, channels, side, side)
        images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        weights = torch.randn(WIDTH, channels, 3, 3).contiguous(memory_format=torch.channels_last)
        slope = torch.randn(BATCH, WIDTH, side, side).contiguous(memory_format=torch.channels_last)

        def backward(*wanted: bool) -> object:
            masks = [*wanted, False]
            settings = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
            return torch.ops.aten.convolution_backward(slope, images, weights, [WIDTH], *settings, masks)  # noqa: B023

        found["forward"] += median_seconds(lambda: F.conv2d(images, weights, padding=1))  # noqa: B023
        found["weights"] += median_seconds(lambda: backward(False, True))
        found["inputs"] += median_seconds(lambda: backward(True, False)) if layer else 0.0
        channels, side = WIDTH, side // 2
    return found


def whole() -> float:
    """Seconds of the compiled gradient of a batch of one class."""
    import torch

    from distill_bench.methods.gradient_matching.gradient_matching import parameter_gradients
    from distill_bench.networks import build_network
    from distill_bench.training import compilation

    network = build_network("ConvNet", (CHANNELS, SIDE, SIDE), CLASSES, torch.Generator().manual_seed(0))
    passes, images = compilation.compiled(compilation.logits, network), torch.randn(BATCH, CHANNELS, SIDE, SIDE)
    parameters = list(network.parameters())
    return median_seconds(lambda: parameter_gradients(passes, parameters, images, 0, keep_graph=False))


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--threads", type=int, default=os.cpu_count())
    told.add_argument("--results", type=Path, default=Path("results/speed"))
    options = told.parse_args()
    import torch

    from distill_bench.runtime.malloc import disable_trim

    disable_trim()
    torch.set_num_threads(options.threads)
    alone, together = convolutions(), whole()
    found = {f"convolutions, {part}": seconds for part, seconds in alone.items()} | {"gradient": together}
    found = {name: round(CLASSES * seconds, 2) for name, seconds in found.items()}
    found["share of convolutions"] = round(sum(alone.values()) / together, 2)
    (options.results / "shares.json").write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"{found}\n")


if __name__ == "__main__":
    main()
