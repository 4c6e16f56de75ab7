"""DataDAM: ``syn_data_<dataset>_ipc_<n>.pt``, a dictionary whose ``data`` is one pair of images and labels.

Form, from the readme of DataDistillation/DataDAM 0f6ea09: ``torch.load(file)["data"]`` is ``[images, labels]``. Whether
the images are whitened is an open question there (its issue 13), so the pixel space is asked for.
"""

from collections.abc import Sequence

from torch import Tensor

from distill_bench.hub.formats.released import ImportedTensors, Options, ReleasedFile, class_names_in, not_read
from distill_bench.hub.formats.targets import read_targets

NAME = "datadam"


def recognises(files: Sequence[ReleasedFile]) -> bool:
    """One file, a dictionary whose ``data`` is a pair of tensors."""
    content = files[0].content if len(files) == 1 else None
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, (list, tuple)) and len(data) == 2 and all(isinstance(item, Tensor) for item in data)


def read(files: Sequence[ReleasedFile], classes: int, options: Options) -> list[ImportedTensors]:
    """The one set."""
    content = files[0].content
    images, labels = content["data"]
    targets = read_targets(labels.detach(), len(images), classes, options, str(files[0].path))
    return [
        ImportedTensors(
            images,
            targets,
            "datadam",
            "datadam-v1",
            learning_rate=options.learning_rate,
            remarks=not_read(content, ("data",)),
            class_names=class_names_in(content),
        )
    ]
