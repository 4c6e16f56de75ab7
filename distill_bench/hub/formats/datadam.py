"""DataDAM: ``syn_data_<dataset>_ipc_<n>.pt``, a dictionary whose ``data`` is one pair of images and labels.

Form, from the readme of DataDistillation/DataDAM 0f6ea09: ``torch.load(file)["data"]`` is ``[images, labels]``. Whether
the images are whitened is an open question there (its issue 13), so the pixel space is asked for.
"""

from collections.abc import Sequence

from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.hub.convert.format import Format
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile, not_read
from distill_bench.hub.convert.targets import read_targets


class DataDam(Format):
    """One file, a dictionary whose ``data`` is a pair of tensors."""

    name = "datadam"

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        content = files[0].content if len(files) == 1 else None
        data = content.get("data") if isinstance(content, dict) else None
        return isinstance(data, (list, tuple)) and len(data) == 2 and all(isinstance(item, Tensor) for item in data)

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        content = files[0].content
        images, labels = content["data"]
        classes = len(dataset.class_names)
        return [
            ImportedTensors(
                images,
                read_targets(labels.detach(), len(images), classes, options, str(files[0].path)),
                "datadam",
                "datadam-v1",
                remarks=not_read(content, ("data",)),
            )
        ]


FORMAT = DataDam()
