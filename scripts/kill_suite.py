"""Kill a digits suite of every method at random moments, resume it, and compare with a run that was left alone.

    python scripts/kill_suite.py --kills 50 --out results/reliability

One kill in five hits a suite whose cells run in processes of their own: the suite alone, whose worker has to end by
itself, or the worker alone, whose cell has to fail and be taken up again. The others are spread over all stages: each
has a stage and a part of it that are drawn in advance, and falls a random moment after. The end is compared byte by
byte: sets, teachers and experts, and scores and results without what says when and where they were made.

Works in ``--folder``, a temporary one unless given, and can itself be stopped and started again there.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401 (imported once, for all the processes that are forked)
import torch
from filelock import FileLock, Timeout

from distill_bench import cli, load_distilled
from distill_bench.benchmark import worker
from distill_bench.benchmark.results import read_results
from distill_bench.cli import options as command_options
from distill_bench.methods.recipe import list_recipes
from distill_bench.runtime.files import UNFINISHED
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import run_block

SUITE = """
title = "Every method"
datasets = ["digits"]
methods = {methods}
ipc = [1]
preset = "test"
reference = "{reference}"
"""
OTHERS = ("infer", "krr-st", "random-targets")
"""Recipes that the suite does not hold: one has no IPC 1, and targets have a protocol of their own."""
NETWORKS = 2
IN_PROCESSES = 5
"""One kill in so many hits a suite of worker processes."""
PATIENCE = 600.0
WHEN_AND_WHERE = ("run", "synthesis", "seconds", "sum")
STAGE_OF_FILE = {
    "pretrained/teachers": "teacher",
    "pretrained/experts": "experts",
    ".recorded-": "relabelling",
    "store/checkpoints": "distillation",
    "store/": "evaluation",
}
"""What a worker is doing, by the path of the file written last; the first that fits."""

Place = tuple[str, str]
"""A cell and the title of the stage that it is in; ``""`` where it is in none."""


def write_suite(folder: Path, methods: list[str], reference: str) -> None:
    """The suite's file: every method as its test preset has it."""
    (folder / "killed.toml").write_text(SUITE.format(methods=methods, reference=reference))


# ---- the process that is killed


class Telling(StreamMonitor):
    """Writes to a pipe where the suite is: a JSON line for every step."""

    def __init__(self, pipe: int) -> None:
        super().__init__(quiet=True)
        self._pipe, self._cell = pipe, ""

    def tell(self, **facts: Any) -> None:
        os.write(self._pipe, (json.dumps(facts) + "\n").encode())

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator["Told"]:
        told = Told(self, self._cell, title, total, done)
        told.advance(0)
        yield told
        self.tell(cell=self._cell, stage="", part=0.0)

    def runs(self, work: Any, monitor: StreamMonitor, own_process: bool = False) -> int:
        """``run_recording``, told about."""
        self._cell = str(work.cell)
        self.tell(cell=self._cell, stage="", part=0.0)
        code = recording(work, monitor, own_process)
        self.tell(finished=self._cell, code=code)
        return code


class Told:
    """A stage that is told about."""

    def __init__(self, monitor: Telling, cell: str, title: str, total: int, done: int) -> None:
        self._monitor, self._cell, self._title, self._total, self._done = monitor, cell, title, total, done

    def advance(self, steps: int = 1) -> None:
        self._done += steps
        self._monitor.tell(cell=self._cell, stage=self._title, part=self._done / self._total)

    def note(self, text: str) -> None: ...


recording = worker.run_recording


def start(folder: Path, home: Path, executor: str) -> tuple[int, int]:
    """Run the suite's command in a process forked from this one: its id, and the pipe that says where it is."""
    reading, writing = os.pipe()
    process = os.fork()
    if process:
        os.close(writing)
        return process, reading
    code: Any = 1
    try:  # whatever happens, this process never returns into what its parent does
        os.close(reading)
        os.setsid()
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(home.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        os.environ["DISTILL_BENCH_HOME"] = str(home)
        monitor = Telling(writing)
        command_options.listening_monitor = lambda quiet: monitor
        worker.run_recording = monitor.runs
        options = ["--executor", executor, "--checkpoint-seconds", "0", "--networks", str(NETWORKS), "--quiet"]
        options += ["--jobs", "2"] if executor == "local" else []  # so that the last cells are shared
        sys.argv = ["distill-bench", "bench", "killed.toml", *options, "--results", str(home / "results")]
        cli.main()
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code or 0)


