"""Images chosen by a score: EL2N, GraNd, forgetting, AUM, entropy, margin, confidence, Moderate Coreset and CCS.

What networks make of the training images is recorded once and shared by all scores and seeds' budgets; the formulas
are in ``scores``, what is kept of them in ``keep``.
"""

from collections.abc import Callable, Set
from functools import partial
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Generator, Tensor
from torch.nn import functional as F

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.run import Config, Piece, Run, SynthesisResult, method
from distill_bench.methods.selection import scores
from distill_bench.methods.selection.keep import Keep, dropped_count, kept, without_hardest
from distill_bench.methods.selection.score_file import ScoreFile, read_scores, scores_of
from distill_bench.methods.selection.selection import classifier_of, embeddings, selected
from distill_bench.pretrained.dynamics import Dynamics, When, dynamics_path, get_or_record_dynamics
from distill_bench.pretrained.teachers import TeacherRecipe, teacher_bytes

HARDEST: dict[str, Literal["high", "low"]] = {
    "el2n": "high", "forgetting": "high", "aum": "low",
    "grand": "high", "entropy": "high", "margin": "low", "confidence": "low", "moderate": "high",
}  # fmt: skip
"""At which end of a score the images are that are hardest to tell."""
OF_TRAINING = ("el2n", "forgetting", "aum")
_OF_NETWORK: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "grand": scores.gradient_norm,
    "entropy": lambda probabilities, labels, features: scores.entropy(probabilities),
    "margin": lambda probabilities, labels, features: scores.margin(probabilities),
    "confidence": lambda probabilities, labels, features: scores.confidence(probabilities),
    "moderate": lambda probabilities, labels, features: scores.distance_to_median(features),
}
"""From probabilities, classes and features of one class's images to their scores."""


class ScoreConfig(Config):
    """Fields of the selections by a score.

    Attributes:
        teacher: how the networks are trained whose scores are taken. Their seed is the run's.
        networks: over so many networks a score is averaged.
        score: of training: ``el2n``, ``forgetting``, ``aum``; of the trained network: ``grand``, of the last layer;
            ``entropy``, ``margin``, ``confidence``; ``moderate``, the distance to the median of the class's features.
        keep: the images of the highest scores, of the lowest, of those in the middle, or some of every stratum.
        balance: whether so many are chosen of every class; else among all together, which takes a fraction.
        hardest_dropped: so large a share of the images is left out first, the hardest.
        when: whether scores of training are of what a network made of an augmented image in the training pass
            (``visit``), or of the image itself after every epoch (``epoch``).
        epochs: scores of training are of so many first epochs; 0: of all. EL2N is that of the last of them.
        scores: a file of scores, see ``score_file``: ``score`` says what they are, and no network is trained.
        never_learned: whether images that no network ever had right count as the hardest to forgetting, or the easiest.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("teacher.learning_rate",)
    memory_fields: ClassVar[tuple[str, ...]] = ("teacher.batch_size",)

    teacher: TeacherRecipe
    networks: PositiveInt = 1
    score: Literal["el2n", "forgetting", "aum", "grand", "entropy", "margin", "confidence", "moderate"]
    keep: Keep = "high"
    balance: bool = True
    hardest_dropped: Annotated[float, Field(ge=0, lt=1)] = 0.0
    when: When = "epoch"
    epochs: NonNegativeInt = 0
    never_learned: Literal["hardest", "easiest"] = "hardest"
    scores: ScoreFile = ""

    @property
    def balanced(self) -> bool:
        """Whether a set has of every class as many images as ``Run.counts`` says."""
        return self.balance

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if fields do not go together, epochs are too many, or scores are of other images."""
        if self.scores:
            scores_of(self.scores, dataset)
        goes_with = {"epochs": OF_TRAINING, "never_learned": ("forgetting",)}
        for name, of in goes_with.items():
            if self.score not in of and getattr(self, name) != type(self).model_fields[name].default:
                raise UsageError(f"`{name}` goes with {', '.join(of)}; the score is {self.score}. Leave it out.")
        trained = self.teacher.plan(len(dataset.train)).epochs
        if self.epochs > trained:
            raise UsageError(
                f"`epochs={self.epochs}`: the networks are trained for {trained}. Give {trained} or less, 0 for all, "
                "or more `teacher.epochs`."
            )

    def misplaced(self, changed: Set[str]) -> str | None:
        """Of networks that are not trained, and of a moment of training that the score is not of."""
        untrained = sorted({"teacher", "networks", "when", "epochs", "never_learned"} & changed)
        if self.scores and untrained:
            return f"{' and '.join(untrained)} is of networks that are trained; the scores are of {self.scores}."
        if "when" in changed and self.score not in OF_TRAINING:
            return f"when goes with {', '.join(OF_TRAINING)}; the score is {self.score}. Leave it out."
        return super().misplaced(changed)

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: what the networks' training takes."""
        return 0 if self.scores else teacher_bytes(self.teacher, dataset.train.shape, len(dataset.class_names))


