"""Published sets by name: which files one consists of, where they lie, how they are read, what is claimed for it.

``registry.toml`` beside this file is the one of the package. A user's own has the same form: a table an id.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, SpaceKind, ZcaInput, pixel_space_of
from distill_bench.distilled.budget import Budget
from distill_bench.errors import DataError, UsageError, brief, describe, did_you_mean, unknown
from distill_bench.evaluation import PROTOCOLS
from distill_bench.evaluation.protocol import is_known
from distill_bench.hub import ImportOptions, all_formats
from distill_bench.runtime.files import check_regular
from distill_bench.runtime.names import LONGEST_PATH, checked_file_name, checked_name
from distill_bench.runtime.settings import setting

BUILT_IN = Path(__file__).with_name("registry.toml")
ID = re.compile(r"[a-z0-9][a-z0-9._-]*")
OWN_FORMAT = "distill-bench"
EVERYTHING = "."
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def checked_url(url: str) -> str:
    """Raises ValueError unless files may be fetched from there: by https, or by http from this machine."""
    parts = urlsplit(checked_name(url, "the address", LONGEST_PATH))
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return url
    raise ValueError(f"{url}: give an https address (http is for 127.0.0.1 alone)")


def checked_path(path: str) -> str:
    """Raises ValueError unless a path stays in the folder that it starts from."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or ":" in path or ".." in parts or "\0" in path:
        raise ValueError(f"{path}: give a relative path, such as IPC1/images.pt")
    return path


def _checked_remote_path(path: str) -> str:
    """Raises ValueError as ``checked_path``, and where the last part cannot be the name of a file here."""
    checked_file_name(PurePosixPath(checked_path(path)).name, "the file's name")
    return checked_name(path, "the path", LONGEST_PATH)


def checked_id(name: str) -> str:
    """Raises ValueError unless a name can be an id, which files and folders are called by."""
    if not ID.fullmatch(name):
        raise ValueError("an id has small letters, digits, dots, hyphens and underscores, as in dm-cifar10-ipc1")
    return checked_file_name(name, "the id")


def _checked_member(member: str) -> str:
    return member if member == EVERYTHING else checked_path(member)


def _checked_protocol(name: str) -> str:
    """Raises ValueError unless a name is of protocols of this project: one, all parts of one, or one changed."""
    if not is_known(name):
        raise ValueError(unknown("protocol", name, PROTOCOLS))
    return name


