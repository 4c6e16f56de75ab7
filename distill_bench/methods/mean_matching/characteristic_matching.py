"""NCFM: characteristic functions of synthetic and real features are matched, in networks between random and trained.

Source: Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective" (CVPR 2025), arXiv
2502.20653, and NCFM.py, Condenser.py and compute_loss.py of gszfwsb/NCFM de92fb8. What is changed: README.md.
"""

from collections.abc import Set
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import with_mirrors
from distill_bench.datasets.dataset import Dataset
from distill_bench.methods.experts import ExpertConfig, expert_pieces
from distill_bench.methods.formation import shown_of
from distill_bench.methods.loop import optimise
from distill_bench.methods.matching import draw_dsa, initial_images
from distill_bench.methods.mean_matching.characteristic import (
    ROWS_A_SCALE,
    FrequencyNetwork,
    ascend,
    discrepancy,
    waves,
)
from distill_bench.methods.mean_matching.distribution_matching import distance as means_apart
from distill_bench.methods.mean_matching.distribution_matching import embedding
from distill_bench.methods.mean_matching.mean_matching import MeanMatching, MeanMatchingConfig, Signals
from distill_bench.methods.mean_matching.pool import Mixture, Pool
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.networks import Network, activation_values, blank_network
from distill_bench.networks.initialise import initialise
from distill_bench.runtime.device import send
from distill_bench.training.memory import GRADIENT_FACTOR

_LEAST_RISE = 1e-4
"""A loss counts as lower if it is so by this part of the lowest, as in torch's ReduceLROnPlateau."""
_WAVE_COPIES = 6
"""Of cos and sin of an image at every frequency, with what their gradient needs."""


