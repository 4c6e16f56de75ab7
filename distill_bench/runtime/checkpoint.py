"""Where unfinished work is kept: one nested dictionary, written by ``torch.save`` and replaced as a whole."""

import glob
import io
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distill_bench.errors import UsageError, first_line
from distill_bench.runtime.files import UNFINISHED
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import Monitor, stopped
from distill_bench.runtime.stored import read_bytes, write_bytes

EVERY_SECONDS = 30.0
_PART = ".part-"
"""In names of files that belong to another's, and to nobody else who keeps files beside it."""


@dataclass
class Checkpoint:
    """A file that holds the last saved state of a piece of work; ``path`` None keeps nothing.

    Attributes:
        every_seconds: the least time between two saves that are not forced.
        of: the address of what is made: saved along, so that nothing else goes on from it; empty: it is not known.
        conditions: what bytes depend on besides the address, such as the device: saved along, and compared when work
            goes on.
        seconds: time spent on the work in earlier processes, as far as saved, plus this one's; a part's is that of the
            whole.
        whole: of what this is a part, see ``part``.
        beside: of what this is an independent part, see ``independent``.
        compiled: whether the work runs compiled, set by work that decides it; None: there was nothing to decide.
    """

    path: Path | None = None
    every_seconds: float = EVERY_SECONDS
    of: str = ""
    conditions: dict[str, Any] = field(default_factory=dict)
    whole: "Checkpoint | None" = None
    beside: "Checkpoint | None" = None
    compiled: bool | None = None
    _earlier: float = 0.0
    _began: float = field(default_factory=lambda: time.monotonic())
    _saved: float = field(default_factory=lambda: time.monotonic())

    def __post_init__(self) -> None:
        self.path = None if self.path is None else Path(self.path)

    @property
    def seconds(self) -> float:
        return self.whole.seconds if self.whole else self._earlier + time.monotonic() - self._began

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.path is not None and time.monotonic() - self._saved >= self.every_seconds

    def part(self, name: str) -> "Checkpoint":
        """A checkpoint of its own for a part of the work, in a file beside this one; ``clear`` here removes it too."""
        path = self.path and self.path.with_name(f"{self.path.stem}{_PART}{name}{self.path.suffix}")
        return Checkpoint(path, self.every_seconds, self.of, self.conditions, self.whole or self)

    def independent(self, name: str) -> "Checkpoint":
        """As ``part``, with a clock of its own: what earlier processes spent on it is added by ``add_time_before``."""
        part = self.part(name)
        return Checkpoint(part.path, self.every_seconds, self.of, self.conditions, beside=self)

    def add_time_before(self, part: "Checkpoint") -> None:
        """Count what earlier processes spent on an independent part."""
        self._earlier += part._earlier

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock, and that of the whole: what happens within is not this work's, but other work's too."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._leave_out(time.monotonic() - began)

    def _leave_out(self, seconds: float) -> None:
        if (other := self.whole or self.beside) is not None:
            other._leave_out(seconds)
        if self.whole is None:
            self._began += seconds

    def save(self, state: dict[str, Any]) -> None:
        """Replace the saved state: dictionaries and lists of tensors, numbers and strings."""
        if self.path is not None:
            beside = {"of": self.of, "seconds": self.seconds, "conditions": self.conditions}
            content = io.BytesIO()
            torch.save(_on_cpu({"state": state, **beside}), content)
            write_bytes(self.path, content.getbuffer())
            self._saved = time.monotonic()

    def save_if_due(self, monitor: Monitor, state: Callable[[], dict[str, Any]], done: str) -> bool:
        """Save where it is time or the monitor asks to stop, and then stop.

        Args:
            monitor: may ask to stop.
            state: what to save.
            done: how far the work came, for the request's answer.

        Returns:
            Whether it was saved.

        Raises:
            Interrupted: the monitor asked to stop; the state was saved.
        """
        stopping = monitor.stop_requested
        saving = stopping or self.due
        if saving:
            self.save(state())
        if stopping:
            raise stopped(done)
        return saving

    def load(self) -> dict[str, Any] | None:
        """The saved state, on the CPU, or None if there is none. A damaged file counts as none: the work restarts.

        No code in a file is run. A line in the log says that a file is damaged, or was saved under other conditions.

        Raises:
            UsageError: it is the state of something else.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            content = io.BytesIO(read_bytes(self.path))
            saved = torch.load(content, map_location="cpu", weights_only=True)
            state, seconds, earlier = dict(saved["state"]), float(saved["seconds"]), dict(saved["conditions"])
            of = str(saved.get("of", ""))
        except pickle.UnpicklingError:  # torch's text advises to run the code in it
            log.warning("the checkpoint %s cannot be read (it holds other objects): the work starts again.", self.path)
            return None
        except Exception as error:  # damaged files raise errors of many types
            log.warning("the checkpoint %s cannot be read (%s): the work starts again.", self.path, first_line(error))
            return None
        if of and self.of and of != self.of:
            raise UsageError(
                f"the checkpoint {self.path} is of something else: of other data, another method, other values, "
                "another seed or another version. Give another path, or remove it (`checkpoint.clear()`)."
            )
        clock = self.whole or self
        clock._earlier = max(clock._earlier, seconds)  # parts were saved one after another
        if earlier != self.conditions:
            other = {name for name in earlier | self.conditions if earlier.get(name) != self.conditions.get(name)}
            both = [
                ", ".join(f"{name} {each.get(name, 'unknown')}" for name in sorted(other))
                for each in (earlier, self.conditions)
            ]
            log.warning("a checkpoint made with %s goes on with %s: the set may differ in its last digits.", *both)
        return state

    @property
    def files(self) -> list[Path]:
        """Where there is a saved state: of the whole, and of its parts."""
        return self._files("")

    def clear(self) -> None:
        """Forget the saved state, that of the parts too, and what a killed process left of writing it."""
        locks = [] if self.path is None else self.path.parent.glob(f"{glob.escape(self.path.stem)}{_PART}*.lock")
        for path in [*self.files, *self._files(UNFINISHED), *locks]:
            path.unlink(missing_ok=True)

    def _files(self, ending: str) -> list[Path]:
        if self.path is None:
            return []
        parts = sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}{_PART}*{self.path.suffix}{ending}"))
        return [path for path in [self.path.with_name(self.path.name + ending), *parts] if path.exists()]


def _on_cpu(value: Any) -> Any:
    """The same dictionaries and lists with plain tensors on the CPU; of views, only what they show."""
    if isinstance(value, Tensor):
        tensor = value.detach().cpu()
        return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor
    if isinstance(value, dict):
        return {name: _on_cpu(item) for name, item in value.items()}
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value
