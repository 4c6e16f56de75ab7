"""What a named dataset is, in one place: how it is loaded, and what a reader must be told of its terms and authors."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from distill_bench.datasets.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class DatasetInfo(ABC):
    """A named dataset, before its files are opened.

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

    name: str
    side: int | None
    title: str
    licence: str
    terms: str
    page: str
    citation: str

    @abstractmethod
    def load(self, size: int | None = None) -> Dataset:
        """The dataset, its images brought to ``size`` pixels a side if one is given."""
