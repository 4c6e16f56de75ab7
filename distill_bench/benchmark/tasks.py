"""The tasks of one cell: what it needs pretrained, parts of its set, the set, networks, results.

Each has an address in the store, is made where it is missing, and only once. ``CellTasks.run`` goes through all of a
cell in order. ``open_tasks`` names those that do not depend on each other, for processes without a cell of their own.
"""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from distill_bench.benchmark.cells import Cell, GivenSetCell, ReferenceCell, SetCell
from distill_bench.benchmark.hindrance import hindrance
from distill_bench.benchmark.results import FAILED, file_failure, file_result, is_filed, stored_result
from distill_bench.datasets import Dataset, load_dataset
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset, load_distilled
from distill_bench.errors import DistillBenchError, UsageError
from distill_bench.evaluation import (
    Failure,
    Result,
    ScoreCache,
    Synthesis,
    data_facts,
    evaluate,
    evaluate_full,
    load_protocol,
    networks_key,
    protocol_note,
    score_folder,
    score_key,
)
from distill_bench.evaluation.result import FULL
from distill_bench.evaluation.result_file import to_json
from distill_bench.methods.recipe import PAPER, Resources
from distill_bench.methods.run import Run, parts_of, pretrained_of
from distill_bench.methods.stored_sets import StoredSet
from distill_bench.runtime.checkpoint import EVERY_SECONDS
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.names import checked_file_name
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.run_info import run_block
from distill_bench.runtime.stored import read_json, write_json
from distill_bench.training.timing import Training

HARD = ".hard"


@dataclass(frozen=True)
class BenchConfig:
    """What all cells of a run have in common.

    Attributes:
        suite: the name results are filed under.
        results: the folder of all results.
        device: as for ``evaluate``.
        networks: how many networks score a set; the protocol's number if None.
        checkpoint_seconds: the least time between checkpoints of unfinished sets.
        compile: ``auto``, ``on`` or ``off``, for work that begins; what was begun goes on as it was.
        iterates: as for ``StoredSet.make``.
    """

    suite: str
    results: Path
    device: str = "auto"
    networks: int | None = None
    checkpoint_seconds: float = EVERY_SECONDS
    compile: str = "auto"
    iterates: int = 0

    def __post_init__(self) -> None:
        """Raises UsageError if the suite's name would lead out of the folder of results."""
        try:
            checked_file_name(self.suite, "the suite's name")
        except ValueError as error:
            raise UsageError(f"{error}.") from error


class Task(NamedTuple):
    """A task that depends on no other of its kind.

    Attributes:
        kind: ``pretrain`` (a teacher, an expert), ``part`` (a recovered batch) or ``network``.
        number: which of its kind.
        of: of a network, the file ending of the score.
    """

    kind: Literal["pretrain", "part", "network"]
    number: int
    of: str = ""


C = TypeVar("C", SetCell, ReferenceCell, GivenSetCell)


