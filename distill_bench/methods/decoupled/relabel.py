"""Relabelling: a teacher's soft labels for images, one each, made while networks train, or recorded epoch by epoch.

Source: Yin, Xing & Shen, "Squeeze, Recover and Relabel" (NeurIPS 2023), section 3.3, and VILA-Lab/SRe2L 8d00cba.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import (
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from torch import Tensor, nn

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled import compensators
from distill_bench.distilled.card import TEACHER_PREFIX
from distill_bench.distilled.recorded_labels import FARTHEST, RECORDED_KINDS, RecordedLabels
from distill_bench.distilled.replay import IN_TURN, Replay, ReplayRule, images_sum
from distill_bench.errors import UsageError
from distill_bench.methods.projector.labels import weak_teachers_piece, with_projector
from distill_bench.methods.resumable import fill_rows
from distill_bench.methods.run import Config, Piece, Run, SynthesisResult
from distill_bench.pretrained.projectors import ProjectorRecipe, check_projector_recipe
from distill_bench.pretrained.teachers import Teacher, TeacherRecipe, get_or_train_teacher, teacher_bytes, teacher_path
from distill_bench.runtime.device import send, take
from distill_bench.training.compilation import label_distances
from distill_bench.training.timing import Training

TEACHER_BATCH, TEACHER_SIDE = 500, 64


class RecordConfig(ReplayRule):
    """How labels are recorded, and gone through.

    Attributes:
        epochs: so many views of every image.
        batch_size: images that are mixed with each other.
        top: only so many of the largest logits are kept; 0 keeps all.
        views: how views are drawn.
        members: teachers, of the run's seed and those after it, whose mean probabilities are the labels.
        compact: what all views have in common, such as that none is mixed, is stored once.
    """

    LATER: ClassVar[tuple[str, ...]] = ("order", "rest", "original", "members", "compact")

    epochs: PositiveInt = 300
    batch_size: PositiveInt = 1024
    top: NonNegativeInt = 0
    views: AugmentPolicy = AugmentPolicy(mix="cutmix")
    members: PositiveInt = 1
    compact: bool = False

    @property
    def replayed(self) -> ReplayRule:
        """How networks go through the recording."""
        return ReplayRule.model_validate(self.model_dump(include=set(ReplayRule.model_fields)))

    @property
    def of_probabilities(self) -> bool:
        """Whether logarithms of probabilities are recorded: what is not stored of them, and their mean, is known."""
        return self.rest == "even" or self.members > 1


class RelabelConfig(Config):
    """Fields of the methods whose labels a teacher makes.

    Attributes:
        teacher: how it is trained. Its seed is the run's.
        further_teachers: give soft labels with it: the mean of all their logits.
        labels: ``hard``: classes; ``soft``: one logit vector an image; ``teacher``: the teacher itself is stored, and
            labels what networks are shown; ``recorded``: views and their labels are stored; ``distances``: views are,
            each with the cross-entropies of what the teacher says with its own and its partner's class; ``projector``:
            a projector is stored, and labels what networks are shown.
        temperature: by which the logits of teacher and student are divided.
        alpha: the weight of the teacher's labels, see ``distillation_loss``; the classes have the rest.
        distance_weight: of distances beside the classes, see ``distance_loss``.
        record: of recorded labels and distances.
        projector: of the projector.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("teacher.learning_rate",)
    memory_fields: ClassVar[tuple[str, ...]] = ("teacher.batch_size", "record.batch_size")
    LATER: ClassVar[tuple[str, ...]] = ("further_teachers", "alpha", "distance_weight")

    teacher: TeacherRecipe
    further_teachers: tuple[TeacherRecipe, ...] = ()
    labels: Literal["hard", "soft", "teacher", "recorded", "distances", "projector"] = "soft"
    temperature: PositiveFloat = 20.0
    alpha: Annotated[float, Field(ge=0, le=1)] = 1.0
    distance_weight: PositiveFloat = 1.0
    record: RecordConfig = RecordConfig()
    projector: ProjectorRecipe = ProjectorRecipe()

    @property
    def idle(self) -> tuple[str, ...]:
        """The projector, where there is none."""
        return () if self.labels == "projector" else ("projector",)

    @property
    def labels_are_classes(self) -> bool:
        """Whether no teacher labels."""
        return self.labels == "hard"

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if labels cannot be made or recorded so."""
        classes, (_, height, width) = len(dataset.class_names), dataset.train.shape
        top, tiles = self.record.top, self.record.views.tiles
        if self.labels == "hard" and self.alpha != 1:
            raise UsageError(
                f"`alpha={self.alpha:g}` weighs a teacher's labels beside the classes; hard labels are classes alone. "
                "Leave it out, or have other labels."
            )
        if self.labels == "distances" and self.alpha != 1:
            raise UsageError(
                f"`alpha={self.alpha:g}` weighs a teacher's labels against the classes; distances stand beside whole "
                "classes. Leave it out, and weigh them by `distance_weight`."
            )
        if self.labels != "distances" and self.distance_weight != 1:
            raise UsageError(
                f"`distance_weight={self.distance_weight:g}` weighs distances, and labels are {self.labels}. Leave it "
                "out, or have `labels=distances`."
            )
        if self.labels == "distances" and top:
            raise UsageError(f"record.top is {top}; of distances there are two a view. Give 0, or `labels=recorded`.")
        self._check_teachers()
        if self.labels == "projector":
            check_projector_recipe(self.projector, dataset, self.pixel_space_on(dataset))
        if self.labels not in RECORDED_KINDS:
            return
        if top > classes:
            raise UsageError(f"record.top is {top}; there are {classes} classes. Give 0 to keep all.")
        if self.record.views.crop == "reflected":
            raise UsageError(
                "record.views.crop is reflected; beside recorded views lies zero. Give padded, or resized."
            )
        if height % tiles or width % tiles:
            raise UsageError(f"record.views.tiles {tiles} does not divide {height}×{width} px. Give 1, or a divisor.")

    def _check_teachers(self) -> None:
        members = self.record.members
        if self.further_teachers and self.labels != "soft":
            raise UsageError(
                f"`labels={self.labels}`: further_teachers give soft labels with the teacher, and no others. Leave "
                "them out, or give labels=soft."
            )
        if len(set(self.teachers)) < len(self.teachers):
            raise UsageError("two of the teachers are trained alike, and would say the same: give each other values.")
        if self.labels == "distances" and self.record.replayed != IN_TURN:
            raise UsageError(
                "record.order, rest and original say how recorded labels are gone through; distances go in turn. Leave "
                "them out, or give labels=recorded."
            )
        if members > 1 and self.labels != "recorded":
            raise UsageError(
                f"record.members={members} teachers label recorded views together; labels={self.labels} are those of "
                "one. Give labels=recorded, or record.members=1."
            )
        if members > 1 and self.teacher.weights:
            raise UsageError(
                f"record.members={members} teachers differ in the seed of their training; {self.teacher.weights} is "
                "one network. Give record.members=1, or teacher.weights= to have them trained here."
            )
        if self.labels == "recorded" and self.record.of_probabilities and self.temperature != 1:
            raise UsageError(
                f"temperature={self.temperature:g} divides logits, and record.rest=even and members above 1 record "
                "probabilities. Give temperature=1."
            )

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: what the largest of the teachers takes."""
        return max(teacher_bytes(each, dataset.train.shape, len(dataset.class_names)) for each in self.teachers)

    @property
    def teachers(self) -> tuple[TeacherRecipe, ...]:
        """All teachers' recipes."""
        return (self.teacher, *self.further_teachers)


