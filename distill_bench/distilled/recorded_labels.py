"""Soft labels recorded epoch by epoch, each with the view of the image that the teacher saw.

A recording is the ``relabel.*`` tensors of a set. What an image looks like in an epoch depends on nothing but them, so
any process sees the same views, in whatever order and batches it trains. Source: Shen & Xing, "A Fast Knowledge
Distillation Framework for Visual Recognition" (ECCV 2022); SRe2L records CutMix with it. A label is the teacher's
logits; or two numbers, however many classes there are: the distance-based representation of Tran et al., "Enhancing
Dataset Distillation via Non-Critical Region Refinement" (CVPR 2025).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentParams
from distill_bench.errors import DataError
from distill_bench.runtime.device import take

PREFIX = "relabel."
LOGITS, CLASSES, DISTANCES = "logits", "classes", "distances"
FARTHEST = 30.0
"""The most that a recorded distance is, in nats."""
RecordedKind = Literal["recorded", "distances"]
"""Of labels that are recorded: logits, or distances to two classes."""
RECORDED_KINDS = get_args(RecordedKind)
_TYPES = {
    "tiles": torch.int16,
    "crops": torch.int16,
    "mirrored": torch.bool,
    "partners": torch.int32,
    "boxes": torch.int16,
    "weights": torch.float32,
}
_LARGEST = torch.finfo(torch.float16).max
_SAID: dict[RecordedKind, str] = {"recorded": LOGITS, "distances": DISTANCES}


@dataclass(frozen=True)
class RecordedLabels:
    """Views and labels of n images over e epochs.

    Attributes:
        tensors: the fields of ``AugmentParams``, each [e, n, …], with partners as indices of images; and ``logits``,
            float16 [e, n, k], with ``classes``, int16 [e, n, k], where only the k largest are kept; or ``distances``,
            float16 [e, n, 2], of the view's own class and its partner's.
        class_count: how many classes there are.
    """

    tensors: Mapping[str, Tensor]
    class_count: int

    @classmethod
    def empty(
        cls,
        epochs: int,
        images: int,
        class_count: int,
        top: int = 0,
        tiles: int = 1,
        kind: RecordedKind = "recorded",
    ) -> "RecordedLabels":
        """Room for a recording: of the ``top`` largest logits, or all where that is 0; or of distances."""
        widths = {"tiles": (tiles**2,), "crops": (4,), "boxes": (4,)}
        tensors = {
            name: torch.zeros(epochs, images, *widths.get(name, ()), dtype=kind) for name, kind in _TYPES.items()
        }
        numbers = 2 if kind == "distances" else top or class_count
        tensors[_SAID[kind]] = torch.zeros(epochs, images, numbers, dtype=torch.float16)
        if top and kind == "recorded":
            tensors[CLASSES] = torch.zeros(epochs, images, top, dtype=torch.int16)
        return cls(tensors, class_count)

    @classmethod
    def stored(cls, tensors: Mapping[str, Tensor], class_count: int) -> "RecordedLabels":
        """The recording in a set's stored tensors.

        Raises:
            DataError: tensors are missing, or not such as ``empty`` makes, or hold values that lead nowhere.
        """
        own = {name.removeprefix(PREFIX): each for name, each in tensors.items() if name.startswith(PREFIX)}
        kind: RecordedKind = "distances" if DISTANCES in own else "recorded"
        missing = sorted({*_TYPES, _SAID[kind]} - set(own))
        if missing:
            raise DataError(f"a recording lacks {', '.join(PREFIX + name for name in missing)}.")
        epochs, images, width = (*own[_SAID[kind]].shape, 0, 0, 0)[:3]
        top, tiles = width if CLASSES in own else 0, own["tiles"].shape[2:].numel()
        with torch.device("meta"):
            model = cls.empty(epochs, images, class_count, top, math.isqrt(tiles), kind).tensors
        for name, each in own.items():
            if name not in model or (each.dtype, each.shape) != (model[name].dtype, model[name].shape):
                wanted = f"{model[name].dtype} {tuple(model[name].shape)}" if name in model else "no such tensor"
                raise DataError(f"{PREFIX}{name} is {each.dtype} {tuple(each.shape)}; it should be {wanted}.")
        for name, most in (("partners", images), (CLASSES, class_count), ("tiles", tiles)):
            if name in own and not (own[name].numel() and 0 <= int(own[name].min()) <= int(own[name].max()) < most):
                raise DataError(f"{PREFIX}{name} has values outside 0 … {most - 1}.")
        weights, crops, said = own["weights"], own["crops"], own[_SAID[kind]]
        low, high = (0.0, FARTHEST) if kind == "distances" else (-_LARGEST, _LARGEST)
        for name, right in (
            ("weights", ((weights >= 0) & (weights <= 1)).all()),
            ("crops", (crops[..., 2:] > 0).all()),
            (_SAID[kind], all(((epoch >= low) & (epoch <= high)).all() for epoch in said)),
        ):
            if not right:
                raise DataError(f"{PREFIX}{name} has values that no recording has.")
        return cls(own, class_count)

    def check(self, count: int, height: int, width: int, kind: str) -> None:
        """Whether this is a recording of a kind, of ``count`` images of a size.

        Raises:
            DataError: it is not.
        """
        if self.kind != kind:
            raise DataError(f"label_kind is {kind!r}; the recording has {PREFIX}{_SAID[self.kind]}.")
        if self.images != count:
            raise DataError(f"labels are recorded for {self.images} images; the set has {count}.")
        side = math.isqrt(self.tensors["tiles"].shape[-1])
        if height % side or width % side:
            raise DataError(f"the recording cuts images of {height}×{width} into {side}×{side} tiles, which cannot be.")

    def to_store(self) -> dict[str, Tensor]:
        """The tensors by their names in a set."""
        return {PREFIX + name: tensor for name, tensor in self.tensors.items()}

    @property
    def kind(self) -> RecordedKind:
        return "distances" if DISTANCES in self.tensors else "recorded"

    @property
    def epochs(self) -> int:
        return len(self.tensors[_SAID[self.kind]])

    @property
    def images(self) -> int:
        return self.tensors[_SAID[self.kind]].shape[1]

    def write(self, epoch: int, indices: Int64[Tensor, " b"], drawn: AugmentParams, said: Float[Tensor, "b k"]) -> None:
        """Record a batch: ``indices`` of its images, its views, and the logits or distances that the teacher says."""
        for name, kind in _TYPES.items():
            values = indices[drawn.partners] if name == "partners" else getattr(drawn, name)
            self.tensors[name][epoch, indices] = values.to(kind)
        said = said.cpu()
        if CLASSES in self.tensors:
            said, classes = said.topk(self.tensors[CLASSES].shape[2], dim=1)
            self.tensors[CLASSES][epoch, indices] = classes.to(torch.int16)
        self.tensors[_SAID[self.kind]][epoch, indices] = said.to(torch.float16)

    def views(self, epoch: int, indices: Int64[Tensor, " b"]) -> AugmentParams:
        """The views of images in an epoch; their ``partners`` are indices of images."""
        each = {name: self.tensors[name][epoch, indices] for name in _TYPES}
        wide = {name: value.long() for name, value in each.items() if name not in ("mirrored", "weights")}
        return AugmentParams(**(each | wide), reflected=False)

    def logits(self, epoch: int, indices: Int64[Tensor, " b"]) -> Float[Tensor, "b classes"]:
        """The recorded logits, float32; those that are not stored are −∞: the others share all probability."""
        values = self.tensors[LOGITS][epoch, indices].float()
        if CLASSES not in self.tensors:
            return values
        whole = torch.full((len(values), self.class_count), -torch.inf)
        return whole.scatter(1, self.tensors[CLASSES][epoch, indices].long(), values)

    def distances(self, epoch: int, indices: Int64[Tensor, " b"]) -> Float[Tensor, "b 2"]:
        """The recorded distances, float32, of the views to their own class and to their partner's."""
        return self.tensors[DISTANCES][epoch, indices].float()

    def replay(
        self, images: Float[Tensor, "n c h w"], epoch: int, indices: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The views of the images at ``indices`` as the teacher saw them."""
        drawn = self.views(epoch, indices)
        own = views.single(drawn, take(images, indices))
        if torch.equal(drawn.partners, indices):
            return own
        other = views.single(self.views(epoch, drawn.partners), take(images, drawn.partners))
        return views.mixed(drawn, own, other)