class CellTasks(ABC, Generic[C]):
    """A cell in a setting: what of it is in the store, and how to make what is missing.

    Args:
        cell: the cell.
        setting: what it has in common with others.
        dataset: the cell's, where it is loaded already.

    Attributes:
        key: the content address of the cell's set, or what stands for it.
        preset: of the recipe.
        cannot: why the cell cannot be run, such as that a class has too few images; None if it can.
        images: how many the cell's set has; None of the whole training split.
        resources: what the cell asks a cluster for.
    """

    key: str
    preset: str = PAPER
    cannot: str | None = None
    images: int | None = None
    resources = Resources()

    def __init__(self, cell: C, setting: BenchConfig, dataset: Dataset | None = None) -> None:
        self.cell: C = cell
        self.setting = setting
        self.dataset = dataset or load_dataset(cell.dataset, **cell.options)
        self._keys: dict[str, str] | None = None
        self._networks_keys: dict[str, str] = {}

    @property
    def lock(self) -> Path:
        """Held by the process that is at this cell."""
        return cache_dir() / "store" / "locks" / f"{self.key}.lock"

    @abstractmethod
    def stored_set(self) -> DistilledSet | None:
        """The set that is scored; None if it is not in the store, or where the whole split is scored."""

    def obtain_set(self, monitor: Monitor, own_process: bool) -> DistilledSet | None:
        """The set that is scored, made and stored now where it is missing. Arguments and errors as ``run``."""
        return self.stored_set()

    @property
    def lacks_set(self) -> bool:
        """Whether a set has to be made before anything can be scored."""
        return False

    @property
    def begun(self) -> bool:
        """Whether a set is there, or a part of one."""
        return False

    def needs(self) -> set[Path]:
        """Files of pretrained networks that the set needs and the store lacks."""
        return set()

    def pretraining(self) -> dict[Path, Training | None]:
        """What trains each of the networks that ``needs`` names; None where that is not known."""
        return {}

    def result_facts(self) -> dict[str, Any]:
        """Fields of the cell's results that not every kind of cell has."""
        return {}

    def result_path(self, ending: str) -> Path:
        """Where the result with this ending is filed: a protocol, with ``.hard`` if strict; or ``failed``."""
        return self.setting.results / self.setting.suite / self.cell.result_name(ending)

    def state(self) -> str:
        """``done``, ``partial``, ``failed`` or ``missing``, read from disk; or ``impossible``, see ``cannot``."""
        if self.cannot:
            return "impossible"
        distilled = self.stored_set()
        keys = {} if distilled is None and self.lacks_set else self._score_keys(distilled)
        if keys and all(self._is_filed(ending, key) for ending, key in keys.items()):
            return "done"
        if (read_json(self.result_path(FAILED)) or {}).get("cell_key") == self.key:
            return "failed"
        return "partial" if self.begun or any(self._tested(key) for key in keys.values()) else "missing"

    def run(self, monitor: Monitor, own_process: bool = False) -> list[Path]:
        """Do all tasks that are missing, in order.

        Args:
            monitor: hears of progress and may ask to stop.
            own_process: whether this process does nothing else, so that its peak memory is the set's.

        Returns:
            The result files.

        Raises:
            DistillBenchError: of the task that failed; what was complete before is stored.
        """
        if self.cannot:
            raise UsageError(self.cannot)
        with file_lock(self.lock, monitor, "does the same cell"):
            self.result_path(FAILED).unlink(missing_ok=True)
            distilled = self.obtain_set(monitor, own_process)
            return [self._result(distilled, *each, monitor) for each in self._score_keys(distilled).items()]

    def open_tasks(self) -> list[Task]:
        """Tasks of the present stage that are missing and do not depend on each other, in the order of ``run``."""
        if self._keys is None:
            distilled = self.stored_set()
            if distilled is None and self.lacks_set:
                return self._open_tasks_of_set()
            self._keys = self._score_keys(distilled)
        return [
            Task("network", number, ending)
            for ending, key in self._keys.items()
            if not self._score_path(key).exists()
            for number in range(self.networks(ending))
            if number not in self._tested(key)
        ]

    def do(self, tasks: Sequence[Task], monitor: Monitor) -> None:
        """Do some of the tasks that ``open_tasks`` named. What has been done meanwhile is not done again.

        Raises:
            DistillBenchError: of the task that failed; what was complete before is stored.
        """
        for task in tasks:
            if task.kind != "network":
                self._do_of_set(task, monitor)
            elif not self.lacks_set:
                self._evaluate(self.stored_set(), task.of, [task.number], monitor)

    def _open_tasks_of_set(self) -> list[Task]:
        """As ``open_tasks``, where there is no set yet."""
        return []

    def _do_of_set(self, task: Task, monitor: Monitor) -> None:
        """Do a task of the set, unless that is finished."""

    def record_failure(self, message: str) -> None:
        """File why the cell failed."""
        failure = Failure(**self._identity(), images=self.images, error=message, run=run_block(0.0))
        file_failure(failure, self.result_path(FAILED))

    def networks(self, ending: str) -> int:
        """How many networks a score asks for."""
        return self.setting.networks or load_protocol(ending.removesuffix(HARD)).networks

    def _score_keys(self, distilled: DistilledSet | None) -> dict[str, str]:
        """For every score the cell has, its file ending and its content address."""
        keys = {}
        for protocol in self.cell.protocols:
            strict = distilled is not None and distilled.has_strict_score and load_protocol(protocol).probe is None
            for labels in ["stored", "hard"] if strict else ["stored"]:
                ending = protocol if labels == "stored" else protocol + HARD
                line = FULL if distilled is not None else self.cell.method
                asked: Any = self.dataset, protocol, distilled, labels, None, line
                keys[ending] = key = f"{score_key(*asked)}-{self.networks(ending)}"
                self._networks_keys[key] = networks_key(*asked)
        return keys

    def _result(self, distilled: DistilledSet | None, ending: str, key: str, monitor: Monitor) -> Path:
        if self._is_filed(ending, key):
            return self.result_path(ending)
        result, stored = stored_result(self._score_path(key)), self._score_path(key)
        if result is None:
            result = self._evaluate(distilled, ending, range(self.networks(ending)), monitor)
            write_json(stored, to_json(result.model_copy(update={"score_key": key})))
        facts = {"strict": ending.endswith(HARD), "score_key": key, **self._identity(), **self.result_facts()}
        return file_result(result.model_copy(update=facts), self.setting.results, self.cell.result_name(ending))

    def _evaluate(
        self, distilled: DistilledSet | None, ending: str, networks: Sequence[int], monitor: Monitor
    ) -> Result:
        protocol, setting = ending.removesuffix(HARD), self.setting
        options: dict[str, Any] = {"device": setting.device, "compile": setting.compile, "monitor": monitor}
        options |= {"networks": networks, "cache": score_folder()}
        if distilled is None:
            return evaluate_full(self.dataset, protocol, line=self.cell.method, **options)
        labels: Any = "hard" if ending.endswith(HARD) else "stored"
        score = evaluate(distilled, self.dataset, protocol, labels=labels, **options)
        expected = protocol_note(distilled, protocol)  # a suite has protocols of its own, which head its tables
        return score.model_copy(update={"notes": tuple(note for note in score.notes if note not in expected)})

    def _tested(self, key: str) -> dict[int, dict[str, float]]:
        """The networks of a score that the store has."""
        return ScoreCache(score_folder(), self._networks_keys[key]).networks

    def _score_path(self, key: str) -> Path:
        return cache_dir() / "store" / "scores" / f"{key}.json"

    def _is_filed(self, ending: str, key: str) -> bool:
        """Whether the result of a score is filed, and the store of this machine has it too."""
        setting, name = self.setting, self.cell.result_name(ending)
        return self._score_path(key).exists() and is_filed(key, setting.results, setting.suite, name)

    def _identity(self) -> dict[str, Any]:
        cell = self.cell
        return {
            "suite": self.setting.suite,
            **data_facts(self.dataset),
            "method": cell.method,
            "ipc": cell.ipc,
            "fraction": cell.fraction,
            "seed": cell.seed,
            "preset": self.preset,
            "cell_key": self.key,
        }


