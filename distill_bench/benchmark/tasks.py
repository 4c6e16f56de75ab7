"""One cell: its set and its scores, each content-addressed in the store, and the result files made from them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_bench.benchmark.results import file_failure, file_result, is_filed, stored_result
from distill_bench.benchmark.suite import FULL, Cell
from distill_bench.datasets import Dataset, load_dataset
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DataError, Interrupted, UsageError
from distill_bench.evaluation import (
    Failure,
    KeptNetworks,
    Result,
    Synthesis,
    data_facts,
    evaluate,
    evaluate_full,
    load_protocol,
    protocol_note,
    runs_compiled,
    score_key,
)
from distill_bench.methods import (
    Checkpoint,
    help_make_set,
    load_method,
    make_set,
    parts_of_set,
    shortage,
    synthesis_key,
)
from distill_bench.methods.recipe import PAPER, Resources
from distill_bench.runtime.checkpoint import EVERY_SECONDS
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.files import read_json, write_atomically
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.locks import alone, is_held
from distill_bench.runtime.log import log
from distill_bench.runtime.names import checked_file_name
from distill_bench.runtime.paths import home
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.run_info import peak_memory_mb, run_block

FAILED = "failed"
IMPOSSIBLE = "impossible"
HARD = "hard"


@dataclass(frozen=True)
class Setting:
    """What all cells of a run have in common.

    Attributes:
        suite: the name results are filed under.
        results: the folder of all results.
        networks: how many networks score a set; the protocol's number if None.
        checkpoint_seconds: the least time between checkpoints of unfinished sets.
        compile: ``auto``, ``on`` or ``off``, for work that begins; what was begun goes on as it was.
    """

    suite: str
    results: Path
    device: str = "auto"
    networks: int | None = None
    checkpoint_seconds: float = EVERY_SECONDS
    compile: str = "auto"

    def __post_init__(self) -> None:
        """Raises UsageError where the suite's name would lead out of the folder of results."""
        try:
            checked_file_name(self.suite, "the suite's name")
        except ValueError as error:
            raise UsageError(f"{error}.") from error


class _Until:
    """A monitor that asks to stop as soon as a file exists."""

    def __init__(self, monitor: Monitor, path: Path) -> None:
        self._path, self.stage = path, monitor.stage
        self._monitor = monitor

    @property
    def stop_requested(self) -> bool:
        return self._monitor.stop_requested or self._path.exists()


