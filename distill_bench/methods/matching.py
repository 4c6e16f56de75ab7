"""What the matching methods share: their common fields, how images begin, siamese augmentation, and FYI's flip."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import AfterValidator, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from torch import Generator, Tensor, nn

from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import with_mirrors
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.finished_sets import BY_CONTENT, images_to_go_on_from, is_finished_set, one_of
from distill_bench.methods.formation import formation_of, stored_of
from distill_bench.methods.run import Config, Run
from distill_bench.methods.selection.selection import embeddings, k_center, k_means, nearest, nearest_distinct
from distill_bench.networks import Network, activation_values, blank_network, build_network
from distill_bench.runtime.device import send
from distill_bench.runtime.memory import memory_limit
from distill_bench.training import compilation

PAYS_FLOPS = 1e14
"""Below, a run's passes are not compiled: it would take longer than it saves. The scaled-down presets are below."""
_CHUNK_BYTES = 2**29
_WITHOUT_GRAPH = 1.5


class FlipConfig(Config):
    """FYI's flip, and the change of DSA that its code makes beside it.

    Attributes:
        augment: DSA, or none.
        flip: a synthetic batch S becomes [S, hflip(S)] before it is augmented.
        always_flip: DSA mirrors each image with probability 1/2 and then applies one of the other operations.
        flip_any_source: ``flip`` and ``always_flip`` mirror images also where the source says that a mirrored image may
            not keep its label.
    """

    augment: Literal["none", "dsa"] = "none"
    flip: bool = False
    always_flip: bool = False
    flip_any_source: bool = False

    @model_validator(mode="after")
    def _augmented(self) -> "FlipConfig":
        if self.always_flip and self.augment != "dsa":
            raise ValueError('always_flip is a variant of DSA: it needs augment = "dsa"')
        return self

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError if images would be mirrored that may not be."""
        super().check(dataset)
        asked = [name for name in ("flip", "always_flip") if getattr(self, name)]
        if asked and not (dataset.flip_invariant or self.flip_any_source):
            without = " ".join(f"`{name}=false`" for name in asked)
            raise UsageError(
                f"{' and '.join(asked)}: a mirrored image of {dataset.name} may not keep its label. Use the method "
                f"without it ({without}), or mirror the images all the same: `flip_any_source=true`."
            )


class MatchingConfig(FlipConfig):
    """Fields of the methods that match signals of random networks.

    Attributes:
        iterations: outer iterations; what one is, the method says.
        image_lr, image_momentum: of the SGD that updates the images.
        init: real images of the class at random; those that greedy k-center picks, or those nearest the centres of
            k-means, both by the embeddings of a random network; noise N(0, 1) in the pixel space; or the images of a
            finished set, see ``warm_start``.
        real_batch: real images of a class a step.
        network: the network whose signals are matched.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr",)
    memory_fields: ClassVar[tuple[str, ...]] = ("real_batch",)

    iterations: PositiveInt
    image_lr: PositiveFloat
    image_momentum: NonNegativeFloat = 0.5
    init: Annotated[str, AfterValidator(one_of("real", "k-center", "k-means", "noise")), BY_CONTENT] = "real"
    real_batch: PositiveInt = 256
    network: str = "ConvNet"


