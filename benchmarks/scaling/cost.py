"""Seconds and peak memory against images per class, classes, image side, steps and processes: ``make bench-cost``.

One thing varies at a time, from 10 classes of 32 px in colour at one image per class. Every figure is the median of
some fresh processes on an idle machine, eager, with random images. Written: ``cost.json`` (all measurements),
``cost.md`` (a table, and where cost grows in proportion) and ``cost.png`` (log-log).
"""

import argparse
import contextlib
import json
import math
import os
import statistics
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "speed"))

from cases import CHANNELS, Ends, random_images  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from run import cpu, say, wait_until_idle  # noqa: E402

USUAL = {"ipc": 1, "classes": 10, "side": 32}
VARIED: dict[str, dict[str, list[int]]] = {
    "dm": {"ipc": [1, 10, 50], "classes": [10, 100], "side": [8, 28, 32, 64], "processes": [1, 2]},
    "dsa": {"ipc": [1, 10, 50], "classes": [10, 100], "side": [8, 28, 32, 64], "processes": [1, 2]},
    "mtt": {"steps": [5, 10, 20, 40]},
    "evaluate": {"ipc": [1, 10, 50], "classes": [10, 100], "side": [8, 28, 32, 64], "processes": [1, 2]},
}
WHAT = {
    "dm": "an image update of DM, 64 real images a class",
    "dsa": "an image update of DSA, 64 real images a class, one update a network",
    "mtt": "one exact gradient of trajectory matching, 20 images a step",
    "evaluate": "a training epoch with DSA",
}
NAMES = {
    "ipc": "images per class",
    "classes": "classes",
    "side": "image side, px",
    "steps": "steps",
    "processes": "at once",
}
REPETITIONS, WARM, TIMED = 3, 1, 3
PROPORTIONAL = 0.1
"""A power within this of 1 is called linear."""


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--point", help=argparse.SUPPRESS)
    told.add_argument("--repetitions", type=int, default=REPETITIONS)
    told.add_argument("--results", type=Path, default=Path("results/scaling"))
    told.add_argument(
        "--max-wait", type=float, default=600, help="seconds to wait for an idle machine; 0: take it busy"
    )
    options = told.parse_args()
    if options.point:
        sys.stdout.write(json.dumps(point(**json.loads(options.point))) + "\n")
        return
    found = {work: {axis: {} for axis in axes} for work, axes in VARIED.items()}
    for work, axes in VARIED.items():
        for axis, values in axes.items():
            for value in values:
                found[work][axis][str(value)] = measured(work, axis, value, options)
    machine = f"{cpu()}, {os.cpu_count()} threads"
    write(options.results, {"machine": machine, "repetitions": options.repetitions, "found": found})


