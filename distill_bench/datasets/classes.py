"""The classes of a dataset: numbered where they have no names, chosen by the user, and each with a training image."""

import contextlib
import json
import shlex
from collections.abc import Sequence

import torch
from jaxtyping import Int64
from torch import Tensor

from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.names import MOST_CLASSES
from distill_bench.runtime.text import listed

SHOWN = 20
_LONGEST_OPTION = 2000


def numbered_classes(labels: Sequence[Int64[Tensor, " _"]], where: str) -> tuple[str, ...]:
    """The classes of data without class names: the labels themselves, "0", "1", …

    Args:
        labels: of every split, that of training first.
        where: the data's path, for the error.

    Returns:
        A name for every class, in label order.

    Raises:
        DataError: a label is so high that there would be more classes than a dataset may have.
    """
    highest = max(int(each.max()) for each in labels)
    if highest >= MOST_CLASSES:
        raise DataError(
            f"{where} has the label {highest}; labels are 0 to {MOST_CLASSES - 1:,} at most. Found: "
            f"{listed(labels[0].unique().tolist(), SHOWN)}. Number the classes 0, 1, 2, …, as "
            "numpy.unique(labels, return_inverse=True)[1] does."
        )
    return tuple(str(label) for label in range(highest + 1))


def labels_of(wanted: Sequence[str | int], class_names: Sequence[str], where: str) -> list[int]:
    """The labels of chosen classes, in the order they were chosen in.

    Args:
        wanted: names; or labels, as numbers or as text where no class has that name.
        class_names: of the dataset.
        where: what the dataset is called, for the error.

    Returns:
        A label for every chosen class.

    Raises:
        UsageError: none is chosen, one is chosen twice, or one is not of the dataset.
    """
    known = {str(label): label for label in range(len(class_names))}
    known |= {name: label for label, name in enumerate(class_names)}
    labels = []
    for each in wanted:
        label = known.get(each) if isinstance(each, str) else each
        if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(class_names):
            raise UsageError(
                f"classes: {where} has no class {each!r}. Give names or labels of its {len(class_names)} classes, "
                f"as in `classes=a,b` or classes=['a', 'b']: {listed(class_names, SHOWN)}."
            )
        labels.append(label)
    if not labels or len(set(labels)) < len(labels):
        twice = "one is there twice" if labels else "none is given"
        raise UsageError(f"classes: {twice}. Give one class or more of {where}, each once, as in `classes=a,b`.")
    return labels


def as_words(names: Sequence[str]) -> str:
    """Classes as a command takes them: parted by commas, or as JSON where a name has one, or begins or ends oddly.

    >>> as_words(["cat", "dog"]), as_words(["a,b", " c"])
    ('cat,dog', '["a,b", " c"]')
    """
    text = ",".join(names)
    return text if words_of(text) == [*names] else json.dumps([*names], ensure_ascii=False)


def words_of(text: str) -> list[str]:
    """The classes in what a command was given: the way back from ``as_words``.

    >>> words_of("cat, dog"), words_of('["a,b", " c"]')
    (['cat', 'dog'], ['a,b', ' c'])
    """
    with contextlib.suppress(ValueError):
        if text.startswith("[") and isinstance(names := json.loads(text), list):
            return [*map(str, names)]
    return [name.strip() for name in text.split(",") if name.strip()]


def as_option(chosen: Sequence[str], class_names: Sequence[str]) -> str:
    """How these of a dataset's classes are asked for on the command line: by label where names have commas."""
    plain = all("," not in name and name == name.strip() for name in chosen)
    text = shlex.quote(",".join(chosen if plain else [str(class_names.index(name)) for name in chosen]))
    return f"`classes={text}`" if len(text) <= _LONGEST_OPTION else "`classes` with their names"


def check_labels(labels: Int64[Tensor, " n"], class_names: Sequence[str], where: str) -> None:
    """Raises DataError if there is no label, or one without a class name; ``where`` is the split's name."""
    if not len(labels):
        raise DataError(f"{where} is empty. It needs at least one image of every class.")
    low, high, classes = int(labels.min()), int(labels.max()), len(class_names)
    if low < 0 or high >= classes:
        raise DataError(
            f"{where} has the label {low if low < 0 else high}; labels run from 0 to {classes - 1} "
            f"for its {classes} classes."
        )


def check_none_absent(labels: Int64[Tensor, " n"], class_names: Sequence[str], where: str) -> None:
    """Raises DataError if a class has no training image; ``where`` is what the dataset is called."""
    counts = torch.bincount(labels, minlength=len(class_names))
    absent = (counts == 0).nonzero().flatten().tolist()
    if not absent:
        return
    present = counts.nonzero().flatten().tolist()
    alone = as_option([class_names[label] for label in present], class_names)
    more = f", nor any of {len(absent) - 1} other classes" if len(absent) > 1 else ""
    raise DataError(
        f"{where}: no training image has the label {absent[0]} ({class_names[absent[0]]!r}){more}. Every class needs "
        f"one at least: add some, or take the {len(present)} that have images alone: {alone} "
        "(in Python: classes=…)."
    )
