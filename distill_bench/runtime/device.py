"""Which device work runs on."""

import re
import warnings

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
    device = torch.device("cuda" if name == "auto" else name)
    count = {"cpu": lambda: 1, "cuda": _cuda_devices, "mps": lambda: int(torch.backends.mps.is_available())}
    if (device.index or 0) < count[device.type]():
        return device
    if name == "auto":
        return torch.device("cpu")
    raise UsageError(f"the device {name} is not available here. Use `device=cpu`, or auto.")


def _cuda_devices() -> int:
    """How many GPUs can be used; torch's warning about a driver that cannot is the answer, and not shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="CUDA initialization|Can.t initialize NVML", category=UserWarning)
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
