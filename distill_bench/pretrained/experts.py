"""Experts: networks trained on the training split whose parameters are kept after every epoch, for trajectory matching.

Sources: buffer.py of GeorgeCazenavette/mtt-distillation 50dccea (plain SGD); buffer_FTD.py of AngusDujw/FTD-
distillation 711532a (flat trajectories: Du et al., "Minimizing the Accumulated Trajectory Error to Improve Dataset
Distillation", CVPR 2023); for AST's smooth ones see ``smooth``. An expert depends on how it was trained and on what,
not on the method that asks for it: all methods share them.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor

from distill_bench.augmentations import dsa
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import UsageError
from distill_bench.networks import blank_network, check_own, resolve_network
from distill_bench.pretrained.recorder import TRAJECTORY, Snapshots
from distill_bench.pretrained.smooth import PenaltyNorm, SmoothSnapshots
from distill_bench.pretrained.store import Artifact, Pretrained, get_or_create, holds, list_stored, path_of
from distill_bench.pretrained.training import MOST_EPOCHS, ground_of, train_kept
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.progress import SILENT, Monitor, SubMonitor
from distill_bench.runtime.sparse import Sparse
from distill_bench.training.sharpness_aware import gsam_gradient
from distill_bench.training.train import Plan

KIND = "experts"
MOST_EXPERTS = 100_000
# of the training: raised where experts of the same recipe and data come out otherwise
VERSION = 1  # that of projectors is raised with it, whose weak teachers are experts
_OF_PLAN = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay")
FLAT_VERSION = 2  # of version 1, those whose training was compiled took their gradients in a wrong order


class ExpertRecipe(Sparse):
    """How an expert is trained. The defaults are MTT's.

    Attributes:
        epochs: passes over the training split; a snapshot of all parameters is kept before the first and after each.
        batch_size: images a step.
        learning_rate, momentum, weight_decay: of SGD; the rate is constant.
        augment: DSA on every batch (no flip if the dataset is not flip-invariant), or none.
        rho: 0 for plain SGD; above it, the radius of the sharpness-aware steps of a flat trajectory.
        alpha: of those steps, how much of the gradient that is orthogonal to the sharpness-aware one is taken off.
        decay_after, decay_factor: after so many epochs the rate is multiplied by the factor, and momentum starts again;
            0: it is constant.
        ramp_epochs, ramp_start: for so many epochs the loss has a weight that grows from the start to 1 (AST).
        penalty, penalty_norm: the factor and the norm of the penalty on the gradient for the pixels (AST); 0: none. It
            triples what an expert costs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    LATER = (
        "decay_after", "decay_factor", "ramp_epochs", "ramp_start", "penalty", "penalty_norm"
    )  # fmt: skip

    epochs: Annotated[PositiveInt, Field(le=MOST_EPOCHS)] = 50
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 0.01
    momentum: NonNegativeFloat = 0.0
    weight_decay: NonNegativeFloat = 0.0
    augment: Literal["none", "dsa"] = "dsa"
    rho: NonNegativeFloat = 0.0
    alpha: NonNegativeFloat = 0.0
    decay_after: NonNegativeInt = 0
    decay_factor: PositiveFloat = 0.1
    ramp_epochs: NonNegativeInt = 0
    ramp_start: PositiveFloat = 0.5
    penalty: NonNegativeFloat = 0.0
    penalty_norm: PenaltyNorm = "pixel"

    @model_validator(mode="after")
    def _flat_or_smooth(self) -> "ExpertRecipe":
        if self.rho and self.smooth:
            raise ValueError("rho makes flat experts, ramp_epochs and penalty smooth ones: set one of them to 0")
        return self

    @property
    def smooth(self) -> bool:
        """Whether the loss is not the cross-entropy alone."""
        return bool(self.ramp_epochs or self.penalty)

    @property
    def passes(self) -> int:
        """How often as many passes a step takes as a plain one."""
        return 2 if self.rho else 3 if self.penalty else 1

    @property
    def plan(self) -> Plan:
        """The training plan."""
        return Plan(
            decay_after=self.decay_after or None,
            decay_factor=self.decay_factor,
            reset_momentum=bool(self.decay_after),
            **{name: getattr(self, name) for name in _OF_PLAN},
        )


