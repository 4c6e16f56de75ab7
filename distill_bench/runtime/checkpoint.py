"""Where unfinished work is kept: tensors and a few facts in one safetensors file, replaced as a whole."""

import glob
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill_bench.runtime.files import UNFINISHED, write_atomically
from distill_bench.runtime.log import log

EVERY_SECONDS = 30.0


@dataclass
class Checkpoint:
    """A file that holds the last saved state of a piece of work; ``path`` None keeps nothing.

    Attributes:
        every_seconds: the least time between two saves that are not forced.
        conditions: what bytes depend on besides the address, such as the device: saved along, and compared when work
            goes on.
        seconds: time spent on the work in earlier processes, as far as saved, plus this one's; a part's is that of the
            whole.
        whole: of what this is a part, see ``part``.
        compiled: whether the work runs compiled, set by work that decides it; None: there was nothing to decide.
    """

    path: Path | None = None
    every_seconds: float = EVERY_SECONDS
    conditions: dict[str, Any] = field(default_factory=dict)
    whole: "Checkpoint | None" = None
    compiled: bool | None = None
    _earlier: float = 0.0
    _began: float = field(default_factory=time.monotonic)
    _saved: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.whole.seconds if self.whole else self._earlier + time.monotonic() - self._began

    @property
    def due(self) -> bool:
        """Whether it is time to save."""
        return self.path is not None and time.monotonic() - self._saved >= self.every_seconds

    def part(self, name: str) -> "Checkpoint":
        """A checkpoint of its own for a part of the work, in a file beside this one; ``clear`` here removes it too."""
        path = self.path and self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}")
        return Checkpoint(path, self.every_seconds, self.conditions, self.whole or self)

    def independent(self, name: str) -> "Checkpoint":
        """As ``part``, with a clock of its own: what earlier processes spent on it is added by ``add_time_before``."""
        part = self.part(name)
        return Checkpoint(part.path, self.every_seconds, self.conditions)

    def add_time_before(self, part: "Checkpoint") -> None:
        """Count what earlier processes spent on an independent part."""
        self._earlier += part._earlier

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Replace the saved state."""
        if self.path is not None:
            metadata = {"facts": json.dumps(facts | {"seconds": self.seconds, "conditions": self.conditions})}
            write_atomically(self.path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata))
            self._saved = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The saved state, or None where there is none. A damaged file counts as none: the work starts again.

        A line in the log says that a file is damaged, or was saved under other conditions.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            clock, earlier = self.whole or self, facts.get("conditions", self.conditions)
            clock._earlier = max(clock._earlier, facts["seconds"])  # parts were saved one after another
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            log.warning("the checkpoint %s cannot be read (%s): the work starts again.", self.path, error)
            return None
        if earlier != self.conditions:
            now = [", ".join(f"{name} {value}" for name, value in each.items()) for each in (earlier, self.conditions)]
            log.warning("a checkpoint made with %s goes on with %s: the set may differ in its last digits.", *now)
        return tensors, facts

    @property
    def files(self) -> list[Path]:
        """Where there is a saved state: of the whole, and of its parts."""
        return self._files("")

    def clear(self) -> None:
        """Forget the saved state, that of the parts too, and what a killed process left of writing it."""
        locks = [] if self.path is None else self.path.parent.glob(f"{glob.escape(self.path.stem)}.*.lock")
        for path in [*self.files, *self._files(UNFINISHED), *locks]:
            path.unlink(missing_ok=True)

    def _files(self, ending: str) -> list[Path]:
        if self.path is None:
            return []
        parts = sorted(self.path.parent.glob(f"{glob.escape(self.path.stem)}.*{self.path.suffix}{ending}"))
        return [path for path in [self.path.with_name(self.path.name + ending), *parts] if path.exists()]
