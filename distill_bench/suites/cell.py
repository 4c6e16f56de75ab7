"""One cell: its set and its scores, each content-addressed in the store, and the result files made from them."""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from distill_bench.checkpoint import EVERY_SECONDS
from distill_bench.distilled_set import DistilledSet, load_distilled
from distill_bench.evaluation import evaluate, evaluate_full, load_protocol
from distill_bench.progress import Monitor
from distill_bench.provenance import peak_memory_mb, run_block
from distill_bench.recipes import PAPER, canonical_hash
from distill_bench.sources import Source, load_source
from distill_bench.storage import home, write_atomically
from distill_bench.suites.suite import FULL, Cell
from distill_bench.synthesizers import Checkpoint, check_ipc, load_method, synthesis_key, synthesize

FAILED = "failed"
HARD = "hard"


@dataclass(frozen=True)
class Setting:
    """What all cells of a run have in common.

    Attributes:
        suite: the name results are filed under.
        results: the folder of all results.
        networks: how many networks score a set; the protocol's number if None.
        checkpoint_seconds: the least time between checkpoints of unfinished sets.
    """

    suite: str
    results: Path
    device: str = "auto"
    networks: int | None = None
    checkpoint_seconds: float = EVERY_SECONDS


class CellWork:
    """A cell in a setting: where its parts are kept, how far it is, and how to do what is missing.

    Args:
        source: the cell's, where it is loaded already.

    Raises:
        UsageError, DataError: on construction, where the cell cannot be run at all.
    """

    def __init__(self, cell: Cell, setting: Setting, source: Source | None = None) -> None:
        self.cell, self.setting = cell, setting
        self.source = source or load_source(cell.dataset, size=cell.size, holdout=cell.holdout)
        self._store = home() / "store"
        self.preset = PAPER
        self.key = canonical_hash([FULL, self.source.train.fingerprint])
        if cell.ipc is not None:
            self.method = load_method(cell.method)
            self.preset = cell.preset if cell.preset in self.method.recipe.preset else PAPER
            check_ipc(self.source, cell.ipc)
            self.fields = self.method.fields(self.source.name, cell.ipc, self.preset)
            self.key = synthesis_key(self.source, self.method, self.fields, cell.ipc, cell.seed)

    @property
    def set_path(self) -> Path:
        return self._store / "sets" / f"{self.key}.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self._store / "checkpoints" / f"{self.key}.safetensors"

    def result_path(self, ending: str) -> Path:
        return self.setting.results / self.setting.suite / self.cell.result_name(ending)

    def state(self) -> str:
        """``done``, ``partial``, ``failed`` or ``missing``, read from disk."""
        made = self.cell.ipc is None or self.set_path.exists()
        if made and all(self._is_current(self.result_path(name), key) for name, key in self.score_keys().items()):
            return "done"
        if self.result_path(FAILED).exists():
            return "failed"
        begun = [self.set_path, self.checkpoint_path]
        if self.cell.ipc is None:
            begun = [self._networks_path(key) for key in self.score_keys().values()]
        return "partial" if any(path.exists() for path in begun) else "missing"

    def run(self, monitor: Monitor) -> list[Path]:
        """Do what is missing and return the result files.

        Raises:
            DistillBenchError: of the stage that failed; what was complete before is kept.
        """
        lock = self._store / "locks" / f"{self.key}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if self.cell.ipc is not None and not self.set_path.exists():
                self._synthesize(monitor)
            paths = [self._score(ending, key, monitor) for ending, key in self.score_keys().items()]
        self.result_path(FAILED).unlink(missing_ok=True)
        return paths

    def record_failure(self, message: str) -> None:
        """File why the cell failed."""
        content = {"kind": "failure", **self._identity(), "error": message, "run": run_block(0.0)}
        write_atomically(self.result_path(FAILED), _pretty(content))

    def score_keys(self) -> dict[str, str]:
        """For every score the cell has, its file ending and its content address. The set must exist."""
        about: dict[str, Any] = {"train": self.source.train.fingerprint, "test": self.source.test.fingerprint}
        strict = False
        if self.cell.ipc is not None:
            about["set"] = hashlib.sha256(self.set_path.read_bytes()).hexdigest()
            made = load_distilled(self.set_path)
            strict = made.soft_labels is not None or made.learning_rate is not None
        keys = {}
        for protocol in self.cell.protocols:
            for labels in ["stored", HARD] if strict else ["stored"]:
                ending = protocol if labels == "stored" else f"{protocol}.{HARD}"
                networks = self.setting.networks or load_protocol(protocol).networks
                keys[ending] = f"{canonical_hash(about | {'protocol': protocol, 'labels': labels})}-{networks}"
        return keys

    def _synthesize(self, monitor: Monitor) -> None:
        assert self.cell.ipc is not None
        checkpoint = Checkpoint(self.checkpoint_path, self.setting.checkpoint_seconds)
        history: list[float] = []
        made = synthesize(
            self.source,
            self.cell.method,
            self.cell.ipc,
            self.preset,
            self.cell.seed,
            device=self.setting.device,
            monitor=monitor,
            checkpoint=checkpoint,
            history=history,
        )
        facts = {"peak_memory_mb": peak_memory_mb(), "history": history, **run_block(checkpoint.seconds)}
        # the set last: where it exists, its facts do too
        write_atomically(self.set_path.with_suffix(".run.json"), json.dumps(facts))
        made.save(self.set_path)
        checkpoint.clear()

    def _score(self, ending: str, key: str, monitor: Monitor) -> Path:
        stored, result = self._store / "scores" / f"{key}.json", self.result_path(ending)
        if not stored.exists():
            write_atomically(stored, json.dumps(self._evaluate(ending, key, monitor)))
        elif self._is_current(result, key):
            return result
        content = {"kind": "score", **json.loads(stored.read_text()), **self._identity(), "score_key": key}
        if self.cell.ipc is not None:
            facts = json.loads(self.set_path.with_suffix(".run.json").read_text())
            content["recipe"] = self.fields.model_dump(mode="json")
            content["synthesis"] = {name: value for name, value in facts.items() if name != "history"}
        write_atomically(result, _pretty(content))
        return result

    def _evaluate(self, ending: str, key: str, monitor: Monitor) -> dict[str, Any]:
        protocol, partial = ending.removesuffix(f".{HARD}"), self._networks_path(key)
        earlier: dict[str, Any] = (
            json.loads(partial.read_text()) if partial.exists() else {"accuracies": [], "seconds": 0.0}
        )
        began = time.monotonic()

        def spent() -> float:
            return earlier["seconds"] + time.monotonic() - began

        def keep(accuracies: list[float]) -> None:
            write_atomically(partial, json.dumps({"accuracies": accuracies, "seconds": spent()}))

        options: dict[str, Any] = {
            "networks": self.setting.networks,
            "device": self.setting.device,
            "monitor": monitor,
            "completed": earlier["accuracies"],
            "after_network": keep,
        }
        if self.cell.ipc is None:
            score = evaluate_full(self.source, protocol, **options)
        else:
            made: DistilledSet = load_distilled(self.set_path)
            labels: Any = "hard" if ending.endswith(f".{HARD}") else "stored"
            score = evaluate(made, self.source, protocol, labels=labels, **options)
        return {**score.model_dump(mode="json"), "run": run_block(spent())}

    def _networks_path(self, key: str) -> Path:
        """Accuracies of the networks tested so far, whatever number a score asks for: more can join them later."""
        return self._store / "scores" / f"{key.rsplit('-', 1)[0]}.networks.json"

    def _is_current(self, result: Path, key: str) -> bool:
        """Whether a result file is the one with this address, and the store of this machine has it too."""
        if not result.exists() or not (self._store / "scores" / f"{key}.json").exists():
            return False
        return json.loads(result.read_text()).get("score_key") == key

    def _identity(self) -> dict[str, Any]:
        cell = self.cell
        return {
            "suite": self.setting.suite,
            "dataset": cell.data,
            "method": cell.method,
            "ipc": cell.ipc,
            "seed": cell.seed,
            "preset": self.preset,
        }


def _pretty(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
