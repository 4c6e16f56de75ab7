"""What a set's card says of the data it was made from, and the way back to that data."""

import os
from typing import Any

from pydantic import ConfigDict, field_validator

from distill_bench.datasets.classes import as_words
from distill_bench.datasets.dataset import Dataset, is_own
from distill_bench.datasets.load import load_dataset
from distill_bench.errors import DataError
from distill_bench.runtime.names import LONGEST_PATH, checked_name
from distill_bench.runtime.sparse import Sparse


class SourceCard(Sparse):
    """Which data a set was made from, enough to load it again and to tell whether it is still the same.

    Attributes:
        size, holdout: see ``load_dataset``.
        flip_invariant: False where somebody said so of data of their own, whose mirrored images else keep their label.
        classes: the names of those chosen of a larger dataset.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER = ("flip_invariant", "classes")

    name: str
    size: int | None = None
    holdout: float | None = None
    flip_invariant: bool | None = None
    classes: tuple[str, ...] | None = None
    train_fingerprint: str

    @property
    def load_arguments(self) -> dict[str, Any]:
        """What ``load_dataset`` is given besides the name."""
        return self.model_dump(exclude={"name", "train_fingerprint"})

    @field_validator("name")
    @classmethod
    def _path_or_name(cls, name: str) -> str:
        return checked_name(name, "the dataset's name", LONGEST_PATH)


def source_card(data: Dataset) -> SourceCard:
    """The card's description of a dataset. Reads the training split."""
    return SourceCard(
        name=data.name,
        size=data.size,
        holdout=data.holdout,
        flip_invariant=False if is_own(data.name) and not data.flip_invariant else None,
        classes=data.classes,
        train_fingerprint=data.train.fingerprint,
    )


def data_options(card: SourceCard, dataset: str | None = None) -> list[str]:
    """The options of a command that load the data of a card, such as ``["--dataset", "digits", "--holdout", "0.2"]``.

    Args:
        card: of a set.
        dataset: where the data lies now, if not where the card says.

    Returns:
        The options and their values, in order.
    """
    arguments = {"dataset": dataset or card.name} | card.load_arguments
    words = [("--" + name.replace("_", "-"), value) for name, value in arguments.items() if value is not None]
    return [word for option, value in words for word in (option, _as_word(value))]


def _as_word(value: Any) -> str:
    if isinstance(value, tuple):
        return as_words(value)
    return "no" if value is False else str(value)


def dataset_of(card: SourceCard, **instead: Any) -> Dataset:
    """The dataset that a card describes.

    Args:
        card: of a set.
        instead: of what the card says: arguments of ``load_dataset``, and ``name``.

    Returns:
        The dataset; its images are read when first asked for.

    Raises:
        DataError: it is data of somebody's own that is not there any more, or not from here.
    """
    arguments = card.load_arguments | instead
    name, path = arguments.pop("name", card.name), os.path.abspath(os.path.expanduser(card.name.partition(":")[2]))
    if is_own(name) and "name" not in instead and not os.path.exists(path):
        if card.name.startswith("hf:"):  # nothing is fetched because a stranger's card says so
            raise DataError(
                f"the set was made from {card.name}, which is no folder here. If it is of the Hugging Face Hub, say "
                f"that it may be fetched: `dataset={card.name}` (in Python: dataset=load_dataset({card.name!r}))."
            )
        raise DataError(
            f"the set was made from {card.name}, and there is no {path} here. If the data lies elsewhere "
            f"now, say so: `dataset={card.name.partition(':')[0]}:PATH` (in Python: dataset=load_dataset(…)); "
            "where the path is relative, run this where the set was made."
        )
    if not is_own(name):
        arguments["flip_invariant"] = instead.get("flip_invariant")  # named datasets have their own
    return load_dataset(name, **arguments)