class Ensemble(nn.Module):
    """The mean of several networks' logits."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        return torch.stack([network(images) for network in self.networks]).mean(dim=0)


def teacher_of(run: Run[Any], member: int = 0, recipe: TeacherRecipe | None = None) -> Teacher:
    """The teacher of a recipe, the run's unless given, and of the run's seed, or of the seed so many after it."""
    asked = (run.training, recipe or run.config.teacher, run.seed + member)
    return run.pretrained(partial(get_or_train_teacher, *asked), lambda teacher: [teacher.pretrained])


def teacher_pieces(run: Run[Any]) -> list[Piece]:
    """The teachers, as what a method needs pretrained."""
    config = run.config
    if not isinstance(config, RelabelConfig):
        return [_piece(run, config.teacher)]
    members = [_piece(run, config.teacher, member) for member in range(config.record.members)]
    further = [_piece(run, each) for each in config.further_teachers]
    return [*members, *further, *([weak_teachers_piece(run)] if config.labels == "projector" else [])]


def _piece(run: Run[Any], recipe: TeacherRecipe, member: int = 0) -> Piece:
    count = len(run.training)
    steps = max(recipe.epochs * -(-count // recipe.batch_size), recipe.minimum_steps)
    batch = min(recipe.batch_size, count)
    shown = Training(recipe.network, run.training.shape, run.classes, batch, steps * batch)
    path = teacher_path(run.training, recipe, run.seed + member)
    return Piece(path, partial(teacher_of, run, member, recipe), None if recipe.weights else shown)


def _labeller(run: Run[Any], teacher: Teacher) -> nn.Module:
    """What gives soft labels: the run's teacher, or all of its teachers."""
    further = [teacher_of(run, recipe=each).network for each in run.config.further_teachers]
    return Ensemble([teacher.network, *further]) if further else teacher.network


