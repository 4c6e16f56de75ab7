"""What a method is handed, and what it hands back."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import torch
from jaxtyping import Float, Int64, Num
from pydantic import BaseModel, ConfigDict, PositiveFloat, field_validator
from torch import Generator, Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, ZcaInput, pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.card import LabelKind
from distill_bench.distilled.projector import ProjectorCard, Required
from distill_bench.distilled.replay import Replay
from distill_bench.errors import RunFailed, first_line
from distill_bench.pretrained.store import Pretrained
from distill_bench.runtime import seeds
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.locks import get_or_make
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.sparse import Sparse
from distill_bench.runtime.tracking import Log, silent
from distill_bench.training.timing import Training


def _took_truth_for_a_number(given: Any, valid: Any) -> bool:
    """Whether somewhere in what was given there is a truth value, where what it was read as has another value."""
    if isinstance(given, bool):
        return not isinstance(valid, bool)
    if isinstance(given, Mapping):
        read = valid if isinstance(valid, Mapping) else dict(valid) if isinstance(valid, BaseModel) else {}
        return any(_took_truth_for_a_number(each, read[name]) for name, each in given.items() if name in read)
    if isinstance(given, list | tuple) and isinstance(valid, list | tuple):
        return any(map(_took_truth_for_a_number, given, valid))
    return False


class Config(Sparse):
    """The hyper-parameters every method has; a method's own fields are a subclass.

    Attributes:
        pixel_space: the space images are synthesised and stored in.
        zca_eps, zca_input: of the whitening, where ``pixel_space`` is ``"zca"``, see ``PixelSpace``.
        lr_fields: which fields to lower if a run diverges; a dot leads into a table.
        memory_fields: which fields bound memory.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lr_fields: ClassVar[tuple[str, ...]] = ()
    memory_fields: ClassVar[tuple[str, ...]] = ()

    pixel_space: Literal["unit", "normalized", "zca"] = "normalized"
    zca_eps: PositiveFloat = 0.1
    zca_input: ZcaInput = "unit"

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, validate: Callable[[Any], Any]) -> Any:
        """``true`` is no number, which pydantic takes for 1."""
        valid = validate(value)
        if _took_truth_for_a_number(value, valid):
            raise ValueError("give a number, not true or false")
        return valid

    def misplaced(self, changed: Set[str]) -> str | None:
        """What a user is told who asks for values that do nothing as the others are.

        Args:
            changed: the names of fields that the user gives other values than the recipe has.

        Returns:
            A sentence or two; None where each of them does something.
        """
        return None

    def completed(self, resolve: "Resolve") -> "Config":
        """The values with those of another method that this one runs.

        Args:
            resolve: from a method and what replaces values of its recipe to its values, for the same data.

        Returns:
            The values; these, where there is no other method.
        """
        return self

    @property
    def versions(self) -> dict[str, int]:
        """Versions of other methods that this one runs, by name."""
        return {}

    def pixel_space_on(self, dataset: Dataset) -> PixelSpace:
        """The pixel space with a dataset's own statistics."""
        return pixel_space_of(dataset, self.pixel_space, self.zca_eps, self.zca_input)

    def hint(self, names: Sequence[str]) -> str:
        """How to lower fields, with their values; empty if there are none.

        >>> Config(zca_eps=0.2).hint(["zca_eps"])
        '`zca_eps=…` (now 0.2)'
        """
        now = {name: reduce(getattr, name.split("."), self) for name in names}
        used = {name: value for name, value in now.items() if value or name not in self.lr_fields}
        return ", or ".join(f"`{name}=…` (now {value or 'all'})" for name, value in used.items())

    @property
    def labels_are_classes(self) -> bool:
        """Whether a set has the classes of its images and no other labels."""
        return True

    @property
    def of_real_images(self) -> bool:
        """Whether the images of a method that ``selects`` are real: not where they are those of one that makes them."""
        return True

    @property
    def balanced(self) -> bool:
        """Whether a set has of every class as many images as ``Run.counts`` says; else ``Run.total`` in all."""
        return True

    def images_a_class(self, ipc: int, classes: int) -> int:
        """How many images of a class a set has: fewer than its budget where it stores other things beside them.

        Args:
            ipc: the budget.
            classes: of the dataset.

        Returns:
            The number of images.

        Raises:
            UsageError: there is no such set within the budget.
        """
        return ipc

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if these values cannot be run on a dataset. Called before any work is done."""

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """About how many bytes a step takes beyond the networks and the dataset; 0 where nothing is said."""
        return 0

    @property
    def memory_note(self) -> str:
        """A sentence on what memory grows with, where no field bounds it all; empty elsewhere."""
        return ""


Resolve = Callable[[Any, dict[str, Any]], Config]
F = TypeVar("F", bound=Config)
T = TypeVar("T")


@dataclass
class SynthesisResult:
    """A finished set: images [n, c, h, w] in the run's pixel space or as 8-bit pictures, labels int64 [n] in order.

    Soft labels have a row for every image that is shown, see ``DistilledSet.shown``. The other attributes are those of
    ``DistilledSet`` and its card.
    """

    images: Num[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    soft_labels: Float[Tensor, "s k"] | None = None
    label_kind: LabelKind = "hard"
    learning_rate: float | None = None
    temperature: float = 1.0
    alpha: float = 1.0
    distance_weight: float = 1.0
    teacher: str | None = None
    projector: ProjectorCard | None = None
    requires: tuple[Required, ...] = ()
    formation: int = 1
    prefixes: tuple[int, ...] = ()
    replay: Replay | None = None
    stored: dict[str, Tensor] = field(default_factory=dict)


Keep = Callable[[int, int, Callable[[], SynthesisResult | None]], None]
"""Is told after every step how many are done of how many, and what gives the set as it is; see ``iterates``."""


def keeps_none(done: int, steps: int, result: Callable[[], SynthesisResult | None]) -> None:
    """Keeps no iterate."""


@dataclass
class Run(Generic[F]):
    """One set to make.

    Attributes:
        training: the real images.
        budget: how many images the set is to have, see ``counts`` and ``total``.
        config: the resolved hyper-parameters.
        seed: the root of all randomness; draw through ``generator``.
        checkpoint: stores unfinished work, which the next call resumes.
        history: the loss of every step so far.
        log: is told every step, see ``tracking.Log``.
        keep: may keep the set as it is after a step.
        pretrained_seconds: of every pretrained piece that was used how long its training took, whoever needed it first,
            by its file; None where that is not known.
    """

    method: str
    training: TrainingData
    budget: Budget
    config: F
    seed: int
    device: torch.device
    monitor: Monitor
    checkpoint: Checkpoint
    history: list[float] = field(default_factory=list)
    log: Log = silent
    keep: Keep = keeps_none
    pretrained_seconds: dict[Path, float | None] = field(default_factory=dict)

    @property
    def classes(self) -> int:
        return len(self.training.class_names)

    @property
    def counts(self) -> tuple[int, ...]:
        """How many images of every class a balanced set has."""
        counts = self.budget.counts(self.training.class_sizes)
        return tuple(self.config.images_a_class(count, self.classes) for count in counts)

    @property
    def ipc(self) -> int:
        """Images per class, which is all that methods are given that do not choose real images; else the most."""
        return max(self.counts)

    @property
    def total(self) -> int:
        """How many images the set has."""
        return sum(self.counts) if self.config.balanced else self.budget.total(self.training.class_sizes)

    @property
    def labels(self) -> Int64[Tensor, " n"]:
        """The labels of a balanced set in class order: 0 × its count, 1 × its count, …"""
        return torch.arange(self.classes).repeat_interleave(torch.tensor(self.counts))

    def out_of_memory(self, where: str, error: BaseException) -> RunFailed:
        """The error of a run for which memory was not enough, naming what bounds it."""
        bounds = self.config.hint(self.config.memory_fields)
        return RunFailed(
            f"{self.method} at {self.budget}, seed {self.seed}, ran out of memory {where} ({first_line(error)}). "
            + (f"Lower {bounds}, which bounds it; " if bounds else "Lower the method's batch sizes or its images; ")
            + "of a suite, run fewer cells at a time (`jobs`)."
        )

    def generator(self, role: str, index: int = 0) -> Generator:
        """A fresh generator for a role and an index (a step, a class). The same arguments give the same stream."""
        return seeds.generator(self.seed, "synthesis", role, index)

    def pretrained(self, get: Callable[..., T], pieces: Callable[[T], Iterable[Pretrained]]) -> T:
        """What ``get`` finds in the store or trains now. Other sets use it too: its time is not counted as this one's.

        Args:
            get: such as ``get_or_train_teacher``; is given ``monitor`` and ``every_seconds``.
            pieces: of what it gives, those that the store has.

        Returns:
            What ``get`` gives.
        """
        with self.checkpoint.paused():
            found = get(monitor=self.monitor, every_seconds=self.checkpoint.every_seconds)
        self.pretrained_seconds |= {piece.path: piece.seconds for piece in pieces(found)}
        return found

    def part(self, name: str, make: Callable[["Run[F]"], T]) -> T:
        """The result of ``make`` for a part that depends on no other: a run with a checkpoint and a history of its own.

        Args:
            name: of the part's checkpoint.
            make: goes on from the checkpoint if the part was begun; a finished part is taken from there.

        Returns:
            The result of ``make``.
        """
        checkpoint = self.checkpoint.independent(name)
        part = replace(self, checkpoint=checkpoint, history=[])
        if checkpoint.path is None:
            return make(part)
        result = get_or_make(checkpoint.path, lambda: None, lambda: make(part), self.monitor, f"makes the same {name}")
        self.checkpoint.add_time_before(checkpoint)
        return result


MethodFunction = Callable[[Run[Any]], SynthesisResult | Tensor]


@dataclass(frozen=True)
class Piece:
    """Work that a set needs and that depends on no other piece of its list: an expert, a recovered batch.

    Attributes:
        path: the file that is there when it is done, or begun.
        make: does it, if it is not done, and stores it.
        training: what it trains, so that its time can be told; None if that is not known.
    """

    path: Path
    make: Callable[[], object]
    training: Training | None = None


Pieces = Callable[[Run[Any]], list[Piece]]


def _no_pieces(run: Run[Any]) -> list[Piece]:
    """Of a method that needs nothing pretrained, or whose images depend on each other."""
    return []


def method(
    config: type[Config],
    version: int = 1,
    pretrained: Pieces = _no_pieces,
    parts: Pieces = _no_pieces,
    *,
    selects: bool = False,
) -> Callable[[MethodFunction], MethodFunction]:
    """Declare which hyper-parameters a method function takes.

    Args:
        config: their class.
        version: raised with every change, here or in what it calls, that makes other sets of the same hyper-parameters,
            so that sets made before are not taken for new ones.
        pretrained: lists the networks that the function trains on real data first, each of which is stored.
        parts: lists the parts of the set that do not depend on each other, each of which is checkpointed.
        selects: whether it chooses real images, of any number a class, so that it can be asked for a fraction of them.

    Returns:
        A decorator, which returns the function itself.
    """

    def declare(function: MethodFunction) -> MethodFunction:
        function.config, function.version = config, version  # type: ignore[attr-defined]
        function.pretrained, function.parts = pretrained, parts  # type: ignore[attr-defined]
        function.selects = selects  # type: ignore[attr-defined]
        return function

    return declare


def config_of(function: MethodFunction) -> type[Config]:
    """The declared hyper-parameters of a method function; the common ones if it declares none."""
    return getattr(function, "config", Config)


def pretrained_of(function: MethodFunction) -> Pieces:
    """What lists the networks that a method function needs pretrained."""
    return getattr(function, "pretrained", _no_pieces)


def parts_of(function: MethodFunction) -> Pieces:
    """What lists the parts of a set that do not depend on each other."""
    return getattr(function, "parts", _no_pieces)


def selects(function: MethodFunction) -> bool:
    """Whether a method function chooses real images, of any number a class."""
    return getattr(function, "selects", False)


def version_of(function: MethodFunction) -> int:
    """The declared version of a method function; 1 if it declares none."""
    return getattr(function, "version", 1)
