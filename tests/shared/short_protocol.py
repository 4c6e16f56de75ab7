"""Protocols that take a moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill_bench.evaluation import PROTOCOLS

SHORT = 'id = "short"\nsource = "test"\nepochs = 1\nnetworks = 1\nnetwork = "ConvNetD1W4"\n'


def short_protocol(folder: Path) -> str:
    """Write one into a folder, for other processes too, and say how a suite names it from there."""
    (folder / "short.toml").write_text(SHORT)
    return "short.toml"


@contextmanager
def short_quick_v1(home: Path, epochs: int) -> Iterator[None]:
    """``quick-v1`` with so many epochs. Scores are kept by its name, so they are kept in a home of their own."""
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": epochs, "networks": 2, "network": "ConvNetD1W4"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_BENCH_HOME", str(home))
        patch.setitem(PROTOCOLS, "quick-v1", short)
        yield
