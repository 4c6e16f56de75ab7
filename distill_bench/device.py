"""Which device work runs on."""

import re

import torch

from distill_bench.errors import UsageError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
NAME = re.compile(r"auto|(?:cpu|cuda|mps)(?::\d+)?")


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is a GPU, else the CPU.

    Raises:
        UsageError: the name is unknown or the device is not there.
    """
    if NAME.fullmatch(name) is None:
        raise UsageError(unknown("device", name, DEVICES, "; or one of several, such as cuda:1"))
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (device.index or 0) >= counts[device.type]:
        raise UsageError(f"the device {name} is not available here. Use --device cpu, or auto.")
    return device
