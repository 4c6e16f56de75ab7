"""Scores of one's own: a file of a number an image, in place of those of networks trained here."""

from pathlib import Path
from typing import Annotated

from jaxtyping import Float
from pydantic import AfterValidator, PlainSerializer
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import DataError, UsageError, first_line
from distill_bench.runtime.hashing import sha256_of

TENSOR, SPLIT = "scores", "train"
_FORM = f"Give a .safetensors file with one tensor, `{TENSOR}` [images], in the order of the training split"


def read_scores(path: str) -> tuple[Float[Tensor, " n"], str | None]:
    """The scores in a file, and the fingerprint of the training split that they are of, where the file says it.

    Args:
        path: of a safetensors file with the tensor ``scores``; the fingerprint is ``train`` of its metadata. Nothing is
            unpickled and nothing is run.

    Returns:
        The scores in float64, in the order of the training split; and the fingerprint.

    Raises:
        DataError: there is no such file, or it is of another kind, or its scores are not finite numbers.
    """
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file. {_FORM}.")
    try:
        with safe_open(path, framework="pt") as file:
            split = (file.metadata() or {}).get(SPLIT)
            found = file.get_tensor(TENSOR)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: no readable scores ({first_line(error)}). {_FORM}.") from error
    if found.ndim != 1 or found.is_complex():
        raise DataError(f"{path}: its scores are {found.dtype} of shape {tuple(found.shape)}. {_FORM}.")
    numbers = found.double()
    if strange := int((~numbers.isfinite()).sum()):
        raise DataError(f"{path}: {strange} of its {len(numbers)} scores are not finite numbers.")
    return numbers, split


def scores_of(path: str, dataset: Dataset) -> Float[Tensor, " n"]:
    """The scores in a file, if they are of a dataset's training images.

    Args:
        path: as for ``read_scores``.
        dataset: its training split, as it is loaded here.

    Returns:
        A score an image, in float64.

    Raises:
        UsageError: they are of another number of images, or of another training split.
        DataError: as ``read_scores``.
    """
    found, split = read_scores(path)
    held = f" with {dataset.holdout:g} held out" if dataset.holdout else ""
    here = f"the training split of {dataset.name}{held} has {len(dataset.train)}"
    if len(found) != len(dataset.train):
        raise UsageError(f"`scores={path}`: it has scores of {len(found)} images; {here}.")
    if split not in (None, dataset.train.fingerprint):
        raise UsageError(
            f"`scores={path}`: its {len(found)} scores are of another training split ({split[:16]}…); {here} images "
            f"too, but others ({dataset.train.fingerprint[:16]}…)."
        )
    return found


def _checked(path: str) -> str:
    """The full path of a file of scores, or nothing."""
    if not path:
        return path
    try:
        read_scores(path)
    except DataError as error:
        raise ValueError(str(error).rstrip(".")) from error
    return str(Path(path).resolve())


def _by_content(path: str) -> str:
    """What the card says: a path says nothing of what was there."""
    return f"sha256:{sha256_of(Path(path))}" if path else path


ScoreFile = Annotated[str, AfterValidator(_checked), PlainSerializer(_by_content, when_used="json")]
"""The path of a file of scores, or nothing; on a card its sha256."""
