"""Where the random numbers of a library's networks come from: never torch's global generator.

A mode of torch's dispatcher sees every operation that is run inside it. Those that draw random numbers carry a tag.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill_bench.errors import UsageError

_EMPTY = {"aten::empty", "aten::empty_like", "aten::new_empty", "aten::empty_strided", "aten::new_empty_strided"}


class DrawnFrom(TorchDispatchMode):
    """Inside it, what is drawn comes from a generator, and memory that nothing was written to holds NaN.

    Numbers are those that torch's global generator would give if it were in the generator's state.

    Args:
        generator: a CPU generator; None forbids to draw.

    Raises:
        UsageError: an operation draws, and cannot be given a generator.
    """

    def __init__(self, generator: torch.Generator | None) -> None:
        super().__init__()
        self._generator = generator

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded in func.tags and not _drops_nothing(func, args, given):
            return self._drawing(func)(*args, **given | {"generator": self._generator})
        made = func(*args, **given)
        if func._schema.name in _EMPTY and made.is_floating_point():
            made.fill_(math.nan)
        return made

    def _drawing(self, operation: Any) -> Callable[..., Any]:
        """The operation, or the one of its name that takes a generator."""
        packet = operation.overloadpacket
        overloads = [operation, *(getattr(packet, name) for name in packet.overloads())]
        takes = [each for each in overloads if any(value.name == "generator" for value in each._schema.arguments)]
        fitting = [each for each in takes if each is operation or each._overloadname == "generator"]
        if self._generator is None or not fitting:
            raise UsageError(f"it draws random numbers ({operation}), which no generator of ours can give")
        return fitting[0]  # type: ignore[no-any-return]


def _drops_nothing(operation: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether it is an attention whose probability of dropping a weight is 0, which draws nothing."""
    names = [argument.name for argument in operation._schema.arguments]
    if "dropout_p" not in names:
        return False
    return dict(zip(names, args, strict=False)).get("dropout_p", kwargs.get("dropout_p", 0.0)) == 0