def lines(pipe: int) -> Iterator[dict[str, Any]]:
    """What a process tells until it ends."""
    with os.fdopen(pipe) as file:
        for line in file:
            with contextlib.suppress(ValueError):  # the last line of a killed process may be cut off
                yield json.loads(line)


# ---- kills


@dataclasses.dataclass
class Target:
    """When to kill: some seconds after a stage has come so far."""

    place: Place
    part: float
    delay: float


def targets(timeline: list[Place], kills: int, draw: random.Random) -> list[Target]:
    """Moments in the order of the suite, one in each of ``kills`` equal stretches of its stages."""
    chosen = []
    for kill in range(kills):
        at = (kill + draw.random()) / kills * len(timeline)
        chosen.append(Target(timeline[int(at)], at % 1, draw.uniform(0, 0.05)))
    return chosen


def kill_at(folder: Path, home: Path, target: Target, timeline: list[Place], steps: Counter) -> dict[str, Any] | None:
    """Run the suite in one process and kill it; None where it ended before."""
    process, pipe = start(folder, home, "in-process")
    where, goal = ("", ""), timeline.index(target.place)
    for told in lines(pipe):
        count(told, steps)
        if "finished" in told:
            continue
        where = (told["cell"], told["stage"])
        at = timeline.index(where) if where in timeline else -1
        if at > goal or (at == goal and told["part"] >= target.part):
            time.sleep(target.delay)
            os.kill(process, signal.SIGKILL)
            break
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status):
        return None
    return {"killed": "suite", "cell": where[0], "stage": kind(where[1])}


def kill_in_processes(folder: Path, home: Path, victim: str, draw: random.Random) -> dict[str, Any] | None:
    """Run the suite with a process a cell, and kill the suite or a worker alone; None where it ended before.

    Raises:
        RuntimeError: a worker outlives its suite, or a killed worker's cell is filed as what it is not.
    """
    process, pipe = start(folder, home, "local")
    before = newest(home)
    worker = wait_for(lambda: child(process) or ended(process))
    if worker is True:
        os.close(pipe)
        return None
    wait_for(lambda: newest(home) != before or child(process) != worker or ended(process))
    time.sleep(draw.uniform(0, 1.0))
    worker = child(process) or worker
    file = newest(home)
    os.kill(worker if victim == "worker" else process, signal.SIGKILL)
    if victim == "worker":
        # nothing is filed where the worker had done its cell: then the next begins, or the suite ends well
        wait_for(lambda: failures(home) or child(process) not in (None, worker) or ended(process))
        failed = failures(home)
        if any("killed by signal 9" not in each["error"] for each in failed):
            raise RuntimeError(f"a worker was killed, and filed was {failed}")
        os.kill(process, signal.SIGKILL)
    os.close(pipe)
    os.waitpid(process, 0)
    wait_for(lambda: not workers(home))
    stage = next((name for folder, name in STAGE_OF_FILE.items() if folder in file), "between stages")
    return {"killed": victim, "cell": "", "stage": f"{stage}, in a worker"}


def failures(home: Path) -> list[dict[str, Any]]:
    """What is filed of cells that failed."""
    return [json.loads(path.read_text()) for path in (home / "results").rglob("*.failed.json")]


def newest(home: Path) -> str:
    """The path below the cache of the file written last."""
    found = [(0, "")]
    for path in home.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.is_file() and path.suffix != ".lock":
                found.append((path.stat().st_mtime_ns, str(path.relative_to(home))))
    return max(found)[1]


def wait_for(condition: Any) -> Any:
    """What ``condition`` says once it says something."""
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > until:
            raise RuntimeError("waited in vain")
        time.sleep(0.02)
    return found


