"""Datasets by name: built in, or the user's own folders, parquet files and NumPy archives."""

from distill_bench.datasets.dataset import Source, Split
from distill_bench.datasets.load import is_own, list_sources, load_source, usual_side

__all__ = ["Source", "Split", "is_own", "list_sources", "load_source", "usual_side"]