class Experts:
    """Trajectories of equal shape. Nothing of them fills memory but the snapshots asked for.

    Args:
        pieces: as the store has them, one at least.

    Attributes:
        epochs: how many epochs the shortest was trained.
    """

    def __init__(self, pieces: list[Pretrained]) -> None:
        self.pieces = pieces
        self.epochs = min(int(piece.facts["epochs"]) for piece in pieces)

    def __len__(self) -> int:
        return len(self.pieces)

    def snapshot(self, expert: int, epoch: int) -> Float[Tensor, " p"]:
        """All parameters of an expert after an epoch, as one vector in the network's order; -1: after the last."""
        # mapped for the moment: what is not read of the file is never loaded, and what was read is let go
        return self.pieces[expert].tensors()[TRAJECTORY][epoch].clone()


def get_or_train_experts(
    training: TrainingData,
    network: str,
    recipe: ExpertRecipe,
    numbers: int | Sequence[int],
    *,
    monitor: Monitor = SILENT,
    every_seconds: float = EVERY_SECONDS,
) -> Experts:
    """Experts of a recipe on a training split; those that the store lacks are trained now.

    Args:
        training: what they are trained on.
        network: a name without depth means the one usual at the resolution.
        recipe: how they are trained.
        numbers: how many, from number 0 on; or their numbers. What number k is depends on no other.
        monitor: hears of every epoch, and may ask to stop.
        every_seconds: the least time between two checkpoints.

    Returns:
        The experts, in the order of ``numbers``.

    Raises:
        RunFailed: training diverged.
        Interrupted: the monitor was asked to stop; the next call goes on from there.
    """
    name, recipe = resolve_network(network, training.shape), _effective(recipe)
    numbers = range(numbers) if isinstance(numbers, int) else numbers
    identities = [_identity(training, name, recipe, number) for number in numbers]
    there = sum(holds(KIND, identity) for identity in identities)
    title = f"{len(numbers)} {'flat' if recipe.rho else 'plain'} experts {name} on {training.source_name}"
    options: dict[str, Any] = {"dataset": training.source_name, "device": training.device}
    pieces = []
    with monitor.stage(title, len(numbers) * recipe.epochs, there * recipe.epochs) as stage:
        for identity in identities:

            def make(checkpoint: Checkpoint, number: int = identity["index"]) -> Artifact:
                return _train(training, name, recipe, number, checkpoint, SubMonitor(monitor, stage))

            pieces.append(get_or_create(KIND, identity, make, monitor, every_seconds=every_seconds, **options))
    return Experts(pieces)


def expert_path(training: TrainingData, network: str, recipe: ExpertRecipe, number: int) -> Path:
    """Where the store has an expert, if it has. Arguments as for ``get_or_train_experts``."""
    name = resolve_network(network, training.shape)
    return path_of(KIND, _identity(training, name, _effective(recipe), number))


def adopt_experts(
    training: TrainingData,
    network: str,
    trajectories: Iterable[Float[Tensor, "epochs p"]],
    count: int,
    origin: str,
) -> Experts:
    """Keep trajectories that were trained elsewhere. They are known by ``origin`` from then on.

    Args:
        training: what they are said to have been trained on.
        network: whose parameters they hold, in its order.
        trajectories: one at least, all of them sound: what is kept here is not looked at again.
        count: how many trajectories there are. Fewer, of an import that was cut short, are never used.
        origin: the hash of the files they were read from.

    Returns:
        The experts, as stored.
    """
    about = {
        **ground_of(training),
        "network": resolve_network(network, training.shape),
        "origin": origin,
        "count": count,
    }
    pieces = []
    for index, trajectory in enumerate(trajectories):
        artifact = {TRAJECTORY: trajectory}, {"epochs": len(trajectory) - 1}

        def make(checkpoint: Checkpoint, artifact: Artifact = artifact) -> Artifact:
            return artifact

        pieces.append(get_or_create(KIND, about | {"index": index}, make, SILENT, dataset=training.source_name))
    return Experts(pieces)