def ended(process: int) -> bool:
    """Whether a child of this process has ended. It is not waited for."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def child(process: int) -> int | None:
    """A child of a process, by Linux's own account."""
    with contextlib.suppress(OSError):
        for number in Path(f"/proc/{process}/task/{process}/children").read_text().split():
            if b"benchmark.worker" in Path(f"/proc/{number}/cmdline").read_bytes():
                return int(number)
    return None


def workers(home: Path) -> list[int]:
    """Processes that were started with this cache."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"DISTILL_BENCH_HOME={home}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def count(told: dict[str, Any], steps: Counter) -> None:
    """Count steps, and how often a cell was finished."""
    if "finished" in told:
        if told["code"] == 0:
            steps[told["finished"]] += 1
    elif told["stage"]:
        steps[kind(told["stage"])] += 1


def kind(title: str) -> str:
    """Which stage a title is of."""
    kinds = {"teacher": "teacher", "plain experts": "experts", "flat experts": "flat experts"}
    kinds |= {"labels recorded": "relabelling", "classes cut out": "cropping", "evaluate": "evaluation"}
    for part, name in kinds.items():
        if part in title:
            return name
    return title.split(", ipc")[0] if title else "between stages"


# ---- the whole


def finish(folder: Path, home: Path, steps: Counter) -> list[Place]:
    """Run the suite to its end; the stages it went through.

    Raises:
        RuntimeError: it failed.
    """
    process, pipe = start(folder, home, "in-process")
    timeline: dict[Place, None] = {}
    for told in lines(pipe):
        count(told, steps)
        if told.get("stage"):
            timeline[told["cell"], told["stage"]] = None
    _, status = os.waitpid(process, 0)
    if status:
        raise RuntimeError(f"the suite ended with {status}: {home.with_suffix('.log').read_text()[-2000:]}")
    return list(timeline)


def outcome(home: Path) -> dict[str, str]:
    """The hash of every finished file and every result, of JSON without what says when and where it was made."""
    found = {}
    patterns = (
        "store/sets/*.safetensors",
        "store/scores/*.json",
        "store/networks/*/[0-9]*.json",
        "pretrained/*/*.safetensors",
    )
    for path in sorted(path for pattern in patterns for path in home.glob(pattern)):
        content = path.read_bytes()
        if path.suffix == ".json":
            facts = json.loads(content)
            content = json.dumps({k: v for k, v in facts.items() if k not in WHEN_AND_WHERE}).encode()
        found[str(path.relative_to(home))] = hashlib.sha256(content).hexdigest()
    for result in read_results(home / "results") if (home / "results").is_dir() else []:
        content = result.model_dump_json(exclude=set(WHEN_AND_WHERE)).encode()
        name = (
            f"results/{result.data} {result.method} {result.ipc} {result.seed} {getattr(result, 'protocol', 'failed')}"
        )
        found[name + " strict" * getattr(result, "strict", False)] = hashlib.sha256(content).hexdigest()
    return found


def strays(home: Path) -> list[str]:
    """What should not be there after a suite: unfinished files, failures, checkpoints, locks that are held."""
    unfinished = [*home.rglob(f"*{UNFINISHED}"), *home.rglob("*.failed.json"), *home.glob("store/checkpoints/*")]
    unfinished += home.glob("pretrained/*/unfinished/*")
    for path in home.rglob("*.lock"):
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            unfinished.append(path)
    return [str(path.relative_to(home)) for path in unfinished]


def survive(
    kills: int,
    folder: Path,
    seed: int = 0,
    methods: list[str] | None = None,
    reference: str = "full-v1",
    in_processes: int = IN_PROCESSES,
) -> dict[str, Any]:
    """Run the suite alone, once more with ``kills`` SIGKILLs, and say what came of it.

    Args:
        folder: goes on from what is there of an earlier call.
        methods: all recipes by default, but ``OTHERS``.
        reference: as in a suite.
        in_processes: one kill in so many hits a suite of worker processes; 0: none.
    """
    state = folder / "state.json"
    write_suite(folder, methods or [name for name in list_recipes() if name not in OTHERS], reference)
    if state.exists():
        kept = json.loads(state.read_text())
    else:
        began, steps = time.monotonic(), Counter[str]()
        kept = {"timeline": finish(folder, folder / "alone", steps), "alone": dict(steps), "steps": {}, "hits": []}
        kept |= {"seconds_alone": time.monotonic() - began, "seconds_killed": 0.0}
        state.write_text(json.dumps(kept))
    began, before, steps = time.monotonic(), kept["seconds_killed"], Counter(kept["steps"])
    for hit in attack(folder, kept, kills, seed, in_processes, steps):
        kept["hits"].append(hit)
        kept |= {"steps": dict(steps), "seconds_killed": before + time.monotonic() - began}
        state.write_text(json.dumps(kept))
        sys.stderr.write(f"kill {len(kept['hits'])}: {hit}\n")
    finish(folder, folder / "killed", steps)
    kept["seconds_killed"] = before + time.monotonic() - began
    return figures(folder, kept, steps)


def attack(
    folder: Path, kept: dict[str, Any], kills: int, seed: int, in_processes: int, steps: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Kill the suite until ``kept`` has so many hits or it came to its end; what each of them hit."""
    timeline = [(cell, stage) for cell, stage in kept["timeline"]]
    chosen, killed = targets(timeline, kills, random.Random(seed)), folder / "killed"
    for number in range(len(kept["hits"]), kills):
        if in_processes and number % in_processes == in_processes - 1:
            victim = ("suite", "worker")[number // in_processes % 2]
            hit = kill_in_processes(folder, killed, victim, random.Random(f"{seed} {number}"))
        else:
            hit = kill_at(folder, killed, chosen[number], timeline, steps)
        if hit is None:
            return
        yield hit | {"half-written files": sum(1 for _ in killed.rglob(f"*{UNFINISHED}"))}


def figures(folder: Path, kept: dict[str, Any], steps: Counter[str]) -> dict[str, Any]:
    """What the killed run has beside the one that was left alone. Every set of it is read."""
    killed, hits = folder / "killed", kept["hits"]
    expected, found = outcome(folder / "alone"), outcome(killed)
    for path in (killed / "store/sets").glob("*.safetensors"):
        load_distilled(path)
    cells = {name for name in kept["alone"] if name.startswith("digits ")}
    result = {
        "kills": len(hits),
        "cells": len(cells),
        "cells_lost": sum(name.startswith("results/") for name in expected.keys() - found.keys()),
        "cells_repeated": sum(max(0, steps[name] - 1) for name in cells),
        "files_compared": len(expected),
        "files_missing": len(expected.keys() - found.keys()),
        "files_too_many": len(found.keys() - expected.keys()),
        "files_differing": sum(found.get(name, digest) != digest for name, digest in expected.items()),
        "left_behind": strays(killed),
        "killed": dict(Counter(hit["killed"] for hit in hits)),
        "stages": dict(sorted(Counter(hit["stage"] for hit in hits).items())),
        "half_written_files_met": sum(hit["half-written files"] > 0 for hit in hits),
        "steps_alone": sum(value for name, value in kept["alone"].items() if name not in cells),
        "steps_killed_in_process": sum(value for name, value in steps.items() if name not in cells),
        "seconds_alone": round(kept["seconds_alone"], 1),
        "seconds_killed": round(kept["seconds_killed"], 1),
    }
    # all or none: of one that lost something nobody knows which it was
    return result | {"kills_survived": len(hits) if same(result) else 0}


def same(found: dict[str, Any]) -> bool:
    """Whether nothing was lost, done twice, changed or left behind."""
    names = ("cells_lost", "cells_repeated", "files_missing", "files_too_many", "files_differing", "left_behind")
    return not any(found[name] for name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder unless given")
    parser.add_argument("--out", type=Path, help="the folder that kills.json is written to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ |= {"DISTILL_BENCH_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with contextlib.ExitStack() as stack:
        folder = arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = survive(arguments.kills, folder.resolve(), arguments.seed)
    report = {"kind": "reliability", "harness": "kills", "seed": arguments.seed, **found}
    report["run"] = run_block(found["seconds_alone"] + found["seconds_killed"])
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "kills.json").write_text(text)
    sys.exit(not same(found))


if __name__ == "__main__":
    main()
