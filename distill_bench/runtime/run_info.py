"""What a result was made with: code, versions, machine. None of it enters a set's bytes or a content address."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch

CODE = ("distill_bench", "benchmarks", "pyproject.toml")
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "MKL_CBWR")
"""Environment variables that hold torch's libraries to fewer of the processor's instructions than it has."""


def run_block(seconds: float, device: torch.device | None = None) -> dict[str, Any]:
    """The ``run`` block of a result: seconds of work, the device it ran on, and what else this process runs on."""
    return {
        "seconds": round(seconds, 3),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        **code_state(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "device": None if device is None else str(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "instructions": instructions(),
        "system": platform.system(),
    }


def conditions(device: torch.device | None) -> dict[str, Any]:
    """What the last digits of work depend on, that may be another when it goes on: where it runs, and on what."""
    here = run_block(0.0, device)
    return {name: here[name] for name in ("device", "threads", "torch", "instructions")}


def instructions() -> str:
    """The processor's vector instructions that torch uses, and what in the environment holds its libraries to fewer.

    They order the sums of convolutions and products: AVX2 and AVX512 give other last bits.
    """
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if os.environ.get(name)]
    return ", ".join([torch.backends.cpu.get_cpu_capability(), *limits])


def peak_memory_mb() -> float | None:
    """The most resident memory this process has had, in MB (10⁶ bytes); None if the system does not say."""
    if sys.platform == "win32":
        return None
    if sys.platform == "linux":
        # not ru_maxrss, which survives exec: it would start at the parent's peak
        status = Path("/proc/self/status").read_text().splitlines()
        peak = next((line.split()[1] for line in status if line.startswith("VmHWM")), None)  # some sandboxes have none
        return None if peak is None else round(int(peak) * 1024 / 1e6, 1)
    import resource  # not there on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)


@cache
def code_state() -> dict[str, Any]:
    """The commit of the checkout the package lies in, and whether its code differs from it; null when installed.

    Read once a process: ask at its start, so that code edited while it works is not taken for the code it runs.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return {"git_commit": None, "dirty": None}
    commit = _output(["git", "-C", str(root), "rev-parse", "HEAD"])
    changes = _output(["git", "-C", str(root), "status", "--porcelain", "--", *CODE])
    return {"git_commit": commit, "dirty": None if changes is None else bool(changes)}


def comes_with_checkout(folder: Path) -> bool:
    """Whether git tracks files in a folder of the checkout that the package lies in."""
    root, place = Path(__file__).parents[2], folder.resolve()
    if not (root / ".git").exists() or not place.is_relative_to(root):
        return False
    return bool(_output(["git", "-C", str(root), "ls-files", "--", str(place)]))


@cache
def checkout_results() -> Path | None:
    """The project's own results, where the package lies in a checkout: another machine's times are better than none."""
    folder = Path(__file__).parents[2] / "results"
    return folder if comes_with_checkout(folder) else None


def _output(command: list[str]) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