class ReferenceTasks(CellTasks[ReferenceCell]):
    """Networks trained on the whole training split, or not at all."""

    def __init__(self, cell: ReferenceCell, setting: BenchConfig, dataset: Dataset | None = None) -> None:
        super().__init__(cell, setting, dataset)
        keys = (score_key(self.dataset, name, None, line=cell.method) for name in cell.protocols)
        self.key = canonical_hash([cell.method, *keys])

    def stored_set(self) -> None:
        return None


class GivenSetTasks(CellTasks[GivenSetCell]):
    """A set that is there already."""

    def __init__(self, cell: GivenSetCell, setting: BenchConfig, dataset: Dataset | None = None) -> None:
        super().__init__(cell, setting, dataset)
        self.preset, self._set = cell.preset, load_distilled(cell.file)
        self.images = len(self._set.images)
        self.key = canonical_hash(["given", self._set.sha256, self.dataset.test.fingerprint])
        try:
            check_same_dataset(self._set, self.dataset)
        except UsageError as error:
            self.cannot = f"{cell.name}: {error}"

    def stored_set(self) -> DistilledSet:
        return self._set

    def result_facts(self) -> dict[str, Any]:
        return {"recipe": self._set.card.recipe or None}

    def _identity(self) -> dict[str, Any]:
        card = self._set.card
        return {**super()._identity(), "given": self.cell.name, "seed": card.seed, "preset": card.preset}


