"""MTT, TESLA and FTD: ``images_*.pt`` [n, c, h, w], ``labels_*.pt`` [n], and sometimes the learned rate.

Form, from distill.py of GeorgeCazenavette/mtt-distillation 50dccea: plain tensors; the learned rate was only logged.
DC-BENCH's real images come the same way, with class numbers as floats, or without labels: see ``dcbench``.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.loose_tensors import LooseTensors, parts_of, read_loose, write_loose
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile
from distill_bench.hub.convert.writing import label_losses


class Mtt(LooseTensors, WritableFormat):
    """Images with classes, or images alone."""

    name = "mtt"

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return self.accepts(files) and not parts_of(files).is_matrix and not parts_of(files).has_float_classes

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """The one set; one of integers, which are pictures, is nobody's in particular."""
        learned = parts_of(files).images.is_floating_point()
        suggested = ("mtt", "mtt-v1") if learned else ("custom", "standard-v1")
        return [read_loose(files, dataset, options, *suggested)]

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        return label_losses(distilled)

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        return write_loose(sets[0], sets[0].labels, out, dataset)


FORMAT = Mtt()
