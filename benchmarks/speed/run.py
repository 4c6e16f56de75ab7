"""Time our path against a plain eager reference: ``make bench-speed``.

Every measurement is a fresh process on an idle machine; rounds go through all sides in turn, and the reference runs
twice, with the allocator as it comes and set as ours is. Written: ``speed.json`` (one record a case), ``rounds.json``
(every measurement), ``speed.md`` and ``speed.png``.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from cases import CASES  # noqa: E402
from report import markdown, picture  # noqa: E402

TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_TOP_PAD_": str(64 * 2**20)}
RUNS = {"ours": ("ours", {}), "reference": ("reference", {}), "reference_tuned": ("reference", TUNED)}
BUSY, WATCHED_SECONDS = 0.08, 2.0
PAIR = "ours, 2 processes of 1 thread"


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("--quick", action="store_true", help="two rounds and no pairs of processes: about 20 minutes")
    told.add_argument("--rounds", type=int, help="instead of 4")
    told.add_argument("--threads", type=int, default=os.cpu_count())
    told.add_argument(
        "--case", action="append", choices=list(CASES), help="only this one, beside what is there of the others"
    )
    told.add_argument("--results", type=Path, default=Path("results/speed"))
    told.add_argument(
        "--max-wait", type=float, default=600, help="seconds to wait for an idle machine, each time; 0: take it busy"
    )
    options = told.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache  # so that the first compilation is the first
        time_cases(options)


def time_cases(options: argparse.Namespace) -> None:
    """All rounds, and the files."""
    rounds = options.rounds or (2 if options.quick else 4)
    names = options.case or list(CASES)
    wait_until_idle(options.max_wait)
    rate = measure("machine", "-", options.threads, {})
    found: dict[str, dict[str, list[dict[str, float]]]] = {name: {run: [] for run in RUNS} for name in names}
    for name in names:
        say(f"{name}: once for the compiler's cache")
        cold = measure(name, "ours", options.threads, {})
        for number in range(rounds):
            for run, (side, environment) in RUNS.items():
                wait_until_idle(options.max_wait)
                found[name][run].append(measure(name, side, options.threads, environment))
                say(f"{name}, round {number + 1} of {rounds}, {run}: {found[name][run][-1]['seconds']:.1f} s")
        found[name]["cold"] = [cold]
        if not options.quick and options.threads > 1:
            wait_until_idle(options.max_wait)
            found[name][PAIR] = pair(name)
    machine = f"{cpu()}, {options.threads} threads, torch {version()}"
    records, found = joined(options.results, machine, [record(n, found[n], rate, machine) for n in names], found)
    write(options.results, records, {"machine": machine, "rate": rate, "rounds": found})


def measure(case: str, side: str, threads: int, environment: dict[str, str]) -> dict[str, float]:
    """One fresh process."""
    return json.loads(finish(start(case, side, threads, environment)))


def pair(case: str) -> list[dict[str, float]]:
    """Two processes of one thread at the same time, after each has compiled for one thread."""
    measure(case, "ours", 1, {})
    return [json.loads(finish(process)) for process in [start(case, "ours", 1, {}) for _ in range(2)]]


def start(case: str, side: str, threads: int, environment: dict[str, str]) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return subprocess.Popen(
        [sys.executable, str(HERE / "cases.py"), case, side, str(threads)],
        stdout=subprocess.PIPE,
        text=True,
        env=inherited | {"OMP_NUM_THREADS": str(threads)} | environment,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, process.args))} failed with exit code {process.returncode}")
    return output


def record(name: str, found: dict[str, list[dict[str, float]]], rate: dict[str, float], machine: str) -> dict[str, Any]:
    """The record of a case in ``speed.json``: medians over rounds, seconds, MB (10⁶ bytes)."""
    seconds = {run: statistics.median(entry["seconds"] for entry in found[run]) for run in RUNS}
    memory = {run: max(entry["mb"] for entry in found[run]) for run in RUNS}
    return {
        "case": name,
        "ours_seconds": round(seconds["ours"], 2),
        "reference_seconds": round(seconds["reference"], 2),
        "ratio": round(seconds["ours"] / seconds["reference"], 3),
        "reference_tuned_seconds": round(seconds["reference_tuned"], 2),
        "ratio_tuned": round(seconds["ours"] / seconds["reference_tuned"], 3),
        "ours_mb": round(memory["ours"]),
        "reference_mb": round(memory["reference"]),
        "limit_seconds": round(CASES[name].flops() / max(rate["sgemm"], rate["convolution"]), 2),
        "machine": machine,
    }


def joined(
    folder: Path, machine: str, records: list[dict[str, Any]], found: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records and rounds, with those of other cases that this machine has in a folder from an earlier call."""
    if (folder / "rounds.json").exists() and (folder / "speed.json").exists():
        earlier = json.loads((folder / "rounds.json").read_text())
        if earlier["machine"] == machine:
            others = [each for each in json.loads((folder / "speed.json").read_text()) if each["case"] not in found]
            records = [*others, *records]
            found = {each["case"]: earlier["rounds"][each["case"]] for each in others} | found
    records.sort(key=lambda each: list(CASES).index(each["case"]))
    return records, {each["case"]: found[each["case"]] for each in records}


def write(folder: Path, records: list[dict[str, Any]], everything: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    page = markdown(records, everything, {name: case.what for name, case in CASES.items()})
    (folder / "speed.json").write_text(json.dumps(records, indent=1) + "\n")
    (folder / "rounds.json").write_text(json.dumps(everything, indent=1) + "\n")
    (folder / "speed.md").write_text(page)
    (folder / "speed.png").write_bytes(picture(records))
    sys.stdout.write(page)


def wait_until_idle(most: float) -> None:
    """Return when the machine's processors were idle for two seconds.

    Raises:
        SystemExit: they were busy for ``most`` seconds (0: nobody waits).
    """
    if most == 0:
        return
    began, told = time.monotonic(), False
    while (busy := busy_fraction()) > BUSY:
        if time.monotonic() - began > most:
            raise SystemExit(f"the machine has been {busy:.0%} busy for {most:.0f} s: stop what else runs, or wait.")
        if not told:
            say(f"waiting for an idle machine ({busy:.0%} busy)")
            told = True


def busy_fraction() -> float:
    """The fraction of all processors' time that somebody used during two seconds; 0 where Linux does not tell."""
    if not Path("/proc/stat").exists():
        return 0.0
    before = processor_ticks()
    time.sleep(WATCHED_SECONDS)
    total, idle = (after - earlier for after, earlier in zip(processor_ticks(), before, strict=True))
    return 1 - idle / max(total, 1)


def processor_ticks() -> tuple[int, int]:
    """(all, idle) ticks since start; waiting for a disk is idle."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks), ticks[3] + ticks[4]


def cpu() -> str:
    from distill_bench.runtime.run_info import run_block

    return str(run_block(0.0)["cpu"])


def version() -> str:
    import torch

    return torch.__version__


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
