"""What is known once a set, or a whole training split, was evaluated: the record that every board is made of."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, FiniteFloat, model_validator

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.load import is_own
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.card import Origin
from distill_bench.distilled.notebook import table_as_html
from distill_bench.distilled.projector import Required
from distill_bench.evaluation.statistics import half_width
from distill_bench.runtime.names import LONGEST_PATH, checked_name
from distill_bench.runtime.sparse import Sparse
from distill_bench.runtime.text import counted

Count = Annotated[int, Field(ge=1, lt=1 << 53)]
Percent = Annotated[FiniteFloat, Field(ge=0, le=100)]
LabelUse = Literal["hard", "soft", "teacher", "projector", "targets", "none"]
FULL = "full"
"""The method that results of the whole training split name."""
UNTRAINED = "untrained"
"""The method that results of networks with their initial values name, which are probed as those are that learned."""
LINES = (FULL, UNTRAINED)
"""What has results without a set."""
_LONGEST_LIST = 60
NAMES = ("suite", "data", "given", "method", "preset", "protocol", "network", "labels", "pixel_space")
"""Text of a result that is shown, and that a stranger may have written."""


class Subject(Sparse):
    """What results and failures are about.

    Attributes:
        suite: the suite that it was evaluated for, and the name of the file it is in: ``evaluated``
            where ``evaluate --results`` filed it; None if it was not filed.
        dataset: name, as ``load_dataset`` takes it: ``"digits"``, ``"folder:photos"``.
        size: the side in pixels that images were resized to; None if they were not.
        holdout: the fraction of the training split that stood in for the test split; None if that is the dataset's.
        flip_invariant: False where somebody said so of data of their own; None else.
        classes: the names of the classes chosen of a larger dataset, in label order; None for all of them.
        given: the name of a set that a suite was given: its id, or its file's name; None of what it made itself.
        method: what made the set; ``full`` for training on the whole split, ``untrained`` for none.
        ipc: images per class; None without a set, and where there is a
        fraction: of the training split, as it was asked for; None for a number of images per class.
        images: how many there are; None if it is not known, as in results of earlier versions.
        shown: how many networks are shown, where they are others: smaller ones, or those with compensators; None else.
        preset: the recipe's preset; None if the set's card names none, as of imported sets.
        seed: of the synthesis, as the card has it; 0 for the whole split, None if the card has none.
        cell_key: content address of the set as a suite asks for it; None if no suite did.
        run: code, versions, machine, threads, device, seconds, and whether networks were compiled, see ``run_block``.
    """

    model_config = ConfigDict(frozen=True, strict=True)
    LATER: ClassVar[tuple[str, ...]] = ("given", "fraction", "images", "shown")

    suite: str | None = None
    dataset: str
    size: Count | None = None
    holdout: Annotated[FiniteFloat, Field(gt=0, lt=1)] | None = None
    flip_invariant: bool | None = None
    classes: tuple[str, ...] | None = None
    given: str | None = None
    method: str
    ipc: Count | None
    fraction: Annotated[FiniteFloat, Field(gt=0, le=1)] | None = None
    images: Count | None = None
    shown: Count | None = None
    preset: str | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    cell_key: str | None = None
    run: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole_split_or_set(self) -> "Subject":
        budgets = (self.ipc is not None) + (self.fraction is not None)
        if budgets != (self.method not in LINES):
            raise ValueError(f"one of ipc and fraction is null; both for {' and '.join(LINES)} alone, without a set")
        return self

    @property
    def budget(self) -> str:
        """As messages have it: ``ipc 10`` or ``10 %``; empty without a set."""
        return "" if self.method in LINES else str(Budget(self.ipc, self.fraction))

    @property
    def data(self) -> str:
        """The dataset as boards show it, see ``data_name``."""
        return data_name(self.dataset, self.size, self.holdout, self.flip_invariant, self.classes)

    def check_names(self, called: str) -> None:
        """Raise ValueError where a text cannot be shown; ``called`` is how its message begins, with the field's name
        for ``{}``."""
        for name in NAMES:
            if (text := getattr(self, name, None)) is not None:
                checked_name(text, called.format(name.replace("data", "dataset")), LONGEST_PATH)


class Synthesis(Sparse):
    """What making a set took, and where that was.

    Attributes:
        seconds: time, of all processes and all starts together; without that of pretrained networks where
            ``pretraining_seconds`` is there.
        pretraining_seconds: how long it took to train the networks that the set needs besides, such as a teacher or
            experts, whichever set needed them first; None if some came from elsewhere, or of earlier results: there
            their time is in ``seconds`` of the set that was made first, and in no other's.
        peak_memory_mb: the most memory of its process in MB; None if that did more than this one set.

    Code, versions, machine, threads and device stand beside these as further fields, as in ``Result.run``.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")
    LATER: ClassVar[tuple[str, ...]] = ("pretraining_seconds",)

    seconds: Annotated[FiniteFloat, Field(ge=0)] | None = None
    pretraining_seconds: Annotated[FiniteFloat, Field(ge=0)] | None = None
    peak_memory_mb: Annotated[FiniteFloat, Field(ge=0)] | None = None