def adopted_experts(training: TrainingData, network: str, origin: str) -> Experts:
    """The experts that ``adopt_experts`` keeps under an origin.

    Raises:
        UsageError: there are none for this data, pixel space and network, or not all of them.
    """
    wanted = {**ground_of(training), "network": resolve_network(network, training.shape), "origin": origin}
    adopted = [piece for piece in list_stored(KIND) if piece.identity.get("origin") == origin]
    fitting = [piece for piece in adopted if wanted.items() <= piece.identity.items()]
    if not fitting:
        known = sorted({piece.identity["origin"] for piece in list_stored(KIND) if "origin" in piece.identity})
        other = "They are of other data, another pixel space or network. " if adopted else ""
        raise UsageError(
            f"no imported experts {origin!r} for {wanted['network']} on {training.source_name} in "
            f"{training.pixel_space.kind} pixels. {other}Known: {', '.join(known) or 'none'}."
        )
    pieces = [piece for piece in fitting if not outdated(piece)]
    if not pieces or len(pieces) < pieces[0].identity["count"]:
        raise UsageError(
            f"the imported experts {origin!r} are not complete: their import was cut short, or an earlier version did "
            "it. Run distill-bench experts import again, with the same files."
        )
    return Experts(sorted(pieces, key=lambda piece: piece.identity["index"]))


def parameter_shapes(training: TrainingData, network: str) -> list[tuple[int, ...]]:
    """The shapes of a network's parameters in its order, which is that of the snapshots.

    Args:
        training: fixes the shape of images and the number of classes.
        network: a name without depth means the one usual at the resolution.

    Returns:
        A shape for each parameter.

    Raises:
        UsageError: the network is none of this project's.
    """
    check_own(network, "experts")
    blank = blank_network(network, training.shape, len(training.class_names))
    return [tuple(parameter.shape) for parameter in blank.parameters()]


def list_experts() -> list[Pretrained]:
    """Every expert that the store has."""
    return list_stored(KIND)


def outdated(expert: Pretrained) -> bool:
    """Whether an earlier version kept it, so that no method uses it any more: its file may be deleted."""
    if "origin" in expert.identity:  # earlier versions wrote no count, and checked less before they kept anything
        return "count" not in expert.identity
    return bool(expert.identity.get("version") != _version(expert.identity["recipe"]["rho"]))


def _version(rho: float) -> int:
    return FLAT_VERSION if rho else VERSION


def _effective(recipe: ExpertRecipe) -> ExpertRecipe:
    """A recipe without what nothing uses."""
    idle = {
        "rho": ("alpha",),
        "decay_after": ("decay_factor",),
        "ramp_epochs": ("ramp_start",),
        "penalty": ("penalty_norm",),
    }
    unused = [name for switch, names in idle.items() if not getattr(recipe, switch) for name in names]
    return recipe.model_copy(update={name: ExpertRecipe.model_fields[name].default for name in unused})


def _identity(training: TrainingData, network: str, recipe: ExpertRecipe, number: int) -> dict[str, Any]:
    trained = {"version": _version(recipe.rho), "network": network, "recipe": recipe.model_dump(mode="json")}
    return {**ground_of(training), **trained, "index": number}


def _train(
    training: TrainingData,
    name: str,
    recipe: ExpertRecipe,
    index: int,
    checkpoint: Checkpoint,
    monitor: Monitor,
) -> Artifact:
    smooth = (training, recipe.ramp_epochs, recipe.ramp_start, recipe.penalty, recipe.penalty_norm)
    snapshots = SmoothSnapshots(*smooth) if recipe.smooth else Snapshots()
    gradient = snapshots.gradient if isinstance(snapshots, SmoothSnapshots) else None
    _, facts = train_kept(
        training,
        name,
        recipe.plan,
        dsa.augmentation(training.flip_invariant) if recipe.augment == "dsa" else None,
        ("expert", index),
        checkpoint,
        monitor,
        what=f"expert {index}",
        title=f"expert {index}, {name} on {training.source_name}",
        setting="expert.learning_rate",
        note=f"expert {index + 1}, ",
        gradient=gsam_gradient(recipe.rho, recipe.alpha) if recipe.rho else gradient,
        recorder=snapshots,
    )
    del facts["loss"]
    return snapshots.rows, facts
