"""Scores by their address: networks tested so far, so that an evaluation that was cut off goes on and more can join."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from distill_bench.datasets import Dataset
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.distilled.compensators import IMAGES as COMPENSATORS
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.replay import images_sum
from distill_bench.evaluation.protocol import load_protocol, outside_notes
from distill_bench.evaluation.result import FULL
from distill_bench.networks import resolve_network
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.locks import get_or_make
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.stored import read_json, write_json
from distill_bench.training import compilation

EVALUATOR_VERSION = 1
"""Raised with every change of the evaluator that changes accuracies, so that cached scores are computed again."""


def score_folder() -> Path:
    """Where commands and suites cache the networks of all scores."""
    return cache_dir() / "store" / "networks"


def score_key(
    dataset: Dataset,
    protocol: str,
    distilled: DistilledSet | None,
    labels: str = "stored",
    network: str | None = None,
    line: str = FULL,
) -> str:
    """The content address of a score: everything it depends on but the number of networks.

    Args:
        dataset: the networks are tested on.
        protocol: its id or address, see ``load_protocol``.
        distilled: the set, or None for a line without one.
        labels: as for ``evaluate``.
        network: as for ``evaluate``.
        line: which one, as for ``evaluate_full``.

    Returns:
        A hash in hexadecimal.

    Raises:
        UsageError: an unknown protocol or network.
    """
    about = _conditions(dataset, protocol, network)
    if distilled is None:
        about["pixel_space"] = pixel_space_of(dataset, "normalized").model_dump(mode="json")
        about["classes"] = len(dataset.class_names)
        if line != FULL:
            about["line"] = line
    else:
        about["set"] = distilled.sha256
        about["strict"] = labels == "hard" and distilled.has_strict_score
    return canonical_hash(about)


def networks_key(
    dataset: Dataset,
    protocol: str,
    distilled: DistilledSet | None,
    labels: str = "stored",
    network: str | None = None,
    line: str = FULL,
) -> str:
    """The content address of a score's networks, which all sets of the same images share where classes are trained on.

    Args:
        dataset, protocol, distilled, labels, network, line: as for ``score_key``.

    Returns:
        A hash in hexadecimal.

    Raises:
        UsageError: an unknown protocol or network.
    """
    if distilled is None or (labels != "hard" and distilled.card.trained_kind != "hard"):
        return score_key(dataset, protocol, distilled, labels, network, line)
    compensators = distilled.stored.get(COMPENSATORS)
    about = {
        "pixel_space": distilled.card.pixel_space.model_dump(mode="json"),
        "images": [images_sum(distilled.images), str(distilled.images.dtype)],
        "labels": images_sum(distilled.labels),
        "formation": distilled.card.formation,
        "compensators": None if compensators is None else images_sum(compensators),
        "stored": distilled.budget_count,
        "learning_rate": distilled.learning_rate if labels == "stored" else None,
    }
    return canonical_hash(_conditions(dataset, protocol, network) | about)


def _conditions(dataset: Dataset, protocol: str, network: str | None) -> dict[str, Any]:
    """What a score depends on besides what networks are trained on."""
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
    if outside := outside_notes(protocol, about["network"]):
        about["outside"] = outside
    return about


class ScoreCache:
    """Accuracies of the networks of one score that were tested, and whether they run compiled: a file each.

    Args:
        folder: of all scores; None: nothing is stored, or looked up.
        key: the address of its networks, see ``networks_key``.

    Attributes:
        networks: accuracy in percent and seconds of every network by its number: those stored before, whatever number
            was asked for, and those that ``get_or_run`` has given since.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.key, self._folder = key, None if folder is None else folder / key
        numbers = [] if self._folder is None else sorted(int(path.stem) for path in self._folder.glob("[0-9]*.json"))
        entries = {index: self._read(index) for index in numbers}
        self.networks = {index: entry for index, entry in entries.items() if entry is not None}

    def seconds_of(self, numbers: Iterable[int]) -> float:
        """Time spent on some of the networks, in whatever process, and for whichever set that shares them."""
        return sum(self.networks[number]["seconds"] for number in numbers)

    def fix_compile_mode(self, decide: Callable[[], bool], monitor: Monitor) -> bool:
        """Whether networks run compiled: as the first of them did, or as ``decide`` says. The two differ in last bits.

        Raises:
            UsageError: they did, and nothing can be compiled here now.
        """
        if self._folder is None:
            return decide()
        path = self._folder / "settled.json"

        def make() -> dict[str, Any]:
            mode = {"compiled": decide()}
            write_json(path, mode, bound=True)
            return mode

        def read() -> dict[str, Any] | None:
            return read_json(path, "compiled", bound=True)

        mode = get_or_make(path, read, make, monitor, "begins the same evaluation")
        return compilation.resume_mode(mode["compiled"])

    def get_or_run(self, index: int, test: Callable[[], float], monitor: Monitor) -> float:
        """The accuracy, in percent, of a network.

        Args:
            index: its number.
            test: trains and tests it, where no accuracy is stored.
            monitor: may ask to stop while another process tests it.

        Returns:
            Percent.

        Raises:
            Interrupted: it did.
        """

        def make() -> dict[str, float]:
            began = time.monotonic()
            entry = {"accuracy": test(), "seconds": time.monotonic() - began}
            if self._folder is not None:
                write_json(self._path(index), entry, bound=True)
            return entry

        if self._folder is None:
            entry = make()
        else:
            entry = get_or_make(self._path(index), lambda: self._read(index), make, monitor, "tests the same network")
        self.networks[index] = entry
        return float(entry["accuracy"])

    def _read(self, index: int) -> dict[str, float] | None:
        entry = read_json(self._path(index), "accuracy", "seconds", bound=True) or {}
        return entry if all(isinstance(entry.get(name), int | float) for name in ("accuracy", "seconds")) else None

    def _path(self, index: int) -> Path:
        assert self._folder is not None
        return self._folder / f"{index}.json"
