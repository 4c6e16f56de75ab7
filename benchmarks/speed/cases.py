"""What is timed. A case has two sides, ours and a plain eager reference of the same mathematics, each run in a process
of its own; a later case joins by an entry in ``CASES``. Imports are inside the sides, so that a side holds only what it
uses in memory.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANNELS, SIDE, CLASSES, TEST_IMAGES = 3, 32, 10, 10_000
BATCH, EPOCHS = 256, 1000
SIDES = ("ours", "reference")


@dataclass(frozen=True)
class Case:
    """A piece of work.

    Attributes:
        name: such as ``"evaluator IPC 10"``.
        what: what ``seconds`` are the seconds of.
        sides: for every side, the function that does the work and returns ``seconds`` and its parts.
        flops: floating-point operations that no implementation can do without.
    """

    name: str
    what: str
    sides: dict[str, Callable[[], dict[str, float]]]
    flops: Callable[[], float]


def evaluator(ipc: int, warm: int, timed: int) -> Case:
    """One network of standard-v1 at CIFAR-10 shape: ``timed`` epochs after ``warm`` others, and one test."""
    images = ipc * CLASSES

    def ours() -> dict[str, float]:
        began = time.perf_counter()
        import torch

        from distill_bench.augmentations import dsa
        from distill_bench.evaluation import PROTOCOLS
        from distill_bench.networks import build_network
        from distill_bench.runtime.malloc import disable_trim
        from distill_bench.runtime.seeds import generator
        from distill_bench.training import compilation
        from distill_bench.training.train import accuracy, table_batches, train

        disable_trim()
        shape = (CHANNELS, SIDE, SIDE)
        pixels, labels, test, test_labels = random_images(images)
        network = build_network("ConvNet", shape, CLASSES, generator("weights"))
        plan, ends = PROTOCOLS["standard-v1"].plan(images), [0.0]
        work = compilation.training_flops(network, shape, plan.epochs * images, TEST_IMAGES)
        compiled = compilation.decide("auto", torch.device("cpu"), work)
        operations = dsa.usual_operations(True)

        def augment(batch: Any, draws: Any) -> Any:
            return dsa.apply(dsa.sample(operations, len(batch), shape, draws), batch)

        class Enough(Exception):
            pass

        def tick() -> None:
            ends.append(time.perf_counter())
            if len(ends) > warm + timed:
                raise Enough

        started = time.perf_counter()
        try:
            batches = table_batches(pixels.__getitem__, labels, augment)
            train(network, batches, images, plan, generator("order"), tick, compiled=compiled)
        except Enough:
            epochs = sorted(after - before for before, after in zip(ends[warm:], ends[warm + 1 :], strict=False))
        first = ends[1] - started
        accuracy(network, test[:100].__getitem__, test_labels[:100], compiled=compiled)
        tested = time.perf_counter()
        accuracy(network, test.__getitem__, test_labels, compiled=compiled)
        return projected(epochs, time.perf_counter() - tested) | {"start": first + started - began}

    def reference() -> dict[str, float]:
        from reference import Training

        pixels, labels, test, test_labels = random_images(images)
        training, epochs = Training(pixels, labels, CLASSES), []
        for _ in range(warm + timed):
            before = time.perf_counter()
            training.epoch()
            epochs.append(time.perf_counter() - before)
        tested = time.perf_counter()
        training.test(test, test_labels)
        return projected(sorted(epochs[warm:]), time.perf_counter() - tested)

    def flops() -> float:
        first, rest = convnet_flops()
        return EPOCHS * images * (2 * first + 3 * rest) + TEST_IMAGES * (first + rest)

    what = f"one network: {EPOCHS} epochs of {images} images with DSA, and a test on {TEST_IMAGES:,} images"
    return Case(f"evaluator IPC {ipc}", what, {"ours": ours, "reference": reference}, flops)


def projected(epochs: list[float], test: float) -> dict[str, float]:
    """Seconds of a whole training and test from sorted seconds of some epochs."""
    median = epochs[len(epochs) // 2]
    return {"seconds": EPOCHS * median + test, "epoch": median, "test": test}


def random_images(count: int) -> tuple[Any, ...]:
    """(training images, labels, test images, labels) of CIFAR-10's shape and size."""
    import torch

    draws = torch.Generator().manual_seed(0)
    sets = [torch.randn(number, CHANNELS, SIDE, SIDE, generator=draws) for number in (count, TEST_IMAGES)]
    return sets[0], torch.arange(count) % CLASSES, sets[1], torch.arange(TEST_IMAGES) % CLASSES