class CellWork:
    """A cell in a setting: where its parts are kept, how far it is, and how to do what is missing.

    Args:
        dataset: the cell's, where it is loaded already.

    Attributes:
        cannot: why the cell cannot be run, such as that a class has too few images; None where it can.

    Raises:
        UsageError, DataError: on construction, where there is no such dataset, method or preset.
    """

    def __init__(self, cell: Cell, setting: Setting, dataset: Dataset | None = None) -> None:
        self.cell, self.setting = cell, setting
        self.dataset = dataset or load_dataset(
            cell.dataset,
            size=cell.size,
            holdout=cell.holdout,
            flip_invariant=cell.flip_invariant,
            classes=cell.classes,
        )
        self._store = home() / "store"
        self._asked: dict[str, str] | None = None
        self.preset = PAPER
        self.cannot: str | None = None
        if cell.ipc is None:
            self.key = canonical_hash([FULL, *(score_key(self.dataset, name, None) for name in cell.protocols)])
        else:
            self.method = load_method(cell.method)
            self.preset = cell.preset if cell.preset in self.method.recipe.preset else PAPER
            self.config = self.method.config_on(self.dataset, cell.ipc, self.preset)
            self.cannot = self._hindrance(cell.ipc)
            if self.cannot:
                self.key = canonical_hash([str(cell), self.cannot])
            else:
                self.key = synthesis_key(self.dataset, self.method, self.config, cell.ipc, self.preset, cell.seed)

    def _hindrance(self, ipc: int) -> str | None:
        if short := shortage(self.dataset, ipc):
            reason, most = short
            choose = f" Run the IPCs up to {most} alone, such as --only ipc=1, or add images."
            return reason + (choose if most else "")
        try:
            self.config.check(self.dataset)
        except UsageError as error:
            return str(error)
        return None

    @property
    def resources(self) -> Resources:
        """What the cell asks a cluster for."""
        return Resources() if self.cell.ipc is None else self.method.recipe.resources

    @property
    def images(self) -> int:
        """How many a network is trained on."""
        return len(self.dataset.train) if self.cell.ipc is None else self.cell.ipc * len(self.dataset.class_names)

    @property
    def set_path(self) -> Path:
        return self._store / "sets" / f"{self.key}.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        return self._store / "checkpoints" / f"{self.key}.safetensors"

    @property
    def lock(self) -> Path:
        """Held by the process that is at this cell."""
        return self._store / "locks" / f"{self.key}.lock"

    def result_path(self, ending: str) -> Path:
        return self.setting.results / self.setting.suite / self.cell.result_name(ending)

    def state(self) -> str:
        """``done``, ``partial``, ``failed`` or ``missing``, read from disk; or ``impossible``, see ``cannot``."""
        if self.cannot:
            return IMPOSSIBLE
        made = self._stored_set()
        keys = self._score_keys(made) if made or self.cell.ipc is None else {}
        if keys and all(self._is_current(ending, key) for ending, key in keys.items()):
            return "done"
        if (read_json(self.result_path(FAILED)) or {}).get("cell_key") == self.key:
            return "failed"
        begun = any(KeptNetworks(_address(key)).tested for key in keys.values())
        return "partial" if made or begun or Checkpoint(self.checkpoint_path).files else "missing"

    def run(self, monitor: Monitor, own_process: bool = False) -> list[Path]:
        """Do what is missing and return the result files.

        Args:
            own_process: whether this process does nothing else, so that its peak memory is the cell's.

        Raises:
            DistillBenchError: of the stage that failed; what was complete before is kept.
        """
        if self.cannot:
            raise UsageError(self.cannot)
        if is_held(self.lock):
            self._help_first(monitor)
        with alone(self.lock, monitor, "does the same cell"):
            self.result_path(FAILED).unlink(missing_ok=True)
            made = self._stored_set()
            if made is None and self.cell.ipc is not None:
                made = self._synthesize(monitor, own_process)
            Checkpoint(self.checkpoint_path).clear()
            return [self._score(made, ending, key, monitor) for ending, key in self._score_keys(made).items()]

    def _help_first(self, monitor: Monitor) -> None:
        """Help whoever is at the cell, before waiting for it. What fails here need not fail there."""
        try:
            self.help(monitor)
        except Interrupted:
            raise
        except Exception as error:
            log.warning("could not help with %s, which another process does: %s", self.cell, error)

    def help(self, monitor: Monitor) -> None:
        """Do parts that no process is at, of a cell that another one does and files.

        Raises:
            DistillBenchError: of the stage that failed; what was complete before is kept.
        """
        made = self._stored_set()
        if made is None and self.set_path.exists():
            return  # it cannot be read, and is made again
        if made is not None or self.cell.ipc is None:
            for ending, key in self._score_keys(made).items():
                if not self._score_path(key).exists():
                    self._evaluate(made, ending, key, monitor)
            return
        options: dict[str, Any] = {"device": self.setting.device, "monitor": _Until(monitor, self.set_path)}
        checkpoint = Checkpoint(self.checkpoint_path, self.setting.checkpoint_seconds)
        try:
            help_make_set(
                self.dataset, self.method, self.config, self.cell.ipc, self.cell.seed, checkpoint=checkpoint, **options
            )
        except Interrupted:
            if monitor.stop_requested:
                raise  # else the other has done without
        finally:
            if self.set_path.exists():
                checkpoint.clear()

    def open_parts(self) -> tuple[str, int]:
        """The stage that the cell is at, and how many parts of it can be done at a time; 0 where nothing is left."""
        if self.cell.ipc is not None and not self.set_path.exists():
            return "set", parts_of_set(self.dataset, self.method, self.config, self.cell.ipc)
        if self._asked is None:
            made = self._stored_set()
            if made is None and self.cell.ipc is not None:
                return "set", 1  # it cannot be read, and is made again
            self._asked = self._score_keys(made)
        for ending, key in self._asked.items():
            left = int(key.rsplit("-", 1)[1]) - len(KeptNetworks(_address(key)).tested)
            if left > 0 and not self._score_path(key).exists():
                return ending, left
        return "", 0

    def record_failure(self, message: str) -> None:
        """File why the cell failed."""
        file_failure(Failure(**self._identity(), error=message, run=run_block(0.0)), self.result_path(FAILED))

    def _stored_set(self) -> DistilledSet | None:
        """The cell's set from the store, or None where there is none; one that cannot be read will be made again."""
        if not self.set_path.exists():
            return None
        try:
            return load_distilled(self.set_path)
        except DataError as error:
            log.warning("%s It counts as missing.", error)
            return None

    def _score_keys(self, made: DistilledSet | None) -> dict[str, str]:
        """For every score the cell has, its file ending and its content address."""
        keys = {}
        for protocol in self.cell.protocols:
            for labels in ["stored", HARD] if made is not None and made.has_strict_score else ["stored"]:
                ending = protocol if labels == "stored" else f"{protocol}.{HARD}"
                networks = self.setting.networks or load_protocol(protocol).networks
                keys[ending] = f"{score_key(self.dataset, protocol, made, labels)}-{networks}"
        return keys

    def _synthesize(self, monitor: Monitor, own_process: bool) -> DistilledSet:
        assert self.cell.ipc is not None
        checkpoint = Checkpoint(self.checkpoint_path, self.setting.checkpoint_seconds)
        history: list[float] = []
        made = make_set(
            self.dataset,
            self.method,
            self.config,
            self.cell.ipc,
            self.preset,
            self.cell.seed,
            device=self.setting.device,
            monitor=monitor,
            checkpoint=checkpoint,
            history=history,
        )
        run = run_block(checkpoint.seconds, resolve_device(self.setting.device)) | {"compiled": checkpoint.compiled}
        facts = {"peak_memory_mb": peak_memory_mb() if own_process else None, "history": history, **run}
        # the set last: where it exists, its facts do too
        write_atomically(self.set_path.with_suffix(".run.json"), json.dumps(facts))
        made.save(self.set_path)
        return made

    def _score(self, made: DistilledSet | None, ending: str, key: str, monitor: Monitor) -> Path:
        stored, result = self._score_path(key), self.result_path(ending)
        if self._is_current(ending, key):
            return result
        found = stored_result(stored)
        if found is None:
            found = self._evaluate(made, ending, key, monitor)
            write_atomically(stored, json.dumps(found.model_dump(mode="json"), sort_keys=True))
        facts: dict[str, Any] = {"strict": ending.endswith(f".{HARD}"), "score_key": key}
        if self.cell.ipc is not None:
            facts["recipe"] = self.config.model_dump(mode="json")
            made_with = read_json(self.set_path.with_suffix(".run.json")) or {}
            facts["synthesis"] = Synthesis(**{name: value for name, value in made_with.items() if name != "history"})
        filed = found.model_copy(update=self._identity() | facts)
        return file_result(filed, self.setting.results, self.cell.result_name(ending))

    def _evaluate(self, made: DistilledSet | None, ending: str, key: str, monitor: Monitor) -> Result:
        protocol, kept = ending.removesuffix(f".{HARD}"), KeptNetworks(_address(key))
        options: dict[str, Any] = {
            "networks": self.setting.networks,
            "device": self.setting.device,
            "compile": kept.settle(lambda: self.runs_compiled(protocol)),
            "monitor": monitor,
            "kept": kept,
        }
        if made is None:
            score = evaluate_full(self.dataset, protocol, **options)
        else:
            labels: Any = "hard" if ending.endswith(f".{HARD}") else "stored"
            score = evaluate(made, self.dataset, protocol, labels=labels, **options)
            expected = protocol_note(made, protocol)  # a suite has protocols of its own, which head its tables
            score = score.model_copy(update={"notes": tuple(note for note in score.notes if note not in expected)})
        run = run_block(kept.seconds, resolve_device(self.setting.device)) | {"compiled": kept.compiled}
        return score.model_copy(update={"run": run})

    def runs_compiled(self, protocol: str) -> bool:
        """Whether networks of a protocol are compiled, where none has been trained yet."""
        setting = self.setting
        return runs_compiled(self.dataset, protocol, self.images, device=setting.device, compile=setting.compile)

    def _score_path(self, key: str) -> Path:
        return self._store / "scores" / f"{key}.json"

    def _is_current(self, ending: str, key: str) -> bool:
        """Whether the result with this address is filed, and the store of this machine has it too."""
        setting, name = self.setting, self.cell.result_name(ending)
        return self._score_path(key).exists() and is_filed(key, setting.results, setting.suite, name)

    def _identity(self) -> dict[str, Any]:
        cell = self.cell
        return {
            "suite": self.setting.suite,
            **data_facts(self.dataset),
            "method": cell.method,
            "ipc": cell.ipc,
            "seed": cell.seed,
            "preset": self.preset,
            "cell_key": self.key,
        }


def _address(key: str) -> str:
    """A score's address without the number of networks it asks for: more can join those tested."""
    return key.rsplit("-", 1)[0]
