"""What a set tells of the images it was made from: how near it comes to them, and whether losses give them away.

Source: Dong, Zhao & Lyu, "Privacy for Free: How does Dataset Condensation Help Privacy?" (ICML 2022): distances to the
nearest training image, and the membership inference by loss of Yeom et al. (CSF 2018).
"""

from functools import partial
from statistics import median
from typing import Literal

import numpy
import torch
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, computed_field
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.datasets import Dataset, Split
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import transform_of
from distill_bench.errors import Interrupted, RunFailed, UsageError
from distill_bench.evaluation.evaluate import prepare
from distill_bench.evaluation.inputs import TrainInputs
from distill_bench.evaluation.measures.measured import Estimated, Measured, check_whole
from distill_bench.evaluation.rank_statistics import area_under_curve
from distill_bench.evaluation.result import data_facts, data_name
from distill_bench.evaluation.scoring import use_trained
from distill_bench.evaluation.setup import EvalSetup
from distill_bench.runtime.device import take
from distill_bench.runtime.progress import SILENT, Monitor, Stage
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import TEST_BATCH, ImageLoader

REFERENCE = 1_000
"""Test images, at most, whose nearest training image is looked for beside those of the set."""
TRIED = 10_000
"""Training images, and test images, at most, whose losses are compared."""
COPY = 0.5 / 255
"""A root mean square difference below which two pictures are the same in 8 bits."""
_QUERIES = 256


class Nearest(BaseModel):
    """Distances of images to the nearest training image: root mean square differences of pixels on the scale 0 … 1.

    Attributes:
        distances: of every distilled image, in the set's order.
        indices: of the training images they are nearest to.
        reference: distances of test images, which nobody has made from training images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    distances: tuple[float, ...]
    indices: tuple[int, ...]
    reference: tuple[float, ...]

    @classmethod
    def of(cls, *columns: Tensor) -> "Nearest":
        """From the three columns as tensors."""
        return cls.model_validate(dict(zip(cls.model_fields, map(Tensor.tolist, columns), strict=True)))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def copies(self) -> int:
        """How many distilled images are a training image, in 8 bits."""
        return sum(distance < COPY for distance in self.distances)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def median(self) -> float:
        """Of the distilled images' distances."""
        return median(self.distances)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def reference_median(self) -> float:
        """Of the test images' distances."""
        return median(self.reference)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def nearer(self) -> float:
        """The fraction of distilled images that are nearer to a training image than nineteen in twenty test images."""
        bound = float(numpy.quantile(self.reference, 0.05))
        return sum(distance < bound for distance in self.distances) / len(self.distances)


