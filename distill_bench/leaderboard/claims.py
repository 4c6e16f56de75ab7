"""Accuracies that papers claim, read from ``published.csv``."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeFloat, PositiveInt, ValidationError

from distill_bench.errors import DataError

Blank = BeforeValidator(lambda text: None if text == "" else text)
Name = Annotated[str, Field(min_length=1)]


class Claim(BaseModel):
    """One published accuracy: mean and std in percent, under the named protocol, as ``source`` reports it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Name
    dataset: Name
    ipc: Annotated[PositiveInt | None, Blank]  # blank: the full training set
    accuracy: Annotated[float, Field(ge=0, le=100)]
    std: Annotated[NonNegativeFloat | None, Blank]
    protocol: Name
    network: Name
    norm: Name
    labels: Literal["hard", "soft", "teacher"]
    selection: Literal["last", "best-on-test", "best-of-augmentations", "unknown"]
    source: Name


def load_claims(path: Path) -> list[Claim]:
    """The claims of a CSV file, in file order.

    Raises:
        DataError: the file is unreadable, a row breaks the schema, or a row repeats another's method, dataset, ipc,
            protocol and source; the message names the file and the line.
    """
    claims: list[Claim] = []
    first_line: dict[tuple, int] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            for record in reader:
                claim = _claim(record, f"{path} line {reader.line_num}")
                key = (claim.method, claim.dataset, claim.ipc, claim.protocol, claim.source)
                if key in first_line:
                    raise DataError(f"{path} line {reader.line_num} repeats line {first_line[key]}: {key}.")
                first_line[key] = reader.line_num
                claims.append(claim)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read published accuracies from {path}: {error}") from error
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
    claims: Sequence[Claim], method: str, dataset: str, ipc: int | None, protocol: str | None = None
) -> Claim | None:
    """The claim to show beside a score: one under ``protocol`` if there is any, else the first in file order.

    Two generations of some baselines circulate (``random`` with and without augmentation), so a table of a paper's
    protocol must find that protocol's figure, and the file lists first the one nearest to the default protocols.
    """
    found = [claim for claim in claims if (claim.method, claim.dataset, claim.ipc) == (method, dataset, ipc)]
    return next((claim for claim in found if claim.protocol == protocol), found[0] if found else None)
