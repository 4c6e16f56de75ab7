"""Sets of real images: the lines every method has to beat.

Drawn at random, or chosen class by class by the features that a trained network (the teacher) gives them.
"""

import warnings
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.card import INDICES
from distill_bench.methods.decoupled.relabel import teacher_of, teacher_pieces
from distill_bench.methods.formation import FormationConfig, stored_of
from distill_bench.methods.run import Config, Run, SynthesisResult, method
from distill_bench.networks import Network
from distill_bench.pretrained.teachers import TeacherRecipe, teacher_bytes

_FEATURE_BATCH = 500
_RESTARTS = 10


@method(FormationConfig, selects=True)
def random_selection(run: Run[FormationConfig]) -> SynthesisResult:
    """Different images of every class, drawn uniformly; of a formation f², made smaller, put together in one."""
    if (factor := run.config.formation) == 1:
        return selected(run, random_indices(run))
    drawn = selected(run, random_indices(run, factor**2))
    return SynthesisResult(stored_of(run, drawn.images), run.labels, formation=factor)


def random_indices(run: Run[Any], times: int = 1) -> Int64[Tensor, " n"]:
    """Indices of training images in class order, of every class so many times ``run.counts``, drawn uniformly."""
    draws = (
        run.training.draw_indices(label, times * count, run.generator("selection", label))
        for label, count in enumerate(run.counts)
    )
    return torch.cat(list(draws))


def selected(run: Run[Any], indices: Int64[Tensor, " n"]) -> SynthesisResult:
    """The set of real images that a selection chose, with their classes.

    Of a fraction they are stored as the 8-bit pictures that they are, a quarter of the bytes, with their indices. At an
    IPC they are encoded, class by class: the last bits of whitened ones depend on how many there are at a time.

    Args:
        run: whose set it is.
        indices: of different training images, in class order.

    Returns:
        The finished set, which ``relabel`` takes too.
    """
    labels = run.training.labels[indices]
    if run.budget.fraction is not None:
        return SynthesisResult(run.training.pictures(indices), labels, stored={INDICES: indices.to(torch.int32)})
    parts = indices.split(labels.bincount(minlength=run.classes).tolist())
    return SynthesisResult(torch.cat([run.training.images(part) for part in parts]), labels)


class SelectionConfig(Config):
    """Fields of the methods that choose by features.

    Attributes:
        teacher: how the network is trained whose last features count. Its seed is the run's.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("teacher.learning_rate",)
    memory_fields: ClassVar[tuple[str, ...]] = ("teacher.batch_size",)

    teacher: TeacherRecipe

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: what the teacher takes."""
        return teacher_bytes(self.teacher, dataset.train.shape, len(dataset.class_names))


class KCenterConfig(SelectionConfig):
    """Fields of k-center.

    Attributes:
        start: the first image: the one nearest the class's mean feature, or one at random.
    """

    start: Literal["mean", "random"] = "mean"


@method(SelectionConfig, pretrained=teacher_pieces, selects=True)
def herding_selection(run: Run[SelectionConfig]) -> SynthesisResult:
    """Herding: images whose features together have the mean of the class's."""
    return select(run, teacher_of(run).network, lambda features, label: herding(features, run.counts[label]))


@method(KCenterConfig, pretrained=teacher_pieces, selects=True)
def k_center_selection(run: Run[KCenterConfig]) -> SynthesisResult:
    """k-center: images near one of which every image of the class lies."""

    def choose(features: Tensor, label: int) -> Tensor:
        if run.config.start == "mean":
            first = nearest(features, features.mean(dim=0))
        else:
            first = int(torch.randint(len(features), (), generator=run.generator("start", label)))
        return k_center(features, run.counts[label], first)

    return select(run, teacher_of(run).network, choose)


@method(SelectionConfig, pretrained=teacher_pieces, selects=True)
def k_means_selection(run: Run[SelectionConfig]) -> SynthesisResult:
    """k-means: the images nearest the centres of clusters of the class's features."""

    def choose(features: Tensor, label: int) -> Tensor:
        return nearest_distinct(features, k_means(features, run.counts[label], run.generator("k-means", label)))

    return select(run, teacher_of(run).network, choose)


def select(run: Run[Any], network: Network, choose: Callable[[Tensor, int], Tensor]) -> SynthesisResult:
    """The set of the images that ``choose`` picks of every class; one class's features are held at a time.

    Args:
        run: whose checkpoint holds the choices so far.
        network: gives the features.
        choose: from a class's features float64 [n, d], see ``embeddings``, and its number to the indices of rows.

    Returns:
        The set.

    Raises:
        Interrupted: the monitor was asked to stop; a checkpoint was written.
    """
    saved = run.checkpoint.load()
    chosen = [] if saved is None else _by_class(saved["chosen"].flatten(), run.counts)
    with run.monitor.stage(f"{run.method}, {run.budget}, seed {run.seed}", run.classes, len(chosen)) as stage:
        for label in range(len(chosen), run.classes):
            indices = run.training.class_indices[label]
            chosen.append(indices[choose(embeddings(run, network, indices), label)])
            stage.advance()
            done = f"images of {label + 1} of {run.classes} classes chosen by {run.method}"
            run.checkpoint.save_if_due(run.monitor, lambda: {"chosen": torch.cat(chosen)}, done)
    return selected(run, torch.cat(chosen))