class CharacteristicConfig(MeanMatchingConfig, ExpertConfig):
    """An iteration is one network between an expert's two ends, and one image update.

    Attributes:
        distance: of characteristic functions; or DM's, of the embeddings' means, to compare with.
        mixture: where between its first values and those after its last epoch an expert is taken: anywhere (uniform),
            or at one of the two ends.
        frequencies: at how many t the functions are compared.
        amplitude: α, see ``discrepancy``.
        loss_scale: multiplies the discrepancy; the calibration is weighed against it.
        frequency_net: whether a network is trained to choose the frequencies' scales; else they are N(0, 1).
        frequency_lr: of its gradient ascent.
        calibration: the weight of the cross-entropy of the synthetic images in the trained end; 0: none.
        optimizer: of the images. AdamW has no ``image_momentum``.
        weight_decay: its.
        plateau_patience: after so many iterations without a lower loss the image rate is halved; 0: it is constant.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "expert.learning_rate")
    memory_fields: ClassVar[tuple[str, ...]] = (*MeanMatchingConfig.memory_fields, "frequencies", "expert.batch_size")

    distance: Literal["characteristic", "mean"] = "characteristic"
    mixture: Mixture = "uniform"
    frequencies: PositiveInt = 4096
    amplitude: Annotated[float, Field(ge=0, le=1)] = 0.5
    loss_scale: PositiveFloat = 300.0
    frequency_net: bool = False
    frequency_lr: PositiveFloat = 1e-3
    calibration: NonNegativeFloat = 1.0
    optimizer: Literal["sgd", "adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 5e-4
    plateau_patience: NonNegativeInt = 500

    @model_validator(mode="after")
    def _network_has_rows(self) -> "CharacteristicConfig":
        if self.frequency_net and self.distance == "mean":
            raise ValueError("frequency_net chooses frequencies, which distance = mean does not have: leave one out")
        if self.frequency_net and self.frequencies < 2 * ROWS_A_SCALE:
            raise ValueError(
                f"frequency_net has a row for {ROWS_A_SCALE} frequencies and needs two: give frequencies = "
                f"{2 * ROWS_A_SCALE} or more, or frequency_net = false"
            )
        return self

    @property
    def versions(self) -> dict[str, int]:
        """Of the frequency network, which at first went by the mean over classes, unscaled."""
        return {"frequency network": 2} if self.frequency_net else {}

    def misplaced(self, changed: Set[str]) -> str | None:
        """Of frequencies that are not compared, or not chosen."""
        if self.distance == "mean" and (idle := sorted({"frequencies", "amplitude", "loss_scale"} & changed)):
            return f"{' and '.join(idle)} go with distance=characteristic. Set it as well, or leave it out."
        if not self.frequency_net and "frequency_lr" in changed:
            return "frequency_lr goes with frequency_net=true. Set it as well, or leave it out."
        return super().misplaced(changed)

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: a step of mean matching with its waves, a class's calibration, or an expert's step."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        sizes = [min(self.real_batch, len(indices)) for indices in dataset.train.class_indices]
        own = ipc * self.formation**2 * (2 if self.flip else 1)
        chunks = self.chunks(shape, classes, sum(sizes), classes * own)
        features = blank_network(self.network, shape, classes).classifier.in_features
        rows = chunks.real + chunks.synthetic if self.distance == "characteristic" else 0
        waved = 4 * self.frequencies * (_WAVE_COPIES * rows + 3 * features)
        calibrated = 4 * own * activation_values(self.network, shape, classes)[1] * GRADIENT_FACTOR
        return max(super().step_bytes(dataset, ipc) + waved, int(calibrated), self.expert_bytes(dataset))


@method(CharacteristicConfig, pretrained=expert_pieces)
def characteristic_matching(run: Run[CharacteristicConfig]) -> SynthesisResult:
    """NCFM, and the mean matching beside it that differs in the distance alone."""
    images, config = initial_images(run), run.config
    optimizer: Optimizer
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW([images], lr=config.image_lr, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            [images], lr=config.image_lr, momentum=config.image_momentum, weight_decay=config.weight_decay
        )
    objective = CharacteristicMatching(run, images, optimizer)
    optimise(run, objective, {"images": images}, {"images": optimizer}, config.iterations)
    return objective.result()


class CharacteristicMatching(MeanMatching):
    """Mean matching of the waves of features, with the cross-entropy of the images beside it.

    Args:
        run: whose config is a ``CharacteristicConfig``.
        images: the learnable.
        optimizer: its.
    """

    def __init__(self, run: Run[CharacteristicConfig], images: Float[Tensor, "n c h w"], optimizer: Optimizer) -> None:
        config = run.config
        self._optimizer, self._pool = optimizer, Pool(run)
        self._lowest, self._waited = float("inf"), 0
        self._net: FrequencyNetwork | None = None
        means = config.distance == "mean"
        super().__init__(
            run,
            images,
            embedding if means else unit_features,
            means_apart if means else partial(scaled_discrepancy, config),
            networks=self._pool.mixed,
        )
        self._width = blank_network(config.network, run.training.shape, run.classes).classifier.in_features
        if config.frequency_net:
            with torch.device("meta"):
                blank = FrequencyNetwork(self._width)
            self._net = send(initialise(blank.to_empty(device="cpu"), run.generator("frequency network")), run.device)

    def signals_at(self, step: int) -> Signals:
        """The waves of the features of a step's network, at a step's frequencies; or the embedding."""
        features_of = super().signals_at(step)
        if self._run_of.config.distance == "mean":
            return features_of
        frequencies, self._seen = self._frequencies(step), list[Tensor]()

        def signals(images: Tensor) -> list[Tensor]:
            (features,) = features_of(images)
            if self._net is not None:
                self._seen.append(features.detach())
            return waves(features, frequencies)

        return signals

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        self._wait_for_plateau()
        loss, gradients = super().loss_and_grads(step)
        if self._net is not None:
            self._choose_anew(step)
        if weight := self._run_of.config.calibration:
            value, slope = self._calibrated(step)
            loss, gradients["images"] = loss + weight * value, gradients["images"] + weight * slope
        return loss, gradients

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Keep the pixels in the range of real ones, as the released code does."""
        self._images.copy_(self._run_of.training.clip(self._images))

    def state(self) -> dict[str, Any]:
        chosen = {} if self._net is None else {"frequency_net": self._net.state_dict()}
        return super().state() | {"lowest": self._lowest, "waited": self._waited} | chosen

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._lowest, self._waited = state["lowest"], state["waited"]
        if self._net is not None:
            self._net.load_state_dict(state["frequency_net"])

    def _wait_for_plateau(self) -> None:
        """Halve the image rate where the loss has not been lower for long."""
        run = self._run_of
        patience, history = run.config.plateau_patience, run.history
        if not patience or not history:
            return
        if history[-1] < self._lowest * (1 - _LEAST_RISE):
            self._lowest, self._waited = history[-1], 0
            return
        self._waited += 1
        if self._waited > patience:
            self._waited = 0
            for group in self._optimizer.param_groups:
                group["lr"] /= 2

    def _draws(self, step: int) -> tuple[Tensor, Tensor]:
        """What a step's frequencies are made of: rows of noise, and directions."""
        run, count = self._run_of, self._run_of.config.frequencies
        draws = run.generator("frequencies", step)
        directions = torch.randn(count, self._width, generator=draws)
        noise = torch.randn(max(2, count // ROWS_A_SCALE), self._width, generator=draws)
        return send(noise, run.device), send(directions, run.device)

    @torch.no_grad()
    def _frequencies(self, step: int) -> Float[Tensor, "m d"]:
        noise, directions = self._draws(step)
        return directions if self._net is None else self._net(noise, directions)

    def _choose_anew(self, step: int) -> None:
        """One step of ascent for the frequency network, on the features that the images were just moved by."""
        run, config = self._run_of, self._run_of.config
        assert self._net is not None
        real = [min(config.real_batch, len(indices)) for indices in run.training.class_indices]
        own = [run.ipc * config.formation**2 * (2 if config.flip else 1)] * run.classes
        # first the real ones, then the synthetic ones; in chunks these pass twice
        rows = torch.cat(self._seen)[: sum(real) + sum(own)].split(real + own)
        ascend(
            self._net,
            *self._draws(step),
            rows[run.classes :],
            rows[: run.classes],
            config.amplitude,
            config.frequency_lr * config.loss_scale,
        )

    def _calibrated(self, step: int) -> tuple[Tensor, Tensor]:
        """Σ over classes of the cross-entropy of what networks are shown, in the trained end, and its slope [n, …].

        With ``flip`` that is followed by its mirror images, as where features are matched.
        """
        run, network = self._run_of, self._pool.trained(step).requires_grad_(False)
        total, slopes = self._images.new_zeros(()), list[Tensor]()
        for label, own in enumerate(self._images.detach().split(run.ipc)):
            leaf = own.requires_grad_()
            shown = with_mirrors(shown_of(run, leaf)) if run.config.flip else shown_of(run, leaf)
            if run.config.augment == "dsa":
                shown = dsa.apply(draw_dsa(run, len(shown), run.generator(f"calibrate {label}", step)), shown)
            loss = F.cross_entropy(network(shown), torch.full((len(shown),), label, device=run.device))
            slopes.append(torch.autograd.grad(loss, leaf)[0])
            total = total + loss.detach()
        return total, torch.cat(slopes)


def scaled_discrepancy(config: CharacteristicConfig, synthetic: list[Tensor], real: list[Tensor]) -> Tensor:
    """``discrepancy`` as the recipe weighs it."""
    return config.loss_scale * discrepancy(synthetic, real, config.amplitude)


def unit_features(network: Network, images: Float[Tensor, "n c h w"]) -> list[Tensor]:
    """The embedding divided by its L2 norm, [n, d]."""
    return [F.normalize(network.embed(images), dim=1)]