class Membership(BaseModel):
    """Whether training images have lower losses than test images under networks trained on the set.

    Attributes:
        area: under the ROC curve of the loss, a fraction: the probability that a training image has a lower loss than a
            test image, 0.5 where losses tell nothing. DeLong's 95 % interval is over images: it holds the networks for
            given.
        members, others: how many training and test images.
        member_loss, other_loss: their mean losses, in nats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    area: Estimated
    members: int
    others: int
    member_loss: float
    other_loss: float


class Privacy(Measured):
    """What a set tells of its training images.

    Attributes:
        network, networks: which and how many gave the losses, an image's being the mean over them.
        nearest: how near the set's images are to training images.
        membership: whether losses tell training from test images.
    """

    kind: Literal["privacy"] = "privacy"
    network: str
    networks: int
    nearest: Nearest
    membership: Membership


def privacy(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    allow_leak: bool = False,
) -> Privacy:
    """Look for a set's training images in its pixels, and in the losses of networks trained on it.

    Args:
        distilled, dataset, protocol, network, networks, labels, device, monitor, allow_leak: as for ``evaluate``.

    Returns:
        Distances and the area under the curve.

    Raises:
        UsageError, RunFailed: as ``evaluate``; or networks are trained on targets, not on labels.
        Interrupted: the monitor was asked to stop; networks are trained again.
    """
    check_whole(distilled, "privacy")
    setup, inputs, notes = prepare(
        distilled, dataset, protocol, network, networks, labels, device=device, monitor=monitor, allow_leak=allow_leak
    )
    if setup.rules.probe is not None:
        raise UsageError(
            f"{setup.rules.id} trains networks on targets, which have no cross-entropy to be told by. Take the classes "
            "of its images, `labels=hard`, and a protocol that trains on labels, `protocol=standard-v1`."
        )
    dataset = setup.dataset
    distances, indices = nearest(unit_pixels(distilled, dataset), dataset.train)
    drawn = _some(len(dataset.test), REFERENCE, "reference")
    reference, _ = nearest(dataset.test.images(drawn).float() / 255, dataset.train)
    card = distilled.card
    return Privacy(
        method=card.method,
        dataset=data_name(**data_facts(dataset)),
        ipc=card.budget.ipc,
        protocol=setup.rules.id,
        labels=inputs.labels,
        images=len(distilled.images),
        set_sha256=distilled.sha256,
        notes=notes,
        network=setup.network,
        networks=len(setup.numbers),
        nearest=Nearest.of(distances, indices, reference),
        membership=_membership(setup, inputs, card.method),
    )


def unit_pixels(distilled: DistilledSet, dataset: Dataset) -> Float[Tensor, "n c h w"]:
    """What networks are shown of a set, as pictures of it show: on the scale 0 … 1, cut there."""
    if distilled.images.dtype == torch.uint8 and distilled.card.formation == 1:
        return distilled.images.float() / 255
    return transform_of(distilled, dataset).decode(distilled.shown(dataset).images).clamp(0, 1)


def nearest(images: Float[Tensor, "n c h w"], split: Split) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """The nearest image of a split to each of some images.

    Args:
        images: [n, c, h, w] on the scale 0 … 1.
        split: of images of the same shape.

    Returns:
        The root mean square difference of pixels [n], in float64, and the index [n]; of equals one of them.
    """
    queries = images.flatten(1)
    best, index = torch.full((len(queries),), torch.inf), torch.zeros(len(queries), dtype=torch.int64)
    start = 0
    for chunk in split.chunks():
        rows = chunk.flatten(1).float() / 255
        squares = rows.square().sum(dim=1)
        for at in torch.arange(len(queries)).split(_QUERIES):
            # ‖q − r‖² without ‖q‖², which is the same for all
            found, place = (squares - 2 * queries[at] @ rows.mT).min(dim=1)
            better = found < best[at]
            best[at], index[at] = torch.where(better, found, best[at]), torch.where(better, place + start, index[at])
        start += len(chunk)
    # again, since a difference of large numbers hides a small one
    differences = torch.cat(
        [queries[at].double() - split.images(index[at]).flatten(1).double() / 255
         for at in torch.arange(len(queries)).split(_QUERIES)]
    )  # fmt: skip
    return differences.square().mean(dim=1).sqrt(), index


def losses(network: nn.Module, load: ImageLoader, labels: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The cross-entropy of every image, in nats, in float64 on the CPU, the network in evaluation mode.

    Raises:
        RunFailed: one is not finite.
    """
    network.eval()
    with torch.inference_mode():
        parts = [
            F.cross_entropy(network(load(at)), take(labels, at), reduction="none")
            for at in torch.arange(len(labels)).split(TEST_BATCH)
        ]
    found = torch.cat(parts).cpu().double()  # the one wait for the device
    if not found.isfinite().all():
        raise RunFailed("training diverged: the network's losses are not finite.")
    return found


def _membership(setup: EvalSetup, inputs: TrainInputs, method: str) -> Membership:
    splits = {"members": setup.dataset.train, "others": setup.dataset.test}
    chosen = {name: split.subset(_some(len(split), TRIED, name)) for name, split in splits.items()}
    sums = {name: torch.zeros(len(split), dtype=torch.float64) for name, split in chosen.items()}
    total = len(setup.numbers) * inputs.plan.epochs

    def add(network: nn.Module) -> None:
        for name, split in chosen.items():
            load = setup.transform.fetch(split, setup.device)
            sums[name] += losses(network, load, split.labels.to(setup.device)) / len(setup.numbers)

    with setup.monitor.stage(f"privacy, {method}, {setup.network}", total) as stage:
        for number in setup.numbers:
            use_trained(setup, number, inputs, partial(_advance, stage, setup.monitor), add)
    members, others = sums["members"], sums["others"]
    return Membership(
        # a member's loss is the lower one
        area=Estimated.of(*area_under_curve((-members).tolist(), (-others).tolist())),
        members=len(members),
        others=len(others),
        member_loss=float(members.mean()),
        other_loss=float(others.mean()),
    )


def _advance(stage: Stage, monitor: Monitor) -> None:
    stage.advance()
    if monitor.stop_requested:
        raise Interrupted("stopped on request. Run the same command again to train the networks again.")


def _some(count: int, most: int, role: str) -> Int64[Tensor, " k"]:
    """Indices of so many images at most, in order, always the same."""
    if count <= most:
        return torch.arange(count)
    return torch.randperm(count, generator=generator("privacy", role))[:most].sort().values