def _by_class(chosen: Int64[Tensor, " n"], counts: Sequence[int]) -> list[Int64[Tensor, " k"]]:
    """The images of the first classes, class by class."""
    ends = accumulate(counts)
    done = sum(end <= len(chosen) for end in ends)
    return list(chosen.split(list(counts[:done])))


def embeddings(run: Run[Any], network: Network, indices: Int64[Tensor, " n"]) -> Float[Tensor, "n d"]:
    """The inputs of the network's classifier for these training images, in float64 on the CPU."""
    with torch.inference_mode():
        batches = [network.embed(run.training.images(batch)).cpu() for batch in indices.split(_FEATURE_BATCH)]
    return torch.cat(batches).double()


def classifier_of(network: Network) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Weights and biases of the network's classifier, in float64 on the CPU: ``linear`` of ``embeddings`` is logits."""
    return network.classifier.weight.cpu().double(), network.classifier.bias.cpu().double()


def herding(features: Float[Tensor, "n d"], count: int) -> Int64[Tensor, " k"]:
    """Indices of ``count`` different rows, in the order of choice, each the one that brings the chosen mean nearest.

    Step t takes argmin over rows i not yet chosen of ‖(t + 1) μ − Σ chosen − φ_i‖ (Welling, "Herding dynamical weights
    to learn", ICML 2009, as herding_select of snu-mllab/Efficient-Dataset-Condensation 086273c). Of equals the first.
    """
    mean, squares = features.mean(dim=0), features.square().sum(dim=1)
    residual, free = torch.zeros_like(mean), torch.zeros(len(features), dtype=features.dtype)
    chosen = []
    for _ in range(count):
        residual = residual + mean
        # ‖r − φ‖² without ‖r‖², which is the same for all
        index = int((squares - 2 * features @ residual + free).argmin())
        chosen.append(index)
        free[index] = torch.inf
        residual = residual - features[index]
    return torch.tensor(chosen)


def k_center(features: Float[Tensor, "n d"], count: int, first: int) -> Int64[Tensor, " k"]:
    """Indices of ``count`` different rows, in the order of choice: ``first``, then always the row farthest from them.

    The greatest distance of any row to its nearest chosen one is at most twice the least possible (Gonzalez,
    "Clustering to minimize the maximum intercluster distance", 1985). Of equals the first.
    """
    squares = features.square().sum(dim=1)
    distance = torch.full((len(features),), torch.inf, dtype=features.dtype)
    chosen = [first]
    while len(chosen) < count:
        centre = features[chosen[-1]]
        distance = torch.minimum(distance, (squares - 2 * features @ centre + centre.square().sum()).clamp(min=0))
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return torch.tensor(chosen)


def k_means(features: Float[Tensor, "n d"], count: int, generator: Generator) -> Float[Tensor, "k d"]:
    """The centres of ``count`` clusters: the best of ten runs of Lloyd's iteration.

    A run ends at its fixed point, or after 300 steps. Runs begin with k-means++ (Arthur & Vassilvitskii, 2007). Fewer
    different rows than clusters give equal centres.
    """
    from sklearn.cluster import KMeans  # here, because importing it takes a second
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    seed = int(torch.randint(2**31, (), generator=generator))
    clusters = KMeans(count, n_init=_RESTARTS, tol=0.0, random_state=seed)
    # one thread: several add up their parts of a centre in the order in which they finish
    with warnings.catch_warnings(), threadpool_limits(1, user_api="openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # equal rows
        return torch.from_numpy(clusters.fit(features.numpy()).cluster_centers_)


def nearest(features: Float[Tensor, "n d"], point: Float[Tensor, " d"]) -> int:
    """The index of the row nearest a point; of equals the first."""
    return int((features.square().sum(dim=1) - 2 * features @ point).argmin())


def nearest_distinct(features: Float[Tensor, "n d"], points: Float[Tensor, "k d"]) -> Int64[Tensor, " k"]:
    """For each point in turn, the nearest row that no point before it has taken; of equals the first."""
    distances = features.square().sum(dim=1) - 2 * points @ features.mT
    chosen: list[int] = []
    for row in distances:
        row[chosen] = torch.inf
        chosen.append(int(row.argmin()))
    return torch.tensor(chosen)