class Result(Subject):
    """Test accuracies of networks trained on a set, or on the whole training split, and everything they depend on.

    This is the one record of an evaluation: returned by ``evaluate`` and ``evaluate_full``, printed by ``evaluate
    --json``, a line of ``results/<suite>.jsonl``, read by boards, ``verify``, ``publish`` and ``load_results``. The
    fields that say what was evaluated (``suite`` to ``run``) are those of ``Subject``.

    Attributes:
        kind: ``"score"``, which tells a result from other JSON.
        protocol: id of the protocol.
        network: what was trained, by its full name, such as ``ConvNetD3``.
        networks: how many were trained.
        labels: what was trained on: classes (``hard``); the set's soft labels, one an image (``soft``); or what a
            teacher says of every view, then or as it was recorded (``teacher``); or what a projector says of it
            (``projector``).
        strict: whether soft labels or a learned rate of the set were left aside for classes and the protocol's rate.
            False for a set that has neither: its one evaluation is as it is stored.
        learning_rate: what networks were trained with.
        pixel_space: kind of the space that images were in: ``normalized``, ``zca`` or ``unit``.
        accuracies: of each network in percent, at the last epoch, in the order of their numbers,
            or as they were asked for.
        accuracy, std: their mean and population standard deviation, in percent and points.
        ci_low, ci_high: 95 % Student-t interval of the mean over networks, in percent, cut at 0 and 100; None with one
            network.
        bytes: storage of the set (of training pixels and labels, for the whole split); None if it is not known.
        set_sha256: of the set's content; None for the whole split.
        origin: the files that an imported or downloaded set came from; None for sets made here.
        requires: external weights that the labels need, which are not among ``bytes``.
        notes: what a reader of the number must know.
        train_fingerprint, test_fingerprint: sha256 of the splits' pixels and labels.
        score_key: content address of the evaluation, a hyphen and the number of networks; None of other networks than
            those from number 0 on.
        recipe: the method's resolved fields; None for imported sets and the whole split.
        synthesis: what making the set took; None if no suite made it.
    """

    LATER: ClassVar[tuple[str, ...]] = (*Subject.LATER, "requires")

    kind: Literal["score"] = "score"
    protocol: str
    network: str
    networks: Count
    labels: LabelUse
    strict: bool = False
    learning_rate: Annotated[FiniteFloat, Field(ge=0)]
    pixel_space: str
    accuracies: tuple[Percent, ...] = Field(min_length=1)
    accuracy: Percent
    std: Percent
    ci_low: FiniteFloat | None
    ci_high: FiniteFloat | None
    bytes: Count | None
    set_sha256: str | None
    origin: Origin | None = None
    requires: tuple[Required, ...] = ()
    notes: tuple[str, ...] = ()
    train_fingerprint: str
    test_fingerprint: str
    score_key: str | None = None
    recipe: dict[str, Any] | None = None
    synthesis: Synthesis | None = None

    @property
    def half_width(self) -> float | None:
        """Half of the interval, which ± shows, in points; where it is cut, that side which is not."""
        return half_width(self.accuracy, self.ci_low, self.ci_high)

    def __repr__(self) -> str:
        half = "" if self.half_width is None else f" ± {self.half_width:.2f}"
        of = f"{self.method} on {self.data}" + (f", {self.budget}" if self.budget else "")
        how = f"{self.protocol}, {self.network}, {self.labels} labels, {counted(self.networks, 'network')}"
        return f"<Result {of}: {self.accuracy:.2f}{half} % ({how}){'; see notes' if self.notes else ''}>"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        rows = {
            "set": f"{self.method} on {self.data}" + (f", {self.budget}" if self.budget else ""),
            "accuracy": f"{self.accuracy:.2f} %" + ("" if self.half_width is None else f" ± {self.half_width:.2f}"),
            "of each network": ", ".join(f"{value:.2f}" for value in self.accuracies),
            "protocol": self.protocol,
            "network": self.network,
            "labels": self.labels + (", strict" if self.strict else ""),
            "learning rate": f"{self.learning_rate:g}",
            "pixels": self.pixel_space,
        }
        return table_as_html(rows | {f"note {number}": note for number, note in enumerate(self.notes, 1)})


class Failure(Subject):
    """Why there is no set, or no result of it.

    Attributes:
        kind: ``"failure"``.
        error: the message.
    """

    kind: Literal["failure"] = "failure"
    error: str = ""


def data_facts(dataset: Dataset) -> dict[str, Any]:
    """The fields of a result that say which data it is of."""
    return {
        "dataset": dataset.name,
        "size": dataset.size,
        "holdout": dataset.holdout,
        "flip_invariant": False if is_own(dataset.name) and not dataset.flip_invariant else None,
        "classes": dataset.classes,
    }


def data_name(
    dataset: str,
    size: int | None = None,
    holdout: float | None = None,
    flip_invariant: bool | None = None,
    classes: Sequence[str] | None = None,
) -> str:
    """What boards call a dataset: resized images, a held-out test split, some classes alone are other data.

    Args:
        dataset: its name.
        size, holdout, flip_invariant, classes: as for ``load_dataset``.

    Returns:
        The name.

    >>> data_name("digits", 16, 0.2)
    'digits at 16 px holdout 0.2'
    """
    return (
        dataset
        + (f" at {size} px" if size else "")
        + (f" holdout {holdout:g}" if holdout else "")
        + (" not mirrored" if flip_invariant is False else "")
        + (f" classes {_short(classes)}" if classes else "")
    )


def _short(classes: Sequence[str]) -> str:
    """Classes on a board: all, where they fit."""
    text = ",".join(classes)
    return text if len(text) <= _LONGEST_LIST else f"{len(classes)} of {hashlib.sha256(text.encode()).hexdigest()[:8]}"
