"""Any other arrays, described by the user: KIP and RFAD's .npz files, channels-last images, real-valued targets.

Forms, from the releases of KIP (images NHWC, labels real-valued) and yolky/RFAD c9ef03e (images NCHW, one-hot − 0.1).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from distill_bench.errors import DataError, UsageError
from distill_bench.hub.loose_tensors import whole_numbers
from distill_bench.hub.released import Foreign, Options, Released, class_order

NAME = "arrays"
IDC_WARNING = (
    "each image is one image: those in IDC's and DREAM's data.pt hold several smaller ones, to be unpacked first"
)


def recognises(files: Sequence[Foreign]) -> bool:
    """One dictionary of tensors, as an .npz file is, or a bare list of two."""
    return len(files) == 1 and len(_arrays(files[0].content)) > 0


def read(files: Sequence[Foreign], classes: int, options: Options) -> list[Released]:
    """The one set.

    Raises:
        UsageError: it is not said which array is which, or what a label matrix means.
        DataError: the arrays do not fit together.
    """
    arrays = _arrays(files[0].content)
    images = _chosen(arrays, "images", options.images_key, (4,))
    assert images is not None
    images = images.float() if images.is_floating_point() else images
    if options.layout == "nhwc":
        images = images.permute(0, 3, 1, 2).contiguous()
    targets = None if options.labels == "order" else _chosen(arrays, "labels", options.labels_key, (1, 2))
    if targets is None:
        labels, matrix = class_order(images, classes, files), None
    elif targets.ndim == 1:
        labels, matrix = whole_numbers(targets, str(files[0].path)), None
    else:
        labels, matrix = targets.argmax(dim=1), targets.float()
    if len(labels) != len(images):
        raise DataError(f"{files[0].path}: {len(images)} images, but {len(labels)} labels.")
    if matrix is not None and options.labels not in ("logits", "probabilities", "argmax"):
        raise UsageError(
            f"the labels are a matrix {tuple(matrix.shape)} with values from {matrix.min():.3g} to {matrix.max():.3g}. "
            "Say what they are: --labels logits, probabilities, or argmax (regression targets, as KIP, RCIG and RFAD "
            "have them: only the largest counts)."
        )
    soft = matrix is not None and options.labels in ("logits", "probabilities")
    return [
        Released(
            images,
            labels,
            "custom",
            soft_labels=matrix if soft else None,
            label_kind=options.labels if soft else "hard",  # type: ignore[arg-type]
            learning_rate=options.learning_rate,
            assumptions=(IDC_WARNING,) if isinstance(files[0].content, (list, tuple)) else (),
        )
    ]


def _arrays(content: Any) -> dict[str, Tensor]:
    if isinstance(content, (list, tuple)):
        content = {str(index): item for index, item in enumerate(content)}
    return (
        {str(k): v.detach() for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, dict) else {}
    )


def _chosen(arrays: dict[str, Tensor], role: str, key: str | None, dimensions: tuple[int, ...]) -> Tensor | None:
    listed = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in arrays.items())
    if key is not None:
        if key not in arrays or arrays[key].ndim not in dimensions:
            raise UsageError(f"--{role}-key {key}: not an array of {role}. There are: {listed}.")
        return arrays[key]
    fitting = [name for name, tensor in arrays.items() if tensor.ndim in dimensions]
    if role in fitting:
        return arrays[role]
    if len(fitting) == 1:
        return arrays[fitting[0]]
    hint = " or --labels order where there are none" if role == "labels" else ""
    raise UsageError(f"which array holds {role}? There are: {listed}. Say --{role}-key NAME{hint}.")
