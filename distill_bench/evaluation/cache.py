"""Networks tested so far, kept in the store, so that an evaluation that was cut off goes on and more can join later."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from distill_bench.datasets import Dataset
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation.protocol import load_protocol
from distill_bench.networks import resolve_network
from distill_bench.runtime.files import read_json, write_atomically
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.locks import alone, take_free
from distill_bench.runtime.paths import home
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.training import compilation

EVALUATOR_VERSION = 1
"""Raised with every change of the evaluator that changes accuracies, so that scores found before are found again."""


def score_key(
    dataset: Dataset, protocol: str, distilled: DistilledSet | None, labels: str = "stored", network: str | None = None
) -> str:
    """The content address of a score: everything it depends on but the number of networks.

    Args:
        distilled: the set, or None for the line trained on the whole training split.
        labels: as for ``evaluate``.
        network: as for ``evaluate``.

    Raises:
        UsageError: an unknown protocol or network.
    """
    rules = load_protocol(protocol).for_dataset(dataset.name)
    about: dict[str, Any] = {
        "evaluator": EVALUATOR_VERSION,
        "protocol": protocol,
        "network": resolve_network(rules.network if network is None else network, dataset.train.shape),
        "source": [dataset.name, dataset.size, dataset.holdout],
        "flip_invariant": dataset.flip_invariant,
        "train": dataset.train.fingerprint,
        "test": dataset.test.fingerprint,
    }
    if distilled is None:
        about["pixel_space"] = pixel_space_of(dataset, "normalized").model_dump(mode="json")
        about["classes"] = len(dataset.class_names)
    else:
        about["set"] = distilled.sha256
        about["strict"] = labels == "hard" and distilled.has_strict_score
    return canonical_hash(about)


@runtime_checkable
class Kept(Protocol):
    """Where an evaluation finds networks that were tested before, and leaves those that it tests."""

    @property
    def tested(self) -> dict[int, float]:
        """Accuracies in percent by the networks' numbers."""

    def take(self, waiting: list[int]) -> int:
        """Take the number of the network to go on with from a list."""

    def obtain(self, index: int, test: Callable[[], float], monitor: Monitor) -> float:
        """The accuracy in percent of a network; ``test`` trains and tests it."""


class NothingKept:
    """Every network is tested, one after another."""

    @property
    def tested(self) -> dict[int, float]:
        return {}

    def take(self, waiting: list[int]) -> int:
        return waiting.pop(0)

    def obtain(self, index: int, test: Callable[[], float], monitor: Monitor) -> float:
        return test()


NOTHING_KEPT = NothingKept()


class KeptNetworks:
    """The networks of a score that were tested so far, by its address: a file each, and one that says how they run.

    Several processes may be at the same score: each tests networks that no other is at.

    Attributes:
        compiled: whether they run compiled; ``settle`` says how, before the first.
    """

    def __init__(self, key: str) -> None:
        self._folder = home() / "store" / "networks" / key
        self.compiled = False

    @property
    def tested(self) -> dict[int, float]:
        """Accuracies in percent by the networks' numbers, whatever number was asked for."""
        return {index: found["accuracy"] for index, found in self._found().items()}

    @property
    def seconds(self) -> float:
        """Time spent on all networks, in whatever process."""
        return sum(found["seconds"] for found in self._found().values())

    def settle(self, decide: Callable[[], bool]) -> compilation.Choice:
        """How the networks run: as was settled by the first process at this score, or as ``decide`` says.

        Raises:
            UsageError: that was compiled, and nothing can be compiled here now.
        """
        path = self._folder / "settled.json"
        with alone(path.with_suffix(".lock"), SILENT, "settles the same"):
            settled = read_json(path, "compiled")
            self.compiled = compilation.resume_mode(settled["compiled"]) if settled else decide()
            if settled is None:
                write_atomically(path, json.dumps({"compiled": self.compiled}))
        return "on" if self.compiled else "off"

    def take(self, waiting: list[int]) -> int:
        """The first network that no process is at, which leaves the list; where they are at all, the first."""
        return take_free(waiting, self._lock)

    def obtain(self, index: int, test: Callable[[], float], monitor: Monitor) -> float:
        """The accuracy of a network. Of several processes that ask for it, one tests it.

        Raises:
            Interrupted: the monitor was asked to stop while another process was at it.
        """
        with alone(self._lock(index), monitor, "tests the same network"):
            found = self._read(index)
            if found is None:
                began = time.monotonic()
                found = {"accuracy": test(), "seconds": time.monotonic() - began}
                write_atomically(self._path(index), json.dumps(found))
            return float(found["accuracy"])

    def forget(self) -> None:
        """Delete what is kept."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _found(self) -> dict[int, dict[str, Any]]:
        indices = sorted(int(path.stem) for path in self._folder.glob("[0-9]*.json"))
        found = {index: self._read(index) for index in indices}
        return {index: each for index, each in found.items() if each is not None}

    def _read(self, index: int) -> dict[str, Any] | None:
        found = read_json(self._path(index), "accuracy", "seconds") or {}
        numbers = all(isinstance(found.get(name), int | float) for name in ("accuracy", "seconds"))
        return found if numbers else None

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.json"

    def _lock(self, index: int) -> Path:
        return self._folder / f"{index}.lock"
