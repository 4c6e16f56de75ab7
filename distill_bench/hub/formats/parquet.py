"""One parquet file as Hugging Face has them: a column of PNG files, a column of labels, class names in the schema."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.parquet import parquet_dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.hf_table import as_parquet
from distill_bench.errors import DataError
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.released_file import PARQUET, ImportedTensors, ImportOptions, ReleasedFile, Targets
from distill_bench.hub.convert.writing import label_losses, pixel_losses, rate_losses


class Parquet(WritableFormat):
    """A file of pictures and labels."""

    name = "parquet"
    takes = ()
    suffixes = (PARQUET,)
    needs_pixels = True

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return len(files) == 1 and files[0].path.suffix == PARQUET

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """The one set, as 8-bit pictures in the file's order.

        Raises:
            DataError: the file is no such table, or has classes that the dataset lacks.
        """
        path = files[0].path
        stored = parquet_dataset(f"parquet:{path}", path)
        labels = {name: label for label, name in enumerate(dataset.class_names)}
        if strange := [name for name in stored.class_names if name not in labels]:
            raise DataError(
                f"{path} has the class {strange[0]!r}, which {dataset.name} does not have "
                f"({', '.join(dataset.class_names[:3])} …). Give the dataset that the set was made for: `dataset`."
            )
        split = stored.load_train()
        numbers = torch.tensor([labels[name] for name in stored.class_names])[split.labels]
        images = split.images(torch.arange(len(split)))
        return [ImportedTensors(images, Targets(numbers, numbered=False), "custom", space="unit")]

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        yield from label_losses(distilled)
        yield from rate_losses(distilled)
        yield from pixel_losses(distilled, dataset)

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        yield out, as_parquet(sets[0], dataset)


FORMAT = Parquet()
