"""Sets by their content address, in the store that ``synthesize`` and suites share: made once, found by both."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DataError
from distill_bench.methods.address import synthesis_key
from distill_bench.methods.iterates import Iterates
from distill_bench.methods.registry import Method
from distill_bench.methods.run import Config, Run
from distill_bench.methods.synthesis import make_set, new_run
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.run_info import peak_memory_mb, run_block
from distill_bench.runtime.stored import FILE_SUM, beside, is_intact, read_json, write_with_sum
from distill_bench.runtime.tracking import Log, silent

_DECIDE_DIGITS = ("device", "threads", "torch", "cpu", "instructions", "git_commit", "dirty")
"""What of a recorded run decides a set's last digits besides its address, or may decide more: code that was changed."""


def path_of(key: str) -> Path:
    """Where a set lies, or will lie, by its content address."""
    return cache_dir() / "store" / "sets" / f"{key}.safetensors"


def iterates_of(key: str) -> dict[int, Path]:
    """Files of a set as it was while it was made, as far as they were kept, by the number of steps."""
    return dict(sorted((int(path.stem), path) for path in _iterates_folder(key).glob("*.safetensors")))


def _iterates_folder(key: str) -> Path:
    return cache_dir() / "store" / "iterates" / key


@dataclass(frozen=True)
class StoredSet:
    """A set that is asked for, and its place in the store.

    Attributes:
        data, method, config, budget, preset, seed: as for ``make_set``.
        key: its content address.
    """

    data: Dataset
    method: Method
    config: Config
    budget: Budget
    preset: str
    seed: int
    key: str

    @classmethod
    def of(cls, data: Dataset, method: Method, config: Config, budget: Budget, preset: str, seed: int) -> "StoredSet":
        """The set of these arguments, which are those of ``make_set``. Errors as ``synthesis_key``."""
        key = synthesis_key(data, method, config, budget, preset, seed)
        return cls(data, method, config, budget, preset, seed, key)

    @property
    def path(self) -> Path:
        return path_of(self.key)

    @property
    def checkpoint_path(self) -> Path:
        return cache_dir() / "store" / "checkpoints" / f"{self.key}.safetensors"

    @property
    def lock(self) -> Path:
        """Held by the process that makes it, or is at the cell of a suite that it belongs to."""
        return cache_dir() / "store" / "locks" / f"{self.key}.lock"

    @property
    def iterates(self) -> dict[int, Path]:
        """See ``iterates_of``."""
        return iterates_of(self.key)

    def checkpoint(self, every_seconds: float = EVERY_SECONDS) -> Checkpoint:
        """The unfinished set, as far as it was saved."""
        return Checkpoint(self.checkpoint_path, every_seconds, of=self.key)

    def read(self) -> DistilledSet | None:
        """The set; one that cannot be read counts as missing, and will be made again."""
        if not is_intact(self.path):
            return None
        try:
            return load_distilled(self.path)
        except DataError as error:
            log.warning("%s It counts as missing.", error)
            return None

    def history(self) -> dict[str, Any]:
        """How the stored set was made: the loss of every step, seconds, memory, versions and machine, see ``make``."""
        facts = read_json(beside(self.path)) or {}
        return {name: value for name, value in facts.items() if name != FILE_SUM}

    def unlike(self, device: str) -> list[str]:
        """What decides last digits and was otherwise where the stored set was made, in words; none if that is here.

        Args:
            device: as for ``resolve_device``, of this process.

        Returns:
            Such as ``"threads 1, here 2"``.
        """
        made, here = self.history(), run_block(0.0, resolve_device(device))
        return [
            f"{name} {made[name]}, here {here[name]}"
            for name in _DECIDE_DIGITS
            if name in made and made[name] != here.get(name)
        ]

    def run(self, device: str, monitor: Monitor, every_seconds: float = EVERY_SECONDS) -> Run[Any]:
        """What the method's function is handed. Arguments as ``make``, errors as ``make_set``."""
        how: dict[str, Any] = {"device": device, "monitor": monitor, "checkpoint": self.checkpoint(every_seconds)}
        return new_run(self.data, self.method, self.config, self.budget, self.seed, **how)

    def obtain(self, fresh: bool = False, monitor: Monitor = SILENT, **how: Any) -> tuple[DistilledSet, bool]:
        """The stored set, or else the one that is made and stored now. Of several processes one makes it.

        Args:
            fresh: make it although the store has it, and store that one.
            monitor: as for ``make``.
            how: further arguments of ``make``.

        Returns:
            The set, and whether it was made now.

        Raises:
            DistillBenchError: as ``make``.
        """
        with file_lock(self.lock, monitor, "makes the same set"):
            found = None if fresh else self.read()
            if found is None:
                return self.make(monitor=monitor, **how), True
            self.checkpoint().clear()
            return found, False

    def make(
        self,
        device: str = "auto",
        monitor: Monitor = SILENT,
        every_seconds: float = EVERY_SECONDS,
        own_process: bool = False,
        log: Log = silent,
        iterates: int = 0,
    ) -> DistilledSet:
        """Make the set and store it, going on from its checkpoint. Hold ``lock``.

        Args:
            device, monitor: as for ``make_set``.
            every_seconds: the least time between two checkpoints.
            own_process: whether this process does nothing else, so that its peak memory is the set's.
            log: is told every step.
            iterates: into how many equal parts the steps are divided, after which the set is stored among ``iterates``;
                after none if 0.

        Returns:
            The set.

        Raises:
            DistillBenchError: as ``make_set``; or DataError, where it cannot be stored.
        """
        checkpoint, history, pretrained = self.checkpoint(every_seconds), list[float](), dict[Path, float | None]()
        how: dict[str, Any] = {"device": device, "monitor": monitor, "checkpoint": checkpoint, "history": history}
        how |= {"log": log, "iterates": Iterates(iterates, self._keep) if iterates else None}
        how |= {"pretrained_seconds": pretrained}
        if not checkpoint.files:
            shutil.rmtree(_iterates_folder(self.key), ignore_errors=True)  # of a run before
        distilled = make_set(self.data, self.method, self.config, self.budget, self.preset, self.seed, **how)
        run = run_block(checkpoint.seconds, resolve_device(device)) | {"compiled": checkpoint.compiled}
        facts = {"peak_memory_mb": peak_memory_mb() if own_process else None, "history": history, **run}
        facts |= {"pretraining_seconds": _total(pretrained.values())}
        write_with_sum(self.path, distilled.to_bytes(), facts)
        checkpoint.clear()
        return distilled

    def _keep(self, steps: int, iterate: DistilledSet) -> None:
        write_with_sum(_iterates_folder(self.key) / f"{steps}.safetensors", iterate.to_bytes(), {})


def _total(seconds: Collection[float | None]) -> float | None:
    """The sum; None where one of them is not known."""
    known = [each for each in seconds if each is not None]
    return round(sum(known), 3) if len(known) == len(seconds) else None