def convnet_flops(width: int = 128, depth: int = 3) -> tuple[float, float]:
    """Operations of a forward pass for one image: of the first layer (its input needs no gradient), and of the rest."""
    layers, channels, side = [], CHANNELS, SIDE
    for _ in range(depth):
        layers.append(2.0 * side**2 * 9 * channels * width)
        channels, side = width, side // 2
    return layers[0], sum(layers[1:]) + 2.0 * width * side**2 * CLASSES


def trajectory(steps: int) -> Case:
    """One gradient of trajectory matching over so many student steps of 100 images, exact, against TESLA's."""
    batch, repetitions = 100, 3

    def seconds(gradient: Callable[[], Any]) -> dict[str, float]:
        times = []
        for _ in range(repetitions):
            before = time.perf_counter()
            gradient()
            times.append(time.perf_counter() - before)
        return {"seconds": sorted(times)[repetitions // 2]}

    def ends() -> tuple[Any, Any]:
        import torch

        from distill_bench.networks import build_network
        from distill_bench.runtime.seeds import generator

        network = build_network("ConvNet", (CHANNELS, SIDE, SIDE), CLASSES, generator("weights"))
        start = torch.cat([parameter.detach().flatten() for parameter in network.parameters()])
        return start, start + 0.01 * torch.randn(len(start), generator=generator("target"))

    def ours() -> dict[str, float]:
        began = time.perf_counter()
        import torch

        from distill_bench.augmentations import dsa
        from distill_bench.methods.trajectory_matching.gradient import Student, trajectory_gradient
        from distill_bench.networks import build_network
        from distill_bench.runtime.malloc import disable_trim
        from distill_bench.runtime.seeds import generator

        disable_trim()
        shape = (CHANNELS, SIDE, SIDE)
        images, labels, *_ = random_images(batch)
        student = Student(build_network("ConvNet", shape, CLASSES, generator("shapes")), compiled=True)
        drawn = [dsa.sample(dsa.OPERATIONS, batch, shape, generator("dsa", step)) for step in range(steps)]
        batches = [lambda x, y, one=one: (dsa.apply(one, x), y) for one in drawn]
        start, target = ends()

        def gradient(count: int = steps) -> None:
            trajectory_gradient(student, start, target, images, labels, torch.tensor(0.01), batches[:count], "exact")

        gradient(1)
        first = time.perf_counter() - began
        return seconds(gradient) | {"start": first}

    def reference() -> dict[str, float]:
        from tesla import Iteration

        images, labels, *_ = random_images(batch)
        iteration, (start, target) = Iteration(images, labels, CLASSES), ends()
        iteration.gradients(start, target, 1)
        return seconds(lambda: iteration.gradients(start, target, steps))

    def flops() -> float:
        # a gradient has 3 passes of a layer; a directional derivative of it 3 forward, 3 towards the input and 2
        # towards the weights. The images have no tangent, and their gradient is needed in the second pass alone
        first, rest = convnet_flops()
        return steps * batch * ((2 + 5) * first + (3 + 8) * rest)

    what = (
        f"one exact gradient over {steps} student steps of {batch} images with DSA; the reference is TESLA's iteration"
    )
    return Case(f"trajectory N={steps}", what, {"ours": ours, "reference": reference}, flops)


CASES = {
    case.name: case
    for case in (evaluator(1, 5, 60), evaluator(10, 3, 15), evaluator(50, 2, 5), trajectory(10), trajectory(30))
}


def machine_rate() -> dict[str, float]:
    """The operations a second that this machine does at its best: in a matrix product, and in a convolution."""
    import torch
    from torch.nn import functional as F

    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    last = torch.channels_last
    images, weights = torch.randn(100, 128, 16, 16).to(memory_format=last), torch.randn(128, 128, 3, 3)
    weights = weights.to(memory_format=last)
    work = {
        "sgemm": (2 * 2048**3, lambda: a @ b),
        "convolution": (2 * 100 * 16**2 * 9 * 128**2, lambda: F.conv2d(images, weights, padding=1)),
    }
    rates = {}
    with torch.inference_mode():
        for name, (flops, run) in work.items():
            times = []
            for _ in range(12):
                began = time.perf_counter()
                run()
                times.append(time.perf_counter() - began)
            rates[name] = flops / sorted(times)[len(times) // 4]
    return rates


def main() -> None:
    """Run one side of a case, or measure the machine; one JSON line on standard output."""
    import torch

    what, side, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    found = machine_rate() if what == "machine" else CASES[what].sides[side]()
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps(found | {"mb": peak}) + "\n")


if __name__ == "__main__":
    main()
