"""Any other arrays, described by the user: KIP and RFAD's .npz files, channels-last images, real-valued targets.

Forms, from the releases of KIP (images NHWC, labels real-valued) and yolky/RFAD c9ef03e (images NCHW, one-hot − 0.1).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.hub.convert.format import OWN_OPTIONS, Format
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile, not_read
from distill_bench.hub.convert.targets import read_targets
from distill_bench.runtime.tensors import as_tensor

_IDC_WARNING = (
    "each image is one image: those in IDC's and DREAM's data.pt hold several smaller ones (`factor=2` reads them so)"
)
_RATES = ("lr", "syn_lr", "learning_rate")
"""What a learned rate is called in a dictionary."""


class Arrays(Format):
    """One dictionary of tensors, as an .npz file is, or a bare list of two."""

    name = "arrays"
    general = True
    takes = OWN_OPTIONS

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return len(files) == 1 and len(_arrays(files[0].content)) > 0

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """The one set. Raises UsageError if it is not said which array is which, or what a label matrix means."""
        content, where, classes = files[0].content, str(files[0].path), len(dataset.class_names)
        arrays = _arrays(content)
        images = _chosen(arrays, "images", options.images_key, (3, 4))
        ordered = options.labels == "order" and not ({"labels", options.labels_key} & arrays.keys())
        labels = None if ordered else _chosen(arrays, "labels", options.labels_key, (1, 2))
        rate = next((name for name in _RATES if name in arrays and arrays[name].numel() == 1), None)
        pair = type(content) in (list, tuple) and arrays[images].is_floating_point()
        given = None if labels is None else arrays[labels]
        targets = read_targets(given, len(arrays[images]), classes, options, where)
        return [
            ImportedTensors(
                arrays[images],
                targets,
                "custom",
                learning_rate=float(arrays[rate]) if rate and options.learning_rate is None else options.learning_rate,
                assumptions=(*targets.assumptions, *([_IDC_WARNING] if pair and options.factor is None else [])),
                remarks=not_read(content, (images, labels, rate)),
                pair=pair,
            )
        ]


FORMAT = Arrays()


def _arrays(content: Any) -> dict[str, Tensor]:
    """The tensors of a dictionary or list by name; a list of numbers in it, and a rate, is one too."""
    if isinstance(content, (list, tuple)):
        content = {str(index): item for index, item in enumerate(content)}
    items = content.items() if isinstance(content, dict) else ()
    numbers = {str(name): item for name, item in items if isinstance(item, Tensor) or _are_numbers(item)}
    numbers |= {name: [item] for name, item in items if name in _RATES and type(item) in (int, float)}
    return {name: as_tensor(item, name) for name, item in numbers.items()}


def _are_numbers(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and bool(item) and all(type(each) in (int, float) for each in item)


def _chosen(arrays: dict[str, Tensor], role: str, key: str | None, dimensions: tuple[int, ...]) -> str:
    """The name of the array of a role."""
    listed = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in arrays.items())
    if key is not None:
        if key not in arrays or arrays[key].ndim not in dimensions:
            raise UsageError(f"--{role}-key {key}: not an array of {role}. There are: {listed}.")
        return key
    fitting = [name for name, tensor in arrays.items() if tensor.ndim in dimensions and name not in _RATES]
    if role in fitting:
        return role
    if len(fitting) == 1:
        return fitting[0]
    hint = ", or `labels=order` where there are none; labels are class numbers, not text" if role == "labels" else ""
    raise UsageError(f"which array holds {role}? There are: {listed}. Say --{role}-key NAME{hint}.")
