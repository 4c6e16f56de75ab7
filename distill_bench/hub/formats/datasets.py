"""A folder as a dataset repository of the Hugging Face Hub: ``data/train-….parquet``, and a README that says so.

``datasets.load_dataset(FOLDER)`` reads it, and the Hub shows its rows.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.parquet import split_files
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.hf_table import as_parquet
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile
from distill_bench.hub.formats import parquet
from distill_bench.runtime.text import for_markdown

TABLE = "data/train-00000-of-00001.parquet"
VIEWER = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*.parquet\n"
"""Front matter of a README, by which the Hub shows the table and nothing else that lies there."""
_README = "---\n{viewer}---\n\n# {title}\n\nPictures of a distilled set, {count} of them, with their classes.\n"


class Datasets(WritableFormat):
    """A folder of one table."""

    name = "datasets"
    takes = ()
    needs_pixels = True

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return len(files) == 1 and files[0].path.is_dir() and len(split_files(files[0].path)[0]) == 1

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        (table,), _ = split_files(files[0].path)
        return parquet.FORMAT.read([ReleasedFile(table)], dataset, options)

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        yield from parquet.FORMAT.losses(distilled, dataset)

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        (distilled,) = sets
        card = distilled.card
        title = for_markdown(f"{card.method} on {card.source.name}, {card.ipc} per class")
        yield out / TABLE, as_parquet(distilled, dataset)
        text = _README.format(viewer=VIEWER, title=title, count=len(distilled.images))
        yield out / "README.md", text.encode()


FORMAT = Datasets()
