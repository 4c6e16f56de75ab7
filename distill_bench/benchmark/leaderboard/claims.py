"""Accuracies that papers claim, read from ``published.csv``."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from distill_bench.errors import DataError, brief
from distill_bench.evaluation import data_name
from distill_bench.evaluation.protocol import without_network

Blank = BeforeValidator(lambda text: None if text == "" else text)
Name = Annotated[str, Field(min_length=1)]
_PUBLISHED = Path(__file__).with_name("published.csv")
_FIGURE = {"accuracy", "std", "networks", "source", "reading", "note"}
_CLAIM_KEYS = ("method", "dataset", "ipc", "protocol", "network", "labels", "pixel_space")
"""Of a row, in the order of the arguments of ``claim_for``."""


class Claim(BaseModel):
    """One published accuracy, as ``source`` reports it.

    Attributes:
        size: the images' side in pixels where it is not the dataset's own, or where the dataset has none.
        ipc: None: the full training set.
        accuracy, std: in percent; the latter over networks.
        networks: how many; as paper or released code say. None where they do not, or it was not looked up.
        protocol: an id of this project, or what stands for the paper's own evaluation.
        network: what was trained and tested, without its norm; ``others``: the mean over several other ones.
        pixels: the pixel space of the images; ``unknown`` where it was not looked up: then it is no difference.
        labels: of the set: hard, soft ones stored with it, or a teacher's, or a projector's, during training.
        selection: what the figure is of all that were measured: the last iterate, or the best on test images; the best
            augmentation, or the mean over augmentations.
        paper: who makes the claim.
        source: where the figure was read.
        reading: in the paper or repository itself, in a later paper's table, from memory, or no figure of a paper's but
            of somebody's re-implementation.
        note: what is in doubt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Name
    dataset: Name
    size: Annotated[PositiveInt | None, Blank]
    ipc: Annotated[PositiveInt | None, Blank]
    accuracy: Annotated[float, Field(ge=0, le=100)]
    std: Annotated[NonNegativeFloat | None, Blank]
    networks: Annotated[PositiveInt | None, Blank]
    protocol: Name
    network: Name
    norm: Name
    pixels: Literal["normalized", "zca", "unit", "unknown"]
    labels: Literal["hard", "soft", "teacher", "projector"]
    selection: Literal["last", "best-on-test", "best-of-augmentations", "mean-of-augmentations", "unknown"]
    paper: Name
    source: Name
    reading: Literal["first-hand", "second-hand", "recalled", "replicated"]
    note: str

    def is_of(self, dataset: str) -> bool:
        """Whether boards may show it beside sets of a dataset, as they call it: of the claim's size, or of none."""
        return dataset in (self.dataset, data_name(self.dataset, self.size))


def published() -> list[Claim]:
    """The papers' accuracies that come with the package."""
    return load_claims(_PUBLISHED)


def load_claims(path: Path) -> list[Claim]:
    """The claims of a CSV file, in file order.

    Raises:
        DataError: the file is unreadable, a row breaks the schema, or a row repeats another in everything but the
            figure and where it was read; the message names the file and the line.
    """
    claims: list[Claim] = []
    first_line: dict[tuple, int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for record in reader:
                claim = _claim(record, f"{path} line {reader.line_num}")
                key = tuple(claim.model_dump(exclude=_FIGURE).values())
                if key in first_line:
                    raise DataError(f"{path} line {reader.line_num} repeats line {first_line[key]}: {key}.")
                first_line[key] = reader.line_num
                claims.append(claim)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read published accuracies from {path}: {brief(error)}.") from error
    return claims


def _claim(record: dict, where: str) -> Claim:
    if None in record or None in record.values():
        raise DataError(f"{where}: expected the {len(Claim.model_fields)} columns {', '.join(Claim.model_fields)}.")
    try:
        return Claim.model_validate(record)
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})" for e in error.errors())
        raise DataError(f"{where}: {'; '.join(problems)}") from error


def claim_for(
    claims: Sequence[Claim],
    method: str,
    dataset: str,
    ipc: int | None,
    protocol: str | None = None,
    network: str | None = None,
    labels: str | None = None,
    pixels: str | None = None,
) -> Claim | None:
    """The claim to show beside a score: of those for its method, dataset and IPC the one that fits it best.

    One under the score's ``protocol`` goes first (two generations of some baselines circulate: ``random`` with and
    without augmentation); then one on the same kind of ``network``; then one with the same kind of ``labels``; then one
    in the same pixel space; then the first in the file, which has a method's own paper, and its usual protocol, before
    repetitions and replications. What is only recalled, or of a re-implementation, is never shown.
    """

    def misfits(claim: Claim) -> tuple[bool, ...]:
        kind, rules = network and network_kind(network), protocol and without_network(protocol)
        whitened_otherwise = pixels is not None and claim.pixels not in ("unknown", pixels)
        other_rules, other_kind = without_network(claim.protocol) != rules, network_kind(claim.network) != kind
        return other_rules, other_kind, claim.labels != labels, whitened_otherwise

    matching = [claim for claim in claims if (claim.method, claim.ipc) == (method, ipc) and claim.is_of(dataset)]
    return min(
        (claim for claim in matching if claim.reading in ("first-hand", "second-hand")), key=misfits, default=None
    )


def claim_beside(row: Mapping[str, Any], claims: Sequence[Claim]) -> Claim | None:
    """The claim to show beside a row of a board: the registry's for a published set, else the one that fits it best.

    Args:
        row: of a board; ``registered`` is what the registry claims, see ``ROW_KEYS``.
        claims: the published accuracies, see ``claim_for``.

    Returns:
        The claim; None where there is none.
    """
    if row["registered"] is not None:
        return Claim.model_construct(**row["registered"]) if row["registered"] else None
    return claim_for(claims, *(row[key] for key in _CLAIM_KEYS))


def differences(claim: Claim, network: str | None, labels: str | None, pixels: str | None = None) -> list[str]:
    """What a reader must know of a claim beside a score: ``mismatches``, and whether it is the best of several."""
    best = [claim.selection.replace("-", " ")] if claim.selection.startswith("best") else []
    return mismatches(claim, network, labels, pixels) + best


def mismatches(claim: Claim, network: str | None, labels: str | None, pixels: str | None) -> list[str]:
    """How a claim's network, norm, labels or pixel space differ from a score's."""
    notes = []
    if network and network_kind(claim.network) != network_kind(network):
        notes.append(claim.network)
    elif network and claim.norm not in ("unknown", network_norm(network)):
        notes.append(f"{claim.norm} norm")
    if labels and claim.labels != labels:
        notes.append(f"{claim.labels} labels")
    if pixels and claim.pixels not in ("unknown", pixels):
        notes.append(f"{claim.pixels} pixels")
    return notes


def network_kind(name: str) -> str:
    """A network's name without depth, width, norm and pooling: ConvNet, ResNet, MLP.

    >>> network_kind("ConvNetD3BN"), network_kind("ResNet18_AP")
    ('ConvNet', 'ResNet18')
    """
    match = re.match(r"ConvNet|[A-Za-z]+\d*", name.replace("BN", ""))
    return match[0] if match else name


def network_norm(name: str) -> str:
    """The norm that a network's name means: what it says, else none in LeNet, AlexNet and MLP, and instance norm."""
    if "BN" in name:
        return "batch"
    if "NN" in name or network_kind(name) in ("LeNet", "AlexNet", "MLP"):
        return "none"
    return "layer" if "LN" in name or name == "ViT" else "group" if "GN" in name else "instance"
