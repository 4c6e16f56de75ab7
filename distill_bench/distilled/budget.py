"""How many images a set has: so many of every class (IPC), or a fraction of the training split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from distill_bench.errors import UsageError, whole_number


@dataclass(frozen=True)
class Budget:
    """What is asked for: one of the two.

    Attributes:
        ipc: images of every class.
        fraction: of the training split, above 0 and at most 1.

    Raises:
        UsageError: both are given or neither, or one is out of its range.
    """

    ipc: int | None = None
    fraction: float | None = None

    def __post_init__(self) -> None:
        if (self.ipc is None) == (self.fraction is None):
            raise UsageError("give `ipc`, images of every class, or `fraction`, of the training split: one of the two.")
        if self.ipc is not None:
            object.__setattr__(self, "ipc", whole_number(self.ipc, "ipc"))  # numpy's are none on cards
        if self.ipc is not None and self.ipc < 1:
            raise UsageError(f"`ipc={self.ipc}`: at least one image per class is needed.")
        number = isinstance(self.fraction, int | float) and not isinstance(self.fraction, bool)
        if self.fraction is not None and not (number and 0 < self.fraction <= 1):
            raise UsageError(
                f"`fraction={self.fraction!r}`: give a fraction of the training split above 0 and at most 1, such as "
                "0.1 for a tenth."
            )
        if self.fraction is not None:
            object.__setattr__(self, "fraction", float(self.fraction))

    def __str__(self) -> str:
        return f"ipc {self.ipc}" if self.fraction is None else shown(None, self.fraction)

    @property
    def slug(self) -> str:
        """As part of a file's name: ``ipc10``, ``fraction0.1``."""
        return f"ipc{self.ipc}" if self.fraction is None else f"fraction{self.fraction!r}"

    @property
    def option(self) -> list[str]:
        """The option of a command that asks for it."""
        return ["--ipc", str(self.ipc)] if self.fraction is None else ["--fraction", repr(self.fraction)]

    def counts(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """How many images of every class a balanced set has.

        Of a fraction f a class of n images gives ⌊f n + 1/2⌋, and at least one.

        Args:
            sizes: the training images of every class.

        Returns:
            A count for each class.
        """
        if self.fraction is None:
            assert self.ipc is not None
            return (self.ipc,) * len(sizes)
        return tuple(max(1, rounded(self.fraction, size)) for size in sizes)

    def total(self, sizes: Sequence[int]) -> int:
        """How many images a set has whose classes need not be balanced: ⌊f n + 1/2⌋ of n, or IPC × classes.

        Args:
            sizes: the training images of every class.

        Returns:
            The number of images.
        """
        return sum(self.counts(sizes)) if self.fraction is None else rounded(self.fraction, sum(sizes))


def rounded(fraction: float, size: int) -> int:
    """⌊fraction × size + 1/2⌋.

    >>> rounded(0.1, 145), rounded(0.1, 144)
    (15, 14)
    """
    return math.floor(fraction * size + 0.5)


def shown(ipc: int | None, fraction: float | None) -> str:
    """A budget as boards show it; empty for the whole split, which has none.

    >>> shown(10, None), shown(None, 0.1), shown(None, 0.025)
    ('10', '10 %', '2.5 %')
    """
    return f"{100 * fraction:.12g} %" if fraction is not None else "" if ipc is None else str(ipc)