def measured(work: str, axis: str, value: int, options: argparse.Namespace) -> dict[str, float]:
    """The medians of some repetitions; with ``processes`` so many at a time, of one thread each, the slowest's."""
    each = []
    for _ in range(options.repetitions):
        wait_until_idle(options.max_wait)
        fields = USUAL | ({} if axis == "processes" else {axis: value})
        count = value if axis == "processes" else 1
        threads = 1 if axis == "processes" else os.cpu_count()
        command = [sys.executable, __file__, "--point", json.dumps({"work": work, "threads": threads} | fields)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        together = [json.loads(process.communicate()[0]) for process in running]
        each.append({"seconds": max(one["seconds"] for one in together), "mb": sum(one["mb"] for one in together)})
    found = {key: statistics.median(one[key] for one in each) for key in ("seconds", "mb")}
    say(f"{work}, {axis} {value}: {found['seconds']:.3f} s, {found['mb']:.0f} MB")
    return found


def point(work: str, threads: int, ipc: int, classes: int, side: int, steps: int = 0) -> dict[str, float]:
    """Seconds of one unit of work in this process, and its peak memory in MB (10⁶ bytes)."""
    import torch

    from distill_bench.runtime.malloc import disable_trim

    disable_trim()
    torch.set_num_threads(threads)
    if work == "mtt":
        seconds = _gradient(steps)
    else:
        shape = (CHANNELS, side, side)
        seconds = (_epoch if work == "evaluate" else _update)(work, shape, classes, ipc)
    status = Path("/proc/self/status").read_text().splitlines()
    return {"seconds": seconds, "mb": next(int(line.split()[1]) * 1024 / 1e6 for line in status if "VmHWM" in line)}


def _update(method: str, shape: tuple[int, int, int], classes: int, ipc: int) -> float:
    import torch

    from distill_bench import Dataset, Split, synthesize
    from distill_bench.errors import Interrupted

    labels = torch.arange(classes).repeat_interleave(max(64, ipc))
    pixels = torch.randint(0, 256, (len(labels), *shape), dtype=torch.uint8)
    source = Dataset("random", tuple(map(str, range(classes))), lambda: Split(pixels, labels), None, True)
    fields = {"real_batch": 64, "iterations": WARM + TIMED} | ({"outer_loop": 1} if method == "dsa" else {})
    ends = Ends(WARM + TIMED)
    with contextlib.suppress(Interrupted):
        synthesize(source, method, ipc, monitor=ends, **fields)
    return ends.seconds(WARM)["seconds"]


def _epoch(work: str, shape: tuple[int, int, int], classes: int, ipc: int) -> float:
    import torch

    from distill_bench.augmentations import dsa
    from distill_bench.networks import build_network
    from distill_bench.runtime.seeds import generator
    from distill_bench.training.train import Plan, table_batches, train

    images = torch.randn(classes * ipc, *shape, generator=generator("images"))
    labels, network = (
        torch.arange(len(images)) % classes,
        build_network("ConvNet", shape, classes, generator("weights")),
    )
    ends, plan = Ends(WARM + TIMED), Plan(epochs=WARM + TIMED, batch_size=256, learning_rate=0.01)
    batches = table_batches(images.__getitem__, labels, dsa.augmentation(True))
    train(network, batches, len(images), plan, generator("order"), ends.advance)
    return ends.seconds(WARM)["seconds"]


def _gradient(steps: int) -> float:
    import torch

    from distill_bench.methods.trajectory_matching.gradient import trajectory_gradient
    from distill_bench.networks import build_network
    from distill_bench.runtime.seeds import generator
    from distill_bench.training.student import Student

    images, labels, *_ = random_images(20)
    network = build_network("ConvNet", (CHANNELS, 32, 32), 10, generator("weights"))
    student, start = Student(network), torch.cat([each.detach().flatten() for each in network.parameters()])
    target = start + 0.01 * torch.randn(len(start), generator=generator("target"))
    batches, ends = [lambda x, y: (x, y)] * steps, Ends(WARM + TIMED)
    rate = torch.tensor(0.01)
    ends.of(lambda: trajectory_gradient(student, start, target, images, labels, rate, batches, "exact"))
    return ends.seconds(WARM)["seconds"]


def power(points: dict[str, float]) -> float:
    """The exponent between the first and the last value: y grows as x to this power.

    >>> power({"1": 3.0, "10": 30.0}), power({"8": 1.0, "64": 64.0})
    (1.0, 2.0)
    """
    (x, y), *_, (x_end, y_end) = ((float(key), value) for key, value in points.items())
    return math.log(y_end / y) / math.log(x_end / x)


def growth(points: dict[str, float]) -> str:
    """What the table says of a row: flat, linear, or the power."""
    exponent = power(points)
    if abs(exponent) <= PROPORTIONAL:
        return "flat"
    if abs(exponent - 1) <= PROPORTIONAL:
        return "linear"
    return f"power {exponent:.2f}"


def markdown(everything: dict[str, Any]) -> str:
    """The table: a row for every work and what varies."""
    lines = [
        "# What cost grows with",
        "",
        f"{everything['machine']}; one thing varies, from 10 classes of 32 px in colour at one image per class; eager, "
        f"on an idle machine, fresh processes a figure: {everything['repetitions']}. Growth is the power between the "
        "ends: *flat* within "
        f"{PROPORTIONAL} of 0, *linear* within {PROPORTIONAL} of 1. *At once*: processes of one thread side by side, "
        "the slower one's seconds and the memory of both.",
        "",
        "| work | varies | values | seconds | growth | peak memory, MB | growth |",
        "|---|---|---|---|---|---|---|",
    ]
    for work, axes in everything["found"].items():
        for axis, points in axes.items():
            seconds, memory = ({x: each[key] for x, each in points.items()} for key in ("seconds", "mb"))
            times, peaks = [f"{s:.3g}" for s in seconds.values()], [f"{mb:,.0f}" for mb in memory.values()]
            cells = [work, NAMES[axis], " · ".join(points), " · ".join(times), growth(seconds)]
            lines.append("| " + " | ".join([*cells, " · ".join(peaks), growth(memory)]) + " |")
    return "\n".join([*lines, "", *(f"- {work}: {what}." for work, what in WHAT.items())]) + "\n"


def picture(everything: dict[str, Any]) -> bytes:
    """Seconds above memory, a column for what varies, a line a work; both axes logarithmic."""
    axes_of = [axis for axis in NAMES if any(axis in axes for axes in everything["found"].values())]
    figure = Figure(figsize=(2.9 * len(axes_of), 5.2), dpi=130, layout="constrained")
    grid = figure.subplots(2, len(axes_of), sharex="col", sharey="row", squeeze=False)
    colours = dict(zip(WHAT, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
    for column, axis in enumerate(axes_of):
        for row, (key, title) in enumerate((("seconds", "seconds"), ("mb", "peak memory, MB"))):
            panel = grid[row][column]
            for work, axes in everything["found"].items():
                points = axes.get(axis, {})
                if points:
                    x, y = [int(value) for value in points], [each[key] for each in points.values()]
                    panel.loglog(x, y, "o-", color=colours[work], label=work, markersize=4)
            panel.set_xticks(x, [str(value) if value != 28 else "" for value in x])  # it would lie over 32
            if key == "mb":
                panel.set_ylim(100, 20_000)
            panel.minorticks_off()
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
            if column == 0:
                panel.set_ylabel(title)
            if row == 1:
                panel.set_xlabel(NAMES[axis])
    handles = {handle.get_label(): handle for panel in grid.flat for handle in panel.get_lines()}
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles), frameon=False)
    content = BytesIO()
    FigureCanvasAgg(figure).print_png(content, metadata={"Software": None})
    return content.getvalue()


def write(folder: Path, everything: dict[str, Any]) -> None:
    """The three files; the page also on standard output."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cost.json").write_text(json.dumps(everything, indent=1) + "\n")
    (folder / "cost.md").write_text(page := markdown(everything))
    (folder / "cost.png").write_bytes(picture(everything))
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