class SetTasks(CellTasks[SetCell]):
    """A set that a method makes."""

    def __init__(self, cell: SetCell, setting: BenchConfig, dataset: Dataset | None = None) -> None:
        super().__init__(cell, setting, dataset)
        self.method = cell.load_method()
        self.resources = self.method.recipe.resources
        self.preset = cell.preset if cell.preset in self.method.recipe.preset else PAPER
        self.config = self.method.config_on(self.dataset, cell.budget, self.preset)
        self.cannot = hindrance(cell, self.method, self.config, self.dataset)
        sizes = self.dataset.class_sizes
        self.images = sum(cell.budget.counts(sizes)) if self.config.balanced else cell.budget.total(sizes)
        self._needed: list[Path] | None = None
        self._trainings: list[Training | None] = []
        if self.cannot:
            self.key = canonical_hash([str(cell), self.cannot])
        else:
            self.stored = StoredSet.of(self.dataset, self.method, self.config, cell.budget, self.preset, cell.seed)
            self.key = self.stored.key

    @property
    def set_path(self) -> Path:
        return self.stored.path

    @property
    def begun(self) -> bool:
        return self.set_path.exists() or bool(self.stored.checkpoint().files)

    @property
    def lacks_set(self) -> bool:
        return self.stored_set() is None

    def stored_set(self) -> DistilledSet | None:
        """The set; one that cannot be read counts as missing, and will be made again."""
        return self.stored.read()

    def obtain_set(self, monitor: Monitor, own_process: bool) -> DistilledSet:
        distilled = self.stored_set()
        if distilled is None:
            setting = self.setting
            how: dict[str, Any] = {"own_process": own_process, "iterates": setting.iterates}
            return self.stored.make(setting.device, monitor, setting.checkpoint_seconds, **how)
        self.stored.checkpoint().clear()
        return distilled

    def needs(self) -> set[Path]:
        if self.set_path.exists():
            return set()
        if self._needed is None:
            self._needed, self._parts = [], 0
            with contextlib.suppress(DistillBenchError):  # which the cell meets too, and files
                run = self._run("cpu", SILENT)  # the same on every device, and there may be no other here
                pieces = pretrained_of(self.method.function)(run)
                self._needed, self._trainings = [piece.path for piece in pieces], [piece.training for piece in pieces]
                self._parts = len(parts_of(self.method.function)(run))
        return {path for path in self._needed if not path.exists()}

    def pretraining(self) -> dict[Path, Training | None]:
        missing = self.needs()
        return {path: how for path, how in zip(self._needed or (), self._trainings, strict=True) if path in missing}

    def result_facts(self) -> dict[str, Any]:
        facts = self.stored.history()
        synthesis = Synthesis(**{name: value for name, value in facts.items() if name != "history"})
        return {"recipe": self.config.model_dump(mode="json"), "synthesis": synthesis}

    def _open_tasks_of_set(self) -> list[Task]:
        if self.set_path.exists():
            return []  # it cannot be read, and is made again
        missing = self.needs()
        assert self._needed is not None
        pretrain = [Task("pretrain", number) for number, path in enumerate(self._needed) if path in missing]
        return pretrain or [Task("part", number) for number in range(self._parts)]

    def _do_of_set(self, task: Task, monitor: Monitor) -> None:
        if self.set_path.exists():
            return
        run = self._run(self.setting.device, monitor)
        try:
            list_pieces = pretrained_of if task.kind == "pretrain" else parts_of
            list_pieces(self.method.function)(run)[task.number].make()
        finally:
            if self.set_path.exists():  # finished meanwhile, without this part
                run.checkpoint.clear()

    def _run(self, device: str, monitor: Monitor) -> Run[Any]:
        return self.stored.run(device, monitor, self.setting.checkpoint_seconds)


def tasks_of(cell: Cell, setting: BenchConfig, dataset: Dataset | None = None) -> "CellTasks[Any]":
    """The tasks of a cell. Arguments as for ``CellTasks``.

    Raises:
        UsageError, DataError: there is no such dataset, method, preset or set.
    """
    if isinstance(cell, SetCell):
        return SetTasks(cell, setting, dataset)
    if isinstance(cell, GivenSetCell):
        return GivenSetTasks(cell, setting, dataset)
    return ReferenceTasks(cell, setting, dataset)
