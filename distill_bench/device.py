"""Which device work runs on."""

import torch

from distill_bench.errors import UsageError

DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve_device(name: str) -> torch.device:
    """The device of a name; ``auto`` is CUDA where there is a GPU, else the CPU.

    Raises:
        UsageError: the name is unknown or the device is not there.
    """
    kind = name.split(":")[0]
    if kind not in DEVICES:
        raise UsageError(f"unknown device {name!r}. Known: {', '.join(DEVICES)}.")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (kind == "cuda" and not torch.cuda.is_available()) or (kind == "mps" and not torch.backends.mps.is_available()):
        raise UsageError(f"the device {name} is not available here. Use --device cpu, or auto.")
    return torch.device(name)