def images_at_once(network: str, shape: tuple[int, int, int], classes: int) -> tuple[int, int]:
    """How many images go through a network at once where it sees each alone: half a GB of activations in float32.

    Where the memory limit is below 2 GiB it is a quarter of that. It depends on nothing else, so that the last bits of
    what is made do not.

    Args:
        network: its name.
        shape: (channels, height, width) of the images.
        classes: of the dataset.

    Returns:
        The number without a graph, and with all that a gradient needs; at least 1.

    Raises:
        UsageError: there is no such network, or the memory limit is no amount.
    """
    values = min(_CHUNK_BYTES, memory_limit().bytes / 4) / 4
    without, of_gradient = activation_values(network, shape, classes)
    return max(1, int(values // (_WITHOUT_GRAPH * without))), max(1, int(values // of_gradient))


def chunk_of(images: int, most: int) -> int:
    """How many of so many images go through a network at once: all if that is ``most`` or less, else half of that.

    >>> chunk_of(200, 240), chunk_of(1000, 240)
    (200, 120)
    """
    return images if images <= most else max(1, most // 2)


def has_batch_norm(network: str, shape: tuple[int, int, int], classes: int) -> bool:
    """Whether a network's logits of an image depend on the others of its batch; arguments as ``images_at_once``."""
    return any(isinstance(module, nn.BatchNorm2d) for module in blank_network(network, shape, classes).modules())


def initial_images(run: Run[Any]) -> Float[Tensor, "n c h w"]:
    """Where synthesis starts: ipc images a class, in class order, requiring no gradient yet.

    Of a formation every one is put together of f² real ones.
    """
    if run.config.init == "noise":
        shape = (run.classes * run.ipc, *run.training.shape)
        return torch.randn(shape, generator=run.generator("initial images")).to(run.device)
    if is_finished_set(run.config.init):
        return images_to_go_on_from(run)
    count = run.ipc * formation_of(run.config) ** 2
    if run.config.init in ("k-center", "k-means"):
        return stored_of(run, _chosen_images(run, count))
    draws = (run.training.draw(c, count, run.generator("initial images", c)) for c in range(run.classes))
    return stored_of(run, torch.cat(list(draws)).clone())


def _chosen_images(run: Run[Any], count: int) -> Float[Tensor, "n c h w"]:
    """For every class the ``count`` images that k-center or k-means chooses.

    Greedy k-center begins at the image nearest the class's mean; of k-means it is the images nearest the centres of so
    many clusters, each taken once. The space is the embedding of one network of random weights, in evaluation mode.
    """
    draws = run.generator("initial network")
    network = build_network(run.config.network, run.training.shape, run.classes, draws).to(run.device).eval()
    chosen = []
    for label, indices in enumerate(run.training.class_indices):
        features = embeddings(run, network, indices)
        if run.config.init == "k-means":
            rows = nearest_distinct(features, k_means(features, count, run.generator("initial clusters", label)))
        else:
            rows = k_center(features, count, nearest(features, features.mean(dim=0)))
        chosen.append(indices[rows])
    return run.training.images(torch.cat(chosen)).clone()


def random_network(run: Run[Any], index: int) -> Network:
    """Network ``index`` of the run's stream of random networks, in training mode."""
    draws = run.generator("network", index)
    return send(build_network(run.config.network, run.training.shape, run.classes, draws), run.device)


def as_it_is(network: Network) -> nn.Module:
    """The network."""
    return network


class Passes:
    """How a function of a run's random networks and of images is run: as it is, or compiled.

    It is compiled once, for a network that takes the values of each. That is decided from operations, noted in the
    run's checkpoint, and resumed as it was begun.

    Args:
        run: which network, and for how many steps.
        function: of a network, as ``prepare`` gives it, and images [n, c, h, w].
        images: that pass in a step, each counted as often as it does; a gradient is two passes more. 0: as it is.
        prepare: from a network to one that shares its values, such as ``Observed``.
        networks: from an index to a network; None: those of ``random_network``.

    Attributes:
        network: the present one; there is none before the first ``take``.
    """

    network: Network

    def __init__(
        self,
        run: Run[Any],
        function: Callable[[Any, Tensor], Any],
        images: int,
        prepare: Callable[[Network], nn.Module] = as_it_is,
        networks: Callable[[int], Network] | None = None,
    ) -> None:
        self._run_of, self._function, self._prepare = run, function, prepare
        self._networks = networks or partial(random_network, run)
        self._choose(compilation.decide("auto", run.device, self._flops(images), PAYS_FLOPS))

    def take(self, index: int) -> Callable[[Float[Tensor, "n c h w"]], Any]:
        """The function of network ``index``."""
        drawn = self._networks(index)
        if self._compiled is None:
            self.network = drawn
        else:
            self.network.load_state_dict(drawn.state_dict())
        return self.function

    @property
    def function(self) -> Callable[[Float[Tensor, "n c h w"]], Any]:
        """The function of the present network."""
        return self._compiled or partial(self._function, self._prepare(self.network))

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"compiled": self._run_of.checkpoint.compiled}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave."""
        self._choose(compilation.resume_mode(state["compiled"]))

    def _choose(self, compiled: bool) -> None:
        self._run_of.checkpoint.compiled = compiled
        self._compiled: Callable[[Tensor], Any] | None = None
        if compiled:
            self.network = self._networks(0)
            self._compiled = compilation.compiled(self._function, self._prepare(self.network))

    def _flops(self, images: int) -> float:
        """Of all steps."""
        run, shape = self._run_of, self._run_of.training.shape
        name, classes = run.config.network, run.classes
        if not images:
            return 0.0
        blank = blank_network(name, shape, classes).to_empty(device="cpu")  # operations do not depend on values
        return float(compilation.flops_of(blank, shape)) * images * run.config.iterations


def draw_dsa(run: Run[Any], batch: int, generator: Generator, among: tuple[str, ...] = dsa.OPERATIONS) -> dsa.Sample:
    """An operation and its parameters for ``batch`` images, on the device, from those that dataset and recipe allow."""
    operations = dsa.usual_operations(run.training.flip_invariant, among)
    return dsa.sample(operations, batch, run.training.shape, generator, run.config.always_flip).to(run.device)


def augment_pair(
    run: Run[Any], real: Float[Tensor, "r c h w"], synthetic: Float[Tensor, "s c h w"], generator: Generator
) -> tuple[Float[Tensor, "r c h w"], Float[Tensor, "t c h w"]]:
    """Both batches as the network sees them.

    The synthetic one is followed by its mirror images where the recipe flips (then t = 2 s, else t = s). Siamese DSA
    puts one operation with one set of parameters on both.
    """
    if run.config.flip:
        synthetic = with_mirrors(synthetic)
    if run.config.augment == "none":
        return real, synthetic
    drawn = draw_dsa(run, 1, generator)
    return dsa.apply(drawn, real), dsa.apply(drawn, synthetic)