def relabel(run: Run[Any], teacher: Teacher, made: SynthesisResult) -> SynthesisResult:
    """Finished images with the kind of labels that the recipe names in place of classes alone.

    Args:
        run: whose recipe it is.
        teacher: labels the images, as networks are trained on them.
        made: the images, in class order, and all else that belongs to their set.

    Returns:
        The same set, relabelled.

    Raises:
        Interrupted: the monitor was asked to stop; a checkpoint was written.
    """
    config: RelabelConfig = run.config
    if config.labels == "hard":
        return made
    images = made.images if made.images.is_floating_point() else run.training.encode(made.images)
    if (added := made.stored.get(compensators.IMAGES)) is not None:
        images = compensators.shown_images(images.cpu(), added, run.training.pixel_space)
    relabelled = partial(replace, made, temperature=config.temperature, alpha=config.alpha)
    if config.labels == "soft":
        logits = predict(_labeller(run, teacher), images, run.device)
        return relabelled(soft_labels=logits.cpu(), label_kind="logits")
    if config.labels == "teacher":
        tensors = {TEACHER_PREFIX + name: tensor.cpu() for name, tensor in teacher.network.state_dict().items()}
        name = teacher.pretrained.identity["recipe"]["network"]
        return relabelled(label_kind="teacher", stored=made.stored | tensors, teacher=name)
    if config.labels == "projector":
        return with_projector(run, teacher, made)
    recording, rule = record(run, teacher, images, made.labels), config.record.replayed
    if config.record.compact:
        recording = recording.compacted()
    tensors = recording.to_store()
    if config.labels == "distances":
        weight = config.distance_weight
        return relabelled(label_kind="distances", distance_weight=weight, stored=made.stored | tensors)
    replay = None if rule == IN_TURN else Replay(images=images_sum(made.images), **rule.model_dump())
    return relabelled(label_kind="recorded", stored=made.stored | tensors, replay=replay)


def predict(network: nn.Module, images: Float[Tensor, "n c h w"], device: torch.device) -> Float[Tensor, "n k"]:
    """A network's logits, on its device; 500 images at a time, or where they are larger than 64 px as many pixels."""
    with torch.inference_mode():
        return torch.cat([network(send(batch, device)) for batch in images.split(teacher_batch(images))])


def teacher_batch(images: Float[Tensor, "n c h w"]) -> int:
    """How many of such images a teacher sees at once."""
    return max(1, min(TEACHER_BATCH, TEACHER_BATCH * TEACHER_SIDE**2 // images[0, 0].numel()))


def mean_log_probabilities(
    networks: Sequence[nn.Module], images: Float[Tensor, "n c h w"], device: torch.device
) -> Float[Tensor, "n k"]:
    """The logarithms of the mean of several networks' probabilities, which are not taken before the mean."""
    each = torch.stack([predict(network, images, device).log_softmax(dim=1) for network in networks])
    return each.logsumexp(dim=0) - math.log(len(networks))


def record(
    run: Run[Any], teacher: Teacher, images: Float[Tensor, "n c h w"], labels: Int64[Tensor, " n"]
) -> RecordedLabels:
    """The teachers' logits for views of every epoch, or distances, which are of the same views at the temperature.

    An epoch's draws are its own, so that stopped work can go on.
    """
    rule, config, kind = run.config.record.views, run.config.record, run.config.labels
    networks = [teacher.network, *(teacher_of(run, member).network for member in range(1, config.members))]
    say = partial(mean_log_probabilities, networks) if config.of_probabilities else partial(predict, teacher.network)
    recording = RecordedLabels.empty(config.epochs, len(images), run.classes, config.top, rule.tiles, kind)

    def epoch(number: int) -> None:
        draws = run.generator("relabel", number)
        for indices in torch.randperm(len(images), generator=draws).split(config.batch_size):
            drawn = views.sample(rule, len(indices), run.training.shape, run.training.flip_invariant, draws)
            shown = views.shown(drawn, send(take(images, indices), run.device))
            said = say(shown, run.device)
            if kind == "distances":
                classes = torch.stack([labels[indices], labels[indices[drawn.partners]]], dim=1)
                said = label_distances(said / run.config.temperature, send(classes, said.device)).clamp(max=FARTHEST)
            recording.write(number, indices, drawn, said)

    fill_rows(run, "recorded", "epochs of labels recorded", recording.tensors, epoch)
    return recording
