"""A pretend accelerator: tensors that say they are on ``gpu:0``, computed on the CPU, never mixed with the CPU's own.

While a ``PretendAccelerator`` is entered, ``tensor.to("gpu")`` and what is made there are ``DeviceTensor``s. Every
operation on them runs on the CPU tensor inside, to the same bits. It refuses what CUDA refuses: an operand on the CPU
(but a number, a tensor of no dimensions, or the indices of ``index``), a generator of the CPU. And it counts when the
host would wait for the device, and how often it hands over data.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode

import distill_bench
from distill_bench.runtime import device

aten = torch.ops.aten
NAME = "gpu"
DEVICE, CPU = "gpu:0", torch.device("cpu")
REGISTER = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
HOUSE = str(Path(distill_bench.__file__).parent)

READS = (aten._local_scalar_dense, aten.equal)
"""What needs a value on the host: ``float(x)``, ``bool(x)``, ``x.item()``, ``torch.equal``."""
SIZED_BY_VALUES = (
    *(aten.nonzero, aten.masked_select, aten._unique2, aten.unique_dim, aten.unique_consecutive),
    *(aten.bincount, aten.repeat_interleave),
)
"""What needs values for the shape of its result."""
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
"""What takes indices from the CPU, and waits to count those that are true or false."""
COPIES = (aten._to_copy, aten.copy_)


class DeviceTensor(Tensor):
    """A tensor of the pretend accelerator; ``raw`` holds its values."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "DeviceTensor":
        made = Tensor._make_wrapper_subclass(
            cls, raw.shape, strides=raw.stride(), storage_offset=raw.storage_offset(), dtype=raw.dtype, device=DEVICE
        )
        made.raw = raw
        return made

    def __repr__(self, **_: Any) -> str:
        return f"{self.raw!r} on {DEVICE}"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{function} on {DEVICE} after its accelerator was left")