def _known(kind: str, names: Mapping[str, Any] | tuple[str, ...]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in names:
            close = did_you_mean(name, names).strip()
            raise ValueError(f"unknown {kind} {name!r}; known: {', '.join(names)}" + (f" ({close})" if close else ""))
        return name

    return AfterValidator(check)


Url = Annotated[str, AfterValidator(checked_url)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RegistryModel(BaseModel):
    """Base of everything in a registry: unchangeable, unknown keys forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class RemoteFile(RegistryModel):
    """A file of a published set.

    Attributes:
        path: where it lies in the folder that its page shows; its last part is the name it is kept under.
        urls: from where it can be downloaded, in order of preference; none: it is fetched by hand.
        sha256, bytes: of the file, where they are known. A sum that is not is pinned at the first download.
        member: of an archive: the file in it that is meant, by its exact name; ``.``: all of it, a folder of pictures.
    """

    path: Annotated[str, AfterValidator(_checked_remote_path)]
    urls: tuple[Url, ...] = ()
    sha256: Sha256 | None = None
    bytes: PositiveInt | None = None
    member: Annotated[str, AfterValidator(_checked_member)] | None = None

    @property
    def name(self) -> str:
        """What it is kept under."""
        return PurePosixPath(self.path).name


class Space(RegistryModel):
    """The pixel space of a set's images; the dataset's usual constants where none are given."""

    kind: SpaceKind
    zca_eps: float = 0.1
    zca_input: ZcaInput = "unit"
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def of(self, data: Dataset) -> PixelSpace:
        """The full description."""
        usual = pixel_space_of(data, self.kind, self.zca_eps, self.zca_input)
        given = {name: value for name in ("mean", "std") if (value := getattr(self, name)) is not None}
        return PixelSpace.model_validate(usual.model_dump() | given)


class CsvClaim(RegistryModel):
    """A claim in the leaderboard's ``published.csv``: the line of this method, dataset, IPC and values."""

    paper: str
    protocol: str | None = None
    network: str | None = None
    selection: str | None = None


class InlineClaim(RegistryModel):
    """A claim that stands here: an accuracy in percent, and where it comes from.

    Attributes:
        data: what it was tested on, as boards show it; the test split of the entry's dataset unless given.
    """

    accuracy: Annotated[float, Field(ge=0, le=100)]
    std: Annotated[float, Field(ge=0)] | None = None
    networks: PositiveInt | None = None
    network: str | None = None
    labels: str | None = None
    data: Annotated[str, AfterValidator(checked_name)] | None = None
    source: str


class StoredFigure(RegistryModel):
    """The mean of the accuracies that a release's file has, over all its sets, in percent."""

    accuracy: Annotated[float, Field(ge=0, le=100)]
    std: Annotated[float, Field(ge=0)]
    networks: PositiveInt
    network: str


class Entry(RegistryModel):
    """A published set.

    Attributes:
        ipc: images per class, or instead
        fraction: of the training split.
        size: the side in pixels that images of the dataset are brought to, where that is asked of it.
        importer: the format's name; ``distill-bench``: this project's own format, nothing to import.
        protocol: the paper's, under which the claim was made or which comes closest.
        claim: ``stored``: the accuracies in the file itself; else a line of ``published.csv``, or stated here.
        stored: with the claim ``stored``, for results that were recorded without the accuracies in the file.
        licence: of the release, where its authors name one.
        page: where the files are shown.
        manual_steps: how to come by a file that has no address, beyond opening the page.
        note: what a reader must know.
        superseded_by: the id of the set that replaces this one.
    """

    method: Annotated[str, AfterValidator(checked_name)]
    dataset: Annotated[str, AfterValidator(checked_name)]
    ipc: PositiveInt | None = None
    fraction: Annotated[float, Field(gt=0, le=1)] | None = None
    size: PositiveInt | None = None
    paper: str | None = None
    files: Annotated[tuple[RemoteFile, ...], Field(min_length=1)]
    importer: Annotated[str, _known("importer", (OWN_FORMAT, *all_formats()))] = OWN_FORMAT
    options: ImportOptions = ImportOptions()
    space: Space | None = None
    protocol: Annotated[str, AfterValidator(_checked_protocol)]
    claim: Literal["stored"] | CsvClaim | InlineClaim | None = None
    stored: StoredFigure | None = None
    licence: str | None = None
    page: Url
    manual_steps: str | None = None
    note: str | None = None
    superseded_by: str | None = None

    @property
    def budget(self) -> str:
        """As ``Result.budget``."""
        return str(Budget(self.ipc, self.fraction))

    @model_validator(mode="after")
    def _fits_together(self) -> "Entry":
        if (self.ipc is None) == (self.fraction is None):
            raise ValueError("give ipc, images per class, or fraction, of the training split: one of the two")
        names = [file.name for file in self.files]
        if len(set(names)) < len(names):
            raise ValueError(f"two files have one name: {', '.join(sorted(names))}")
        if self.importer == OWN_FORMAT and (len(names) > 1 or not names[0].endswith(".safetensors")):
            raise ValueError(f"the importer {OWN_FORMAT} is for one .safetensors file; give that of {', '.join(names)}")
        return self


def read_registry(path: Path) -> dict[str, Entry]:
    """The entries of a registry file by id, in file order.

    Raises:
        DataError: it cannot be read, or an entry is invalid; every problem is named with its entry.
    """
    try:
        check_regular(path)
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"the registry {path} cannot be read: {brief(error)}.") from error
    entries, problems = {}, []
    for name, table in tables.items():
        try:
            checked_id(name)
            entries[name] = Entry.model_validate(table)
        except ValidationError as error:
            problems.append(f"[{name}]: {describe(error, Entry.model_fields)}")
        except ValueError as error:
            problems.append(f"[{name}]: {error}")
    problems += [
        f"[{name}]: superseded_by {entry.superseded_by}, which is not in this registry"
        for name, entry in entries.items()
        if entry.superseded_by not in (None, *tables)
    ]
    if problems:
        raise DataError(f"the registry {path} is invalid. {'; '.join(problems)}.")
    return entries


@cache
def _read_once(path: Path) -> dict[str, Entry]:
    return read_registry(path)


def own_registry(given: Path | None = None) -> Path | None:
    """The user's own registry: the one given, else that of ``DISTILL_BENCH_REGISTRY``; None without either."""
    named = setting("registry")
    return given or (Path(os.path.expanduser(named)) if named else None)


def load_registry(own: Path | None = None) -> dict[str, Entry]:
    """All published sets that are known: a registry of one's own first, then those of the package.

    Args:
        own: a TOML file; that named by the environment variable ``DISTILL_BENCH_REGISTRY`` unless given.

    Returns:
        The entries by id.

    Raises:
        DataError: a registry is missing or invalid.
    """
    path = own_registry(own)
    entries = {} if path is None else read_registry(path)
    return entries | {name: entry for name, entry in _read_once(BUILT_IN).items() if name not in entries}


def published(name: str, own: Path | None = None) -> Entry:
    """The entry of an id.

    Raises:
        UsageError: there is none.
    """
    entries = load_registry(own)
    if name not in entries:
        close = [known for known in entries if known.split("-")[0] == name.split("-")[0]][:8]
        hint = f" There are {', '.join(close)}." if close else did_you_mean(name, entries)
        raise UsageError(
            f"no published set is called {name!r}.{hint} See distill-bench list published. Nor is there a file of that "
            "name here."
        )
    return entries[name]
