"""DC-BENCH's selected real images: ``CIFAR10_IPC1_images.pt`` with class numbers as floats.

Form, from data_loader/ of justincui03/dc_benchmark 2a57711: normalised images; k-means has float32 labels, random none.
"""

from collections.abc import Sequence

from distill_bench.datasets.dataset import Dataset
from distill_bench.hub.convert.loose_tensors import LooseTensors, parts_of, read_loose
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile


class DcBench(LooseTensors):
    """Images with class numbers that are floats."""

    name = "dcbench"

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return self.accepts(files) and parts_of(files).has_float_classes

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        return [read_loose(files, dataset, options, "selection", "dsa-v1")]


FORMAT = DcBench()
