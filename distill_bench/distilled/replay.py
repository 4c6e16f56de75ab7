"""How networks go through a recording: which view of an image at which visit, and what its label says of all classes.

In turn, as Shen & Xing do (ECCV 2022), or at random, with some visits of the image itself, as in Faghri et al.,
"Reinforce Data, Multiply Impact: Improved Model Accuracy and Robustness with Dataset Reinforcement" (ICCV 2023).
"""

import hashlib
from functools import lru_cache
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int64
from pydantic import ConfigDict, Field
from torch import Tensor

from distill_bench.errors import DataError
from distill_bench.runtime.seeds import generator
from distill_bench.runtime.sparse import Sparse


class ReplayRule(Sparse):
    """How networks go through a recording.

    Attributes:
        order: ``cycle``: in the first epoch the first view of every image, then the second, and after the last one the
            first again; ``random``: at every visit one of the image's views, drawn uniformly.
        rest: of the classes whose logits are not stored: ``none``: the stored ones share all probability; ``even``:
            logits are logarithms of probabilities, and what these leave is spread over the other classes evenly.
        original: the share of visits at which networks see the image itself, augmented as the protocol does, and learn
            its class.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    order: Literal["cycle", "random"] = "cycle"
    rest: Literal["none", "even"] = "none"
    original: Annotated[float, Field(ge=0, lt=1)] = 0.0


IN_TURN = ReplayRule()


class Replay(ReplayRule):
    """A card's ``ReplayRule``.

    Attributes:
        images: the sum of the images that views were recorded of, see ``images_sum``.
    """

    images: str

    def check(self, images: Tensor, label_kind: str, temperature: float) -> None:
        """Whether a set can be replayed so: its images, and label kind and temperature as on its card.

        Raises:
            DataError: it cannot.
        """
        if label_kind != "recorded":
            raise DataError(f"label_kind is {label_kind!r}; a replay goes through recorded labels, and there are none.")
        if self.rest == "even" and temperature != 1:
            raise DataError(
                f"the temperature is {temperature:g}; where a rest is spread labels are probabilities, and it is 1."
            )
        if (own := images_sum(images)) != self.images:
            raise DataError(
                f"the recorded views are of other images than the set's: the sum of those is {self.images[:8]}…, of "
                f"these {own[:8]}…. Views and labels of one dataset say nothing of another: take the set as it was "
                "made, or record these images (distill-bench synthesize reinforce)."
            )


def images_sum(images: Tensor) -> str:
    """32 hex digits of the sha256 over the images' bytes."""
    return hashlib.sha256(images.cpu().contiguous().numpy().data).hexdigest()[:32]


@lru_cache(maxsize=4)  # batches of an epoch ask for it one after the other
def visits(
    rule: ReplayRule, views_each: int, images: int, epoch: int, seed: int
) -> tuple[Int64[Tensor, " n"], Bool[Tensor, " n"]]:
    """Which view every image has in an epoch, and whether the image itself is shown instead.

    A function of its arguments, so that neither the order of the images nor the size of batches changes it.

    Args:
        rule: how the views are gone through.
        views_each: how many every image has.
        images: how many there are.
        epoch: its number, from 0.
        seed: of the training.

    Returns:
        Numbers of views, int64 [n], and marks, bool [n].
    """
    draws = generator("visits", seed, epoch)
    if rule.order == "random":
        numbers = torch.randint(views_each, (images,), generator=draws)
    else:
        numbers = torch.full((images,), epoch % views_each)
    return numbers, torch.rand(images, generator=draws) < rule.original


def spread(
    logarithms: Float[Tensor, "b k"], classes: Int64[Tensor, "b k"], class_count: int
) -> Float[Tensor, "b classes"]:
    """The probabilities of all classes from the logarithms of some: the others have what is left, in equal parts.

    Stored ones are rounded, and may sum to more than 1, or leave to each of the others more than the least of the
    stored has, which are the largest. So no other class gets less than nothing, or more than that least, and every row
    is divided by its sum. (apple/ml-dr a21113c takes the softmax of the stored probabilities where they sum to
    more than 1, which turns a label of 1 into one of 0.23.)

    Args:
        logarithms: of the k largest probabilities of an image.
        classes: whose they are.
        class_count: how many there are.

    Returns:
        Probabilities, float32; each row sums to 1.
    """
    kept = logarithms.double().exp()
    left = (1 - kept.sum(dim=1, keepdim=True)).clamp(min=0) / max(1, class_count - kept.shape[1])
    other = torch.minimum(left, kept.amin(dim=1, keepdim=True))
    whole = other.repeat(1, class_count).scatter(1, classes, kept)
    return (whole / whole.sum(dim=1, keepdim=True)).float()
