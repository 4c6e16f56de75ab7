"""Datasets by name: built in, or the user's own folders, parquet files and NumPy archives."""

from distill_bench.datasets.dataset import Dataset, Split, is_own
from distill_bench.datasets.load import dataset_info, list_datasets, load_dataset, paths_of, usual_side