def dynamics_pieces(run: Run[ScoreConfig]) -> list[Piece]:
    """The dynamics of every network, as what a selection needs pretrained."""
    kept_at = partial(dynamics_path, run.training, run.config.teacher, run.seed)
    return [
        Piece(kept_at(number, run.config.when), partial(_dynamics, run, number))
        for number in range(0 if run.config.scores else run.config.networks)
    ]


@method(ScoreConfig, pretrained=dynamics_pieces, selects=True)
def score_selection(run: Run[ScoreConfig]) -> SynthesisResult:
    """The images that a score chooses, class by class or among all."""
    groups = _groups(run)
    _check_left(run, groups)
    by_score = mean_scores(run)
    chosen = torch.cat([_choice(run, by_score, group) for group in groups])
    return selected(run, chosen[run.training.labels[chosen].argsort(stable=True)])


class _Group(NamedTuple):
    """Images of which some are chosen.

    Attributes:
        name: for errors.
        draws: orders equal scores.
        indices: of the training images.
        wanted: so many of them are chosen.
    """

    name: str
    draws: Generator
    indices: Int64[Tensor, " m"]
    wanted: int


def _groups(run: Run[ScoreConfig]) -> list[_Group]:
    """The classes, or one of all images."""
    if not run.config.balance:
        everything = torch.arange(len(run.training))
        return [_Group("all classes", run.generator("ties among all"), everything, run.total)]
    classes = zip(run.training.class_names, run.training.class_indices, run.counts, strict=True)
    return [
        _Group(f"class {name!r}", run.generator("ties", label), indices, count)
        for label, (name, indices, count) in enumerate(classes)
    ]


def mean_scores(run: Run[ScoreConfig]) -> Float[Tensor, " n"]:
    """The score of every training image, in float64: the mean over the networks, or what the file says.

    Raises:
        Interrupted: the monitor was asked to stop; a checkpoint was written.
    """
    if run.config.scores:
        return read_scores(run.config.scores)[0]
    saved, networks = run.checkpoint.load(), run.config.networks
    total, done = torch.zeros(len(run.training), dtype=torch.float64), 0
    if saved is not None:
        total, done = saved["scores"], saved["networks"]
    for number in range(done, networks):
        total += score_of(run, _dynamics(run, number))
        state = {"scores": total, "networks": number + 1}
        run.checkpoint.save_if_due(run.monitor, state.copy, f"scores of {number + 1} of {networks} networks")
    return total / networks


def score_of(run: Run[ScoreConfig], dynamics: Dynamics) -> Float[Tensor, " n"]:
    """The score that one network gives every training image, in float64; one class's features are held at a time."""
    config, network = run.config, dynamics.teacher.network
    if config.score in OF_TRAINING:
        return _score_of_training(config, dynamics)
    found, classifier = torch.empty(len(run.training), dtype=torch.float64), classifier_of(network)
    with run.monitor.stage(f"{run.method}, {run.budget}, seed {run.seed}: {config.score}", run.classes) as stage:
        for label, indices in enumerate(run.training.class_indices):
            features = embeddings(run, network, indices)
            probabilities = F.linear(features, *classifier).softmax(dim=1)
            labels = torch.full((len(indices),), label)
            found[indices] = _OF_NETWORK[config.score](probabilities, labels, features)
            stage.advance()
    return found


def _score_of_training(config: ScoreConfig, dynamics: Dynamics) -> Float[Tensor, " n"]:
    epochs = slice(config.epochs or None)
    if config.score == "el2n":
        return dynamics.error[epochs][-1].double()
    if config.score == "aum":
        return scores.area_under_margin(dynamics.true[epochs], dynamics.other[epochs])
    return scores.forgetting_events(dynamics.correct[epochs], config.never_learned)


def _dynamics(run: Run[ScoreConfig], number: int) -> Dynamics:
    asked = (run.training, run.config.teacher, run.seed, number, run.config.when)
    return run.pretrained(partial(get_or_record_dynamics, *asked), lambda found: [found.teacher.pretrained])


def _choice(run: Run[ScoreConfig], by_score: Float[Tensor, " n"], group: _Group) -> Int64[Tensor, " k"]:
    """Indices of the training images that are chosen of a group."""
    config, own = run.config, by_score[group.indices]
    left = without_hardest(own, config.hardest_dropped, HARDEST[config.score], group.draws)
    return group.indices[left[kept(own[left], group.wanted, config.keep, group.draws)]]


def _check_left(run: Run[ScoreConfig], groups: list[_Group]) -> None:
    """Raises UsageError where too few images are left of a group, before a network is trained."""
    dropped = run.config.hardest_dropped
    for group in groups:
        count = len(group.indices)
        left = count - dropped_count(dropped, count)
        if left < group.wanted:
            raise UsageError(
                f"`hardest_dropped={dropped:g}` leaves {left} of the {count} images of {group.name}, of which "
                f"{group.wanted} are asked for. Drop fewer, or ask for {left} or less."
            )
