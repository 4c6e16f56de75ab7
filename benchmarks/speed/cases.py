"""What is timed. A case has two sides, ours and a plain eager reference of the same mathematics, each run in a process
of its own; a later case joins by an entry in ``CASES``. Imports are inside the sides, so that a side holds only what it
uses in memory.
"""

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
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
        from distill_bench.methods.trajectory_matching.gradient import trajectory_gradient
        from distill_bench.networks import build_network
        from distill_bench.runtime.malloc import disable_trim
        from distill_bench.runtime.seeds import generator
        from distill_bench.training.student import Student

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


def updates(method: str, ipc: int, title: str, theirs: Callable[[Any], Any], flops: float, **fields: Any) -> Case:
    """Updates of the images by the paper's recipe, all classes each, from 50,000 random images."""
    warm, timed = 2, 4

    def ours() -> dict[str, float]:
        began = time.perf_counter()
        from distill_bench import Dataset, Split, synthesize
        from distill_bench.errors import Interrupted
        from distill_bench.runtime.malloc import disable_trim

        disable_trim()
        pixels, labels = training_images()
        source = Dataset("random", tuple(map(str, range(CLASSES))), lambda: Split(pixels, labels), None, True)
        ends = Ends(warm + timed)
        with contextlib.suppress(Interrupted):
            synthesize(source, method, ipc, monitor=ends, **fields)
        return ends.seconds(warm) | {"start": ends.times[1] - began}

    def reference() -> dict[str, float]:
        pixels, labels = training_images()
        from matching import RealImages

        images = pixels.float().div_(255).sub_(0.5).div_(0.29)
        work = theirs(RealImages(images, labels, CLASSES))
        return Ends(warm + timed).of(work.update).seconds(warm)

    what = f"an update of {ipc * CLASSES} images by {title}, {CLASSES} classes of CIFAR-10's shape"
    return Case(f"{method.split('-')[0]} IPC {ipc}", what, {"ours": ours, "reference": reference}, lambda: flops)


def recovery(side: int, batch: int) -> Case:
    """Updates of a batch of images recovered from a ResNet18 with batch norm."""
    warm, timed, classes = 2, 5, 100

    def ours() -> dict[str, float]:
        from distill_bench import Dataset, Split
        from distill_bench.distilled.budget import Budget
        from distill_bench.errors import Interrupted
        from distill_bench.methods import load_method
        from distill_bench.methods.decoupled.recover import recover_batch
        from distill_bench.methods.synthesis import new_run
        from distill_bench.networks import build_network
        from distill_bench.runtime.malloc import disable_trim
        from distill_bench.runtime.seeds import generator

        disable_trim()
        import torch

        labels = torch.arange(classes)
        pixels = torch.randint(0, 256, (classes, CHANNELS, side, side), dtype=torch.uint8)
        source = Dataset("random", tuple(map(str, range(classes))), lambda: Split(pixels, labels), None, True)
        chosen, ends = load_method("sre2l"), Ends(warm + timed)
        fields = {"crop": False, "jitter_both_ways": False, "bn_weight": 0.01, "image_lr": 0.25}
        config = chosen.config("random", 1, "paper", side, **fields, classes_per_batch=batch)
        network = build_network("ResNet18BN", (CHANNELS, side, side), classes, generator("weights"))
        run = new_run(source, chosen, config, Budget(1), 0, monitor=ends)
        with contextlib.suppress(Interrupted):
            recover_batch(run, network.eval().requires_grad_(False), labels[:batch], 0)
        return ends.seconds(warm)

    def reference() -> dict[str, float]:
        from matching import Recovery

        return Ends(warm + timed).of(Recovery(side, batch, classes).update).seconds(warm)

    def flops() -> float:
        from distill_bench.networks import build_network
        from distill_bench.runtime.seeds import generator
        from distill_bench.training.compilation import flops_of

        shape = (CHANNELS, side, side)
        return 2.0 * batch * flops_of(build_network("ResNet18BN", shape, classes, generator("weights")), shape)

    what = f"an update of {batch} images of {side} px recovered from ResNet18"
    return Case(f"recover {side}", what, {"ours": ours, "reference": reference}, flops)


class Ends:
    """When each of some updates ended. As a monitor it asks the work to stop after the last."""

    def __init__(self, count: int) -> None:
        self._count, self.times = count, [time.perf_counter()]

    @property
    def stop_requested(self) -> bool:
        return len(self.times) > self._count

    @contextlib.contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator["Ends"]:
        self.times = [time.perf_counter()]
        yield self

    def advance(self, steps: int = 1) -> None:
        self.times += [time.perf_counter()] * steps

    def note(self, text: str) -> None: ...

    def say(self, *lines: str) -> None: ...

    def of(self, update: Callable[[], None]) -> "Ends":
        """Make all updates."""
        while not self.stop_requested:
            update()
            self.advance()
        return self

    def seconds(self, warm: int) -> dict[str, float]:
        """The median of those after the first few."""
        each = sorted(after - before for before, after in zip(self.times[warm:], self.times[warm + 1 :], strict=False))
        return {"seconds": each[len(each) // 2]}


def training_images() -> tuple[Any, Any]:
    """(uint8 images, labels) of CIFAR-10's shape and size."""
    import torch

    draws = torch.Generator().manual_seed(0)
    count = 5_000 * CLASSES
    images = torch.randint(0, 256, (count, CHANNELS, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    return images, torch.arange(count) % CLASSES


def matching_cases() -> list[Case]:
    """The loops of the methods that match random networks; operations: of real images forward, or a gradient's three
    passes; of synthetic ones forward and towards the images, and for a gradient's derivative as in ``trajectory``."""
    first, rest = convnet_flops()
    forward, gradient = first + rest, 2 * first + 3 * rest
    towards, twice = 2 * forward, (2 + 5) * first + (3 + 8) * rest

    def mean(name: str, ipc: int) -> Callable[[Any], Any]:
        return lambda real: getattr(importlib.import_module("matching"), name)(real, ipc)

    def siamese(augmented: bool) -> Callable[[Any], Any]:
        return lambda real: importlib.import_module("matching").GradientMatching(real, augmented)

    images = 256 * CLASSES
    return [
        *[
            updates("dm", n, "DM", mean("DistributionMatching", n), images * forward + n * CLASSES * towards)
            for n in (1, 10)
        ],
        updates("dc", 1, "DC", siamese(False), images * gradient + CLASSES * twice),
        updates("dsa", 1, "DSA", siamese(True), images * gradient + CLASSES * twice),
        *[
            updates(
                "datadam-released",
                n,
                "DataDAM as released",
                mean("AttentionMatching", n),
                CLASSES * (64 * forward + n * towards),
            )
            for n in (1, 10)
        ],
        recovery(32, 100),
        recovery(64, 50),
    ]


CASES = {
    case.name: case
    for case in (
        *(evaluator(1, 5, 60), evaluator(10, 3, 15), evaluator(50, 2, 5), trajectory(10), trajectory(30)),
        *matching_cases(),
    )
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
