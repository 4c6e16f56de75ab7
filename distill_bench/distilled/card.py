"""What a set's file says of itself besides the tensors."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError, field_validator

from distill_bench.datasets.card import SourceCard
from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.projector import ProjectorCard, Required
from distill_bench.distilled.recorded_labels import RecordedKind
from distill_bench.distilled.replay import Replay
from distill_bench.errors import DataError, brief, describe
from distill_bench.runtime.names import LONGEST_PATH, checked_class_names, checked_name
from distill_bench.runtime.sparse import Sparse

_FORMAT_VERSION = 1
LabelKind = Literal["hard", "logits", "probabilities", "weights", "teacher", RecordedKind, "targets", "projector"]
TEACHER_PREFIX = "teacher."
INDICES = "selection.indices"
"""The tensor of a set of real images that says which of the training split they are: int32 [n]."""
TARGETS = "target.features"
"""The tensor of a set without labels for training: the features that a network is to have of every image, [n, d]."""


class Origin(BaseModel):
    """Where an imported set came from, and what was taken for granted on the way.

    Attributes:
        form: the importer that read it.
        files: sha256 of every file, by name.
        set_index, sets: which of how many independent sets the file holds.
        stored_accuracies: accuracies as the file gives them, by network name; of all its sets together.
        assumptions: what the files do not say, in words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    form: str
    files: dict[str, str]
    set_index: int = 0
    sets: int = 1
    stored_accuracies: dict[str, tuple[float, ...]] = {}
    assumptions: tuple[str, ...] = ()


class Card(Sparse):
    """Everything ``evaluate`` needs besides the tensors, and where they came from. Holds no time, host or version.

    Attributes:
        ipc: images per class; of the class that has most.
        fraction: of the training split, where the set was made for that and not for a number of images per class.
        label_kind: classes; one soft label an image, as logits or probabilities; ``weights``: one that is 0 or more and
            the target of cross-entropy as it is, so that its sum is the weight of its image; ``teacher``: a network, in
            the tensors ``teacher.*``, labels what is shown; ``recorded``: views and their labels are in the tensors
            ``relabel.*``; ``distances``: so are views, each with its distances to the two classes mixed in it;
            ``targets``: features to pre-train a network by, in the tensor ``target.features``; ``projector``: an
            encoder with what the tensors ``projector.*`` change of it labels what is shown.
        temperature: by which logits are divided, the set's and those of the network in training.
        alpha: the weight of what a teacher says beside that of the classes: 1 for the teacher alone, 0 for the classes.
        distance_weight: of the term in which recorded distances stand beside the classes.
        formation: every image holds so many smaller ones in a row and in a column, which networks are shown enlarged.
        teacher: the name of the stored teacher's network.
        prefixes: of a set made in blocks, how many images per class may be taken from its start as a set of their own.
        prefix_of: of such a part, the images per class of the whole.
        projector: of labels of that kind.
        requires: external weights without which labels cannot be had. They are not among the set's bytes.
        replay: how networks go through recorded labels; None: as ``ReplayRule`` has it unless told otherwise.
        iterate: of a set that was kept while its run was under way, after how many steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    LATER = (
        "origin", "teacher", "fraction", "alpha", "distance_weight", "formation", "prefixes", "prefix_of", "projector",
        "requires", "replay", "iterate",
    )  # fmt: skip

    format_version: int = _FORMAT_VERSION
    method: str
    paper: str | None = None
    source: SourceCard
    class_names: tuple[str, ...]
    ipc: PositiveInt
    pixel_space: PixelSpace
    label_kind: LabelKind = "hard"
    temperature: PositiveFloat = 1.0
    preset: str | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    protocol: str = "standard-v1"
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    licence: str | None = None
    origin: Origin | None = None
    teacher: str | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    alpha: Annotated[float, Field(ge=0, le=1)] = 1.0
    distance_weight: PositiveFloat = 1.0
    formation: PositiveInt = 1
    prefixes: tuple[PositiveInt, ...] = ()
    prefix_of: PositiveInt | None = None
    projector: ProjectorCard | None = None
    requires: tuple[Required, ...] = ()
    replay: Replay | None = None
    iterate: PositiveInt | None = None

    @property
    def trained_kind(self) -> LabelKind:
        """The kind of labels that networks are trained on: classes where all weight is on them."""
        return self.label_kind if self.alpha else "hard"

    @property
    def budget(self) -> Budget:
        """What the set was made for; of imported sets what they have."""
        return Budget(self.ipc) if self.fraction is None else Budget(fraction=self.fraction)

    @field_validator("method", "protocol", "preset", "licence", "teacher")
    @classmethod
    def _name(cls, name: str | None) -> str | None:
        return name if name is None else checked_name(name)

    @field_validator("paper")
    @classmethod
    def _text(cls, text: str | None) -> str | None:
        return text if text is None else checked_name(text, "the paper", LONGEST_PATH)

    @field_validator("class_names")
    @classmethod
    def _class_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return checked_class_names(names, "the card")


def read_card(text: str, path: Path) -> Card:
    """The card of a file.

    Args:
        text: JSON.
        path: of the file, for messages.

    Returns:
        The card.

    Raises:
        DataError: it is none, or of another format.
    """
    try:
        content = json.loads(text)
        version = content.get("format_version", _FORMAT_VERSION)
        if version != _FORMAT_VERSION:  # before the fields: another format may have others
            raise DataError(f"{path}: written in format {version}; this version reads {_FORMAT_VERSION}.")
        card = Card.model_validate(content)
        card.model_dump_json()  # what cannot be written again, such as lists in lists without end, is no card
        return card
    except ValidationError as error:
        raise DataError(f"{path}: its card is invalid: {describe(error)}.") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: its card is invalid: not a JSON object ({brief(error)}).") from error