class PretendAccelerator(TorchDispatchMode):
    """The device, while entered.

    Attributes:
        waits: how often the host waited for a value or a shape, by operation and line of the package.
        uploads: how often it waited for data to be handed over (a copy from the CPU that is not ``non_blocking``).
        copies: how many other copies from the CPU there were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits, self.uploads, self.copies = Counter[str](), Counter[str](), 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is aten._efficientzerotensor.default:  # of forward mode, which neither is wrapped nor mixes
            function = aten.zeros.default
        tensors = _tensors((*args, *kwargs.values()))
        target = kwargs.get("device")
        onto = target is not None and torch.device(target).type == NAME
        ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        if not ours and not onto:
            return function(*args, **kwargs)
        packet = function.overloadpacket
        if packet in COPIES:
            return self._copy(packet, function, args, kwargs, ours, onto)
        self._check(function, packet, args, tensors, kwargs)
        if packet in READS or (packet in SIZED_BY_VALUES and "output_size" not in kwargs):
            self.waits[_place(packet)] += 1
        if target is not None:
            kwargs = kwargs | {"device": CPU}
        return _run(function, args, kwargs, ours, target is None or onto)

    def _copy(self, packet: Any, function: Any, args: Any, kwargs: Any, ours: Any, onto: bool) -> Any:
        """``.to(…)`` and ``copy_``, the only operations between devices."""
        target, source = (args[0], args[1]) if packet is aten.copy_ else (None, args[0])
        goes_on = isinstance(target, DeviceTensor) if packet is aten.copy_ else onto or "device" not in kwargs
        came_from = isinstance(source, DeviceTensor)
        if came_from and not goes_on:
            self.waits[_place(packet)] += 1
        elif goes_on and not came_from:
            patient = kwargs.get("non_blocking") or (packet is aten.copy_ and len(args) > 2 and args[2])
            self._hand_over(packet, bool(patient))
        if packet is aten.copy_:
            return _run(function, args, kwargs, ours, goes_on)
        result = function(_raw(source), **(kwargs | {"device": CPU}))
        # a copy in name only would share memory between the devices
        return DeviceTensor(result) if goes_on else result

    def _hand_over(self, packet: Any, patient: bool) -> None:
        if patient:
            self.copies += 1
        else:
            self.uploads[_place(packet)] += 1

    def _check(self, function: Any, packet: Any, args: Any, tensors: list[Tensor], kwargs: Any) -> None:
        """Raises RuntimeError for what CUDA refuses; notes what indices from the CPU, and masks, cost."""
        if torch.Tag.nondeterministic_seeded in function.tags:
            raise RuntimeError(f"{packet} draws on {DEVICE}: numbers are drawn on the CPU, and moved")
        if packet in INDEXED:
            indices = [index for index in args[1] if index is not None]
            if not isinstance(args[0], DeviceTensor):
                raise RuntimeError(f"indices on {DEVICE} for a tensor on the CPU")
            for index in indices:
                if index.dtype in (torch.bool, torch.uint8):
                    self.waits[_place(packet)] += 1
                if not isinstance(index, DeviceTensor):
                    self._hand_over(packet, patient=False)
            tensors = [args[0], *_tensors(args[2:])]
        numbers = torch.Tag.pointwise in function.tags or packet in (*INDEXED, aten.fill_)
        alien = [each for each in tensors if not isinstance(each, DeviceTensor) and (each.ndim or not numbers)]
        if alien:
            raise RuntimeError(f"{packet}: expected all tensors on {DEVICE}; {tuple(alien[0].shape)} is on the CPU")


def _run(function: Any, args: Any, kwargs: Any, ours: Sequence[DeviceTensor], wrapped: bool) -> Any:
    """The operation on what tensors hold; its results are tensors of the device, and those that it changed the same."""
    known = {id(tensor.raw): tensor for tensor in ours}

    def wrap(value: Any) -> Any:
        if isinstance(value, Tensor):
            return known[id(value)] if id(value) in known else DeviceTensor(value) if wrapped else value
        return type(value)(map(wrap, value)) if isinstance(value, (list, tuple)) else value

    return wrap(function(*_raw(args), **{name: _raw(value) for name, value in kwargs.items()}))


def _raw(value: Any) -> Any:
    if isinstance(value, DeviceTensor):
        return value.raw
    return type(value)(map(_raw, value)) if isinstance(value, (list, tuple)) else value


def _tensors(values: Any) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found


def _place(packet: Any) -> str:
    """The operation and the package's line that asked for it."""
    frame = sys._getframe()
    while frame.f_back and not frame.f_code.co_filename.startswith(HOUSE):
        frame = frame.f_back
    return f"{packet} at {frame.f_code.co_filename.removeprefix(HOUSE + '/')}:{frame.f_lineno}"


@cache
def _register() -> None:
    """Once a process: torch knows the device's name from then on, and that there is none of it."""
    there_is_none = {
        "is_available": lambda: False,
        "is_initialized": lambda: False,
        "device_count": lambda: 0,
        "current_device": lambda: 0,
        "_is_in_bad_fork": lambda: False,
        "manual_seed_all": lambda seed: None,
    }
    REGISTER(NAME, backend_module=SimpleNamespace(**there_is_none))


@contextmanager
def pretend_accelerator() -> Iterator[PretendAccelerator]:
    """The device ``gpu``, also by name for the package; skips where torch cannot name one."""
    if REGISTER is None:
        pytest.skip(f"torch {torch.__version__} registers no device from Python")
    _register()
    swapped, make = torch.__future__.get_swap_module_params_on_conversion(), torch.tensor

    def tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
        return make(data, **kwargs) if device is None else make(data, **kwargs).to(device)

    # torch begins a thread for each device it knows at the first backward pass of a process: this one may be too late
    alone = torch.autograd.set_multithreading_enabled(False)
    with pytest.MonkeyPatch.context() as patch, alone, PretendAccelerator() as accelerator:
        patch.setitem(device.COUNT, NAME, lambda: 1)
        # which makes its tensor where no mode sees it
        patch.setattr(torch, "tensor", tensor)
        # whose tensors a wrapper cannot be
        patch.setattr(torch, "inference_mode", torch.no_grad)
        torch.__future__.set_swap_module_params_on_conversion(True)
        try:
            yield accelerator
        finally:
            torch.__future__.set_swap_module_params_on_conversion(swapped)
