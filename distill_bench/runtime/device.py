"""Which device work runs on, and what is sent there."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor, nn

from distill_bench.errors import UsageError, unknown

Sent = TypeVar("Sent", bound=Tensor | nn.Module)


def _cuda_devices() -> int:
    """How many GPUs can be used; torch's warning about a driver that cannot is the answer, and not shown."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="CUDA initialization|Can.t initialize NVML", category=UserWarning)
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Within it torch computes with so many threads, by which its sums are ordered; None: with as many as before."""
    usual = torch.get_num_threads()
    torch.set_num_threads(count or usual)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


COUNT: dict[str, Callable[[], int]] = {
    "cpu": lambda: 1,
    "cuda": _cuda_devices,
    "mps": lambda: int(torch.backends.mps.is_available()),
}
"""How many devices there are of each type."""


def resolve_device(name: str | torch.device) -> torch.device:
    """The device itself, or that of a name; ``auto`` is CUDA where there is a GPU, else the CPU.

    Raises:
        UsageError: the name is unknown or the device is not there.
    """
    name = str(name)
    known = re.fullmatch(r"([a-z]+)(?::(0|[1-9]\d?))?", name)
    if name != "auto" and (known is None or known[1] not in COUNT):
        raise UsageError(unknown("device", name, ("auto", *COUNT), "; or one of several, such as cuda:1"))
    device = torch.device("cuda" if name == "auto" else name)
    if (device.index or 0) < COUNT[device.type]():
        return device
    if name == "auto":
        return torch.device("cpu")
    raise UsageError(f"the device {name} is not available here. Use `device=cpu`, or auto.")


def send(value: Sent, device: torch.device) -> Sent:
    """A tensor, or a module, from the CPU to a device, on which the host does not wait for what it is still at.

    CUDA has read the CPU's memory when the call returns. Metal has not, so there the host does wait.
    """
    return cast(Sent, value.to(device, non_blocking=device.type not in ("cpu", "mps")))


def take(rows: Shaped[Tensor, "n ..."], indices: Int64[Tensor, " k"]) -> Shaped[Tensor, "k ..."]:
    """Rows of a tensor on any device at indices that are on the CPU, without waiting for the device."""
    return rows[send(indices, rows.device)]
