"""What a named dataset is, in one place: how it is loaded, and what a reader must be told of its terms and authors."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict

from distill_bench.datasets.dataset import Dataset
from distill_bench.runtime.files import read_toml


class DatasetInfo(BaseModel, ABC):
    """A named dataset, before its files are opened: a table of ``named.toml``.

    Attributes:
        name: as ``load_dataset`` takes it.
        side: the images' side in pixels where no other is asked for; None if that has to be.
        title: as its authors call it.
        licence: the identifier Hugging Face has for it; ``unknown`` where its authors name none, ``other`` for terms
            without an identifier.
        terms: the licence in words, with what is in doubt.
        page: where it is published.
        citation: how its authors are cited.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    side: int | None = None
    title: str
    licence: str
    terms: str
    page: str
    citation: str

    @property
    @abstractmethod
    def class_count(self) -> int:
        """How many classes it has."""

    @abstractmethod
    def load(self, size: int | None = None) -> Dataset:
        """The dataset, its images brought to ``size`` pixels a side if one is given."""


_Info = TypeVar("_Info", bound=DatasetInfo)


def named(kind: type[_Info], group: str) -> dict[str, _Info]:
    """The datasets of one group of ``named.toml``, by name, each of the class ``kind``."""
    tables = read_toml(Path(__file__).with_name("named.toml"))[group]
    return {
        name: kind.model_validate({"name": name} | tables[own.pop("like", name)] | own) for name, own in tables.items()
    }
