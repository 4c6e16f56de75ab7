"""What the bilinear warp of dc-v1's augmentation on MNIST changes: the same networks with the original's operations.

    python scripts/dc_augmentation_bias.py SET.safetensors… [--networks 20]

The original (augment() in the utils.py of VICO-UoE/DatasetCondensation 53f63a6) rotates with SciPy's cubic spline, on a
canvas that grows, cut back to the image with its offset rounded down; scales to the nearest pixel and whole sides; and
crops as we do. Here every network has the same initial weights and the same draws (which operation, how far) on either
side, so that nothing but the operations differs. Goes on where an earlier run stopped: one line a network in
results/protocols/dc-augmentation.json.
"""

import argparse
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import torch
from scipy.ndimage import rotate
from torch import Tensor
from torch.nn import functional as F

from distill_bench import load_distilled
from distill_bench.augmentations import dc
from distill_bench.evaluation import evaluate, score_folder
from distill_bench.evaluation.statistics import student
from distill_bench.runtime.files import write_atomically
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import run_block

RESULTS = Path(__file__).parent.parent / "results" / "protocols" / "dc-augmentation.json"
PROTOCOL = "dc-v1"


def original_augment(images: Tensor, operations: tuple[str, ...], generator: torch.Generator) -> Tensor:
    """``dc.augment`` with the original's operations, from the same draws."""
    means = images.mean(dim=(0, 2, 3))
    chosen = torch.randint(len(operations), (len(images),), generator=generator)
    result = images.clone()
    for number, name in enumerate(operations):
        picked = (chosen == number).nonzero().flatten().tolist()
        draws = _draws(name, len(picked), generator) if picked else []
        for index, draw in zip(picked, draws, strict=True):
            result[index] = ORIGINAL[name](images[index], draw, means)
    return result


def _draws(name: str, count: int, generator: torch.Generator) -> Tensor:
    """As ``dc._matrices`` draws them."""
    if name == "crop":
        return torch.randint(-dc.CROP, dc.CROP, (count, 2), generator=generator)
    if name == "scale":
        return 1 + (2 * torch.rand(count, 2, generator=generator) - 1) * dc.SCALE
    return torch.randint(-dc.ROTATION, dc.ROTATION, (count,), generator=generator)


def _crop(image: Tensor, shift: Tensor, means: Tensor) -> Tensor:
    height, width = image.shape[1:]
    canvas = means.view(-1, 1, 1).repeat(1, height + 2 * dc.CROP, width + 2 * dc.CROP)
    canvas[:, dc.CROP : dc.CROP + height, dc.CROP : dc.CROP + width] = image
    right, down = (int(value) + dc.CROP for value in shift)
    return canvas[:, down : down + height, right : right + width]


def _scale(image: Tensor, factors: Tensor, means: Tensor) -> Tensor:
    channels, height, width = image.shape
    wide, high = int(factors[0] * width), int(factors[1] * height)
    side = max(high, wide, height, width)
    canvas = torch.zeros(channels, side, side)
    top, left = (side - high) // 2, (side - wide) // 2
    canvas[:, top : top + high, left : left + wide] = F.interpolate(image[None], [high, wide])[0]
    return _centre(canvas, height, width)


def _rotate(image: Tensor, degrees: Tensor, means: Tensor) -> Tensor:
    turned = rotate(image.numpy(), angle=int(degrees), axes=(-2, -1), cval=float(means.mean()))
    return _centre(torch.from_numpy(turned), *image.shape[1:])


def _centre(canvas: Tensor, height: int, width: int) -> Tensor:
    top, left = (canvas.shape[1] - height) // 2, (canvas.shape[2] - width) // 2
    return canvas[:, top : top + height, left : left + width]


ORIGINAL = {"crop": _crop, "scale": _scale, "rotate": _rotate}
SIDES: dict[str, Callable[..., Tensor]] = {"ours": dc.augment, "original": original_augment}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+")
    parser.add_argument("--networks", type=int, default=20)
    given = parser.parse_args()
    monitor = StreamMonitor()
    monitor.listen()
    for path in given.sets:
        compare(path, given.networks, monitor)


def compare(path: Path, networks: int, monitor: StreamMonitor) -> None:
    """Test one set on both sides, and write what came out."""
    made = load_distilled(path)
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    entry = found.setdefault(path.stem, {"set_sha256": made.sha256, "protocol": PROTOCOL})
    if entry["set_sha256"] != made.sha256:
        raise SystemExit(f"{RESULTS} has another set of the name {path.stem}: give this one another name.")

    def write() -> None:
        pairs = list(zip(*(entry.get(side, []) for side in SIDES), strict=False))
        apart = [ours - original for ours, original in pairs]
        if apart:
            mean = sum(apart) / len(apart)
            error = None if len(apart) < 2 else torch.tensor(apart).std().item() / math.sqrt(len(apart))
            low, high = student(apart).interval()
            entry["paired"] = {
                "networks": len(apart), "ours_minus_original": mean, "standard_error": error, "ci_low": low,
                "ci_high": high,
            }  # fmt: skip
        entry["run"] = run_block(0.0) | {"script_sha256": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()}
        write_atomically(RESULTS, json.dumps(found, indent=1, sort_keys=True) + "\n")

    for count in range(1, networks + 1):  # in pairs, so that what is there can be compared at any time
        for side, augment in SIDES.items():
            if len(entry.get(side, [])) >= count:
                continue
            cache = score_folder().with_name(f"dc-augmentation-{side}")  # both sides have the same address
            with mock.patch.object(dc, "augment", augment):
                tested = evaluate(made, protocol=PROTOCOL, networks=count, compile="off", cache=cache, monitor=monitor)
            entry[side] = list(tested.accuracies)
            write()


if __name__ == "__main__":
    main()
