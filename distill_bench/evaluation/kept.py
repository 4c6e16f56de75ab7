"""Networks tested so far, kept in the store, so that an evaluation that was cut off goes on and more can join later."""

import json
import time
from collections.abc import Callable
from typing import Any

from distill_bench import compiling
from distill_bench.distilled_set import DistilledSet
from distill_bench.evaluation.protocol import load_protocol
from distill_bench.networks import resolve_network
from distill_bench.pixel_space import pixel_space_of
from distill_bench.recipes import canonical_hash
from distill_bench.sources import Source
from distill_bench.storage import home, read_json, write_atomically

EVALUATOR_VERSION = 1
"""Raised with every change of the evaluator that changes accuracies, so that scores found before are found again."""


def score_key(
    source: Source, protocol: str, distilled: DistilledSet | None, labels: str = "stored", network: str | None = None
) -> str:
    """The content address of a score: everything it depends on but the number of networks.

    Args:
        distilled: the set, or None for the line trained on the whole training split.
        labels, network: as for ``evaluate``.

    Raises:
        UsageError: an unknown protocol or network.
    """
    rules = load_protocol(protocol).for_source(source.name)
    about: dict[str, Any] = {
        "evaluator": EVALUATOR_VERSION,
        "protocol": protocol,
        "network": resolve_network(network or rules.network, source.train.shape),
        "source": [source.name, source.size, source.holdout],
        "flip_invariant": source.flip_invariant,
        "train": source.train.fingerprint,
        "test": source.test.fingerprint,
    }
    if distilled is None:
        about["pixel_space"] = pixel_space_of(source, "normalized").model_dump(mode="json")
        about["classes"] = len(source.class_names)
    else:
        about["set"] = distilled.sha256
        about["strict"] = labels == "hard" and distilled.has_strict_score
    return canonical_hash(about)


class KeptNetworks:
    """The accuracies of a score's networks so far, by its address.

    Attributes:
        accuracies: in percent, of networks 0, 1, …, whatever number was asked for.
        compiled: whether they ran compiled; ``settle`` says how, before the first.
    """

    def __init__(self, key: str) -> None:
        self.path = home() / "store" / "scores" / f"{key}.networks.json"
        found = read_json(self.path, "accuracies", "seconds") or {"accuracies": [], "seconds": 0.0}
        self.accuracies: list[float] = found["accuracies"]
        self.compiled: bool = found.get("compiled", False)
        self._earlier: float = found["seconds"]
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent on all networks, in this process and earlier ones."""
        return self._earlier + time.monotonic() - self._began

    def settle(self, decide: Callable[[], bool]) -> compiling.Choice:
        """How the networks run: as those that are kept, or as ``decide`` says where there are none.

        Raises:
            UsageError: those that are kept ran compiled, and nothing can be compiled here now.
        """
        self.compiled = compiling.goes_on(self.compiled) if self.accuracies else decide()
        return "on" if self.compiled else "off"

    def keep(self, accuracies: list[float]) -> None:
        """Replace what is kept; for ``after_network`` of ``evaluate``."""
        content = {"accuracies": accuracies, "seconds": self.seconds, "compiled": self.compiled}
        write_atomically(self.path, json.dumps(content))

    def forget(self) -> None:
        """Delete what is kept."""
        self.path.unlink(missing_ok=True)
