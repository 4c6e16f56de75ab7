"""Sets that come as a file a tensor: which file holds images, labels and the learning rate is told from the shapes."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from distill_bench.distilled.distilled_set import LabelKind
from distill_bench.errors import DataError
from distill_bench.hub.formats.released import ImportedTensors, Options, ReleasedFile
from distill_bench.hub.formats.targets import read_targets
from distill_bench.runtime.tensors import is_zeros_and_ones

ASSUMED_RATE = "learning rate 0.01: no file has the learned one"


@dataclass(frozen=True)
class Parts:
    """Images [n, c, h, w]; labels [n] or [n, k], or None; a learning rate, or None; the file that has the labels."""

    images: Tensor
    labels: Tensor | None = None
    rate: float | None = None
    where: str = ""

    @property
    def is_matrix(self) -> bool:
        """Whether the labels are a matrix of other numbers than 0 and 1, which would be one-hot rows."""
        labels = self.labels
        return labels is not None and labels.ndim == 2 and labels.shape[1] > 1 and not is_zeros_and_ones(labels)

    @property
    def logits(self) -> LabelKind | None:
        """``logits`` where a matrix can be nothing else: some are negative, and a rate was learned with them."""
        return "logits" if self.labels is not None and self.rate is not None and bool((self.labels < 0).any()) else None


def are_loose_tensors(files: Sequence[ReleasedFile]) -> bool:
    """Whether every file is one tensor and exactly one of them holds images. A single .npy file is for ``arrays``."""
    if len(files) == 1 and files[0].path.suffix.lower() == ".npy":
        return False
    contents = [file.tensor for file in files]
    return (
        all(item is not None for item in contents)
        and sum(item.ndim in (3, 4) for item in contents if item is not None) == 1
    )


def parts_of(files: Sequence[ReleasedFile]) -> Parts:
    """The role of each file.

    Raises:
        DataError: two files have the same role, or one has none.
    """
    roles: dict[str, tuple[ReleasedFile, Tensor]] = {}
    for file in files:
        tensor = file.tensor
        assert tensor is not None
        role = {4: "images", 3: "images", 2: "labels", 1: "labels", 0: "rate"}.get(tensor.ndim)
        if tensor.ndim == 1 and len(tensor) == 1 and tensor.is_floating_point():
            role = "rate"
        if role is None or role in roles:
            also = f" {roles[role][0].path} has the {role} already." if role in roles else ""
            raise DataError(
                f"{file.path}: a tensor of shape {tuple(tensor.shape)}.{also} A set is one tensor of images "
                "[n, c, h, w], at most one of labels [n] or [n, classes], and at most one learning rate."
            )
        roles[role] = file, tensor
    file, labels = roles.get("labels", (files[0], None))
    rate = float(roles["rate"][1]) if "rate" in roles else None
    return Parts(roles["images"][1], labels, rate, str(file.path))


def read_loose(
    files: Sequence[ReleasedFile], classes: int, options: Options, method: str, protocol: str, *, ordered: bool = False
) -> ImportedTensors:
    """The one set, whose method and protocol its form suggests.

    Args:
        ordered: see ``read_targets``.
    """
    parts = parts_of(files)
    usual = parts.logits if ordered else None
    targets = read_targets(parts.labels, len(parts.images), classes, options, parts.where, usual=usual, ordered=ordered)
    rate = options.learning_rate if options.learning_rate is not None else parts.rate
    assumed = (ASSUMED_RATE,) if rate is None else ()
    assumptions = (*targets.assumptions, *assumed) if ordered else (*assumed, *targets.assumptions)
    return ImportedTensors(parts.images, targets, method, protocol, learning_rate=rate, assumptions=assumptions)
