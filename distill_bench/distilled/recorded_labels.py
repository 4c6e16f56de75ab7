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
from distill_bench.distilled.replay import ReplayRule, spread
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
_ROUNDING = 1e-2
"""How far from a probability, or a sum of some, half precision can have taken them."""


@dataclass(frozen=True)
class RecordedLabels:
    """Views and labels of n images over e epochs.

    Attributes:
        tensors: the fields of ``AugmentParams``, each [e, n, …], with partners as indices of images; what is the same
            in all epochs, or for all images too, may have one row in place of e, and of n; and ``logits``, float16
            [e, n, k], with ``classes``, int16 [e, n, k], where only the k largest are kept; or ``distances``, float16
            [e, n, 2], of the view's own class and its partner's.
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
            if name not in model or each.dtype != model[name].dtype or not _fits(name, each.shape, model[name].shape):
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

    def check(self, count: int, height: int, width: int, kind: str, rule: ReplayRule | None = None) -> None:
        """Whether this is a recording of a kind, of ``count`` images of a size, which can be replayed by a rule.

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
        for name, what in (("crops", "regions"), ("boxes", "boxes")):
            top, left, tall, wide = self.tensors[name].unbind(dim=-1)
            inside = (top < height) & (top + tall >= 0) & (left < width) & (left + wide >= 0)
            if not (inside & (tall <= height) & (wide <= width)).all():
                raise DataError(
                    f"{PREFIX}{name}: {what} that images of {height}×{width} do not have: the views are of another "
                    "dataset, or of images of another size."
                )
        if rule is not None and rule.rest == "even":
            self._check_probabilities()

    def _check_probabilities(self) -> None:
        for epoch in self.tensors[LOGITS]:
            kept = epoch.float()
            if kept.max() > 0 or kept.exp().sum(dim=-1).max() > 1 + _ROUNDING:
                raise DataError(
                    f"{PREFIX}{LOGITS} are no logarithms of probabilities, which are 0 at most and sum to 1 at "
                    "most; without these there is no rest to spread. Record them so, or give rest = none."
                )

    def compacted(self) -> "RecordedLabels":
        """The same recording; of the views' tensors, rows that are all equal are there once."""
        shorter = dict(self.tensors)
        for name in _TYPES:
            each = shorter[name]
            if name != "partners" and torch.equal(each, each[:1, :1].expand_as(each)):
                shorter[name] = each[:1, :1].clone()
            elif torch.equal(each, each[:1].expand_as(each)):
                shorter[name] = each[:1].clone()
        return RecordedLabels(shorter, self.class_count)

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

    def views(self, epoch: int | Int64[Tensor, " b"], indices: Int64[Tensor, " b"]) -> AugmentParams:
        """The views of images in an epoch, or in one each; their ``partners`` are indices of images."""
        every = {name: self.tensors[name] for name in _TYPES}
        whole = {name: all_.expand(self.epochs, self.images, *all_.shape[2:]) for name, all_ in every.items()}
        each = {name: all_[epoch, indices] for name, all_ in whole.items()}
        wide = {name: value.long() for name, value in each.items() if name not in ("mirrored", "weights")}
        return AugmentParams(**(each | wide), reflected=False)

    def logits(self, epoch: int | Int64[Tensor, " b"], indices: Int64[Tensor, " b"]) -> Float[Tensor, "b classes"]:
        """The recorded logits, float32; those that are not stored are −∞: the others share all probability."""
        values = self.tensors[LOGITS][epoch, indices].float()
        if CLASSES not in self.tensors:
            return values
        whole = torch.full((len(values), self.class_count), -torch.inf)
        return whole.scatter(1, self.tensors[CLASSES][epoch, indices].long(), values)

    def distances(self, epoch: int, indices: Int64[Tensor, " b"]) -> Float[Tensor, "b 2"]:
        """The recorded distances, float32, of the views to their own class and to their partner's."""
        return self.tensors[DISTANCES][epoch, indices].float()

    def probabilities(
        self, epoch: int | Int64[Tensor, " b"], indices: Int64[Tensor, " b"], rest: str = "none", temperature: float = 1
    ) -> Float[Tensor, "b classes"]:
        """What the teacher said of images in an epoch, or in one each, as probabilities.

        Args:
            epoch: of the recording, one for all or one each.
            indices: of the images.
            rest: as ``ReplayRule`` has it.
            temperature: logits are divided by it.

        Returns:
            Probabilities of all classes, float32.
        """
        if rest == "none" or CLASSES not in self.tensors:
            return (self.logits(epoch, indices) / temperature).softmax(dim=1)
        kept, classes = (self.tensors[name][epoch, indices] for name in (LOGITS, CLASSES))
        return spread(kept, classes.long(), self.class_count)

    def replay(
        self, images: Float[Tensor, "n c h w"], epoch: int | Int64[Tensor, " b"], indices: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b c h w"]:
        """The views of the images at ``indices``, in an epoch or in one each, as the teacher saw them."""
        drawn = self.views(epoch, indices)
        own = views.single(drawn, take(images, indices))
        if torch.equal(drawn.partners, indices):
            return own
        other = views.single(self.views(epoch, drawn.partners), take(images, drawn.partners))
        return views.mixed(drawn, own, other)


def _fits(name: str, shape: torch.Size, whole: torch.Size) -> bool:
    """Whether a tensor of a shape has a row for every epoch and image, or one in place of all where that may be."""
    if name not in _TYPES or len(shape) != len(whole) or shape[2:] != whole[2:]:
        return shape == whole
    return shape[0] in (1, whole[0]) and (shape[1] == whole[1] or (name != "partners" and shape[:2] == (1, 1)))
