"""KRR-ST: images and targets on which a network learns, by squared error, a self-supervised network's features.

The outer loss asks what ridge regression from the set's images to its targets, on the features of a network of a pool,
predicts for real images; the inner problem has no augmentation and no self-supervised loss, whose gradient would be
biased. Source: Lee et al., "Self-Supervised Dataset Distillation for Transfer Learning" (ICLR 2024), arXiv 2310.06511,
and db-Lee/selfsup_dd 4beb4b1.
"""

from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from distill_bench.augmentations import views
from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.card import TARGETS
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.methods.selection.selection import random_indices
from distill_bench.methods.self_supervised.pool import Pool
from distill_bench.methods.self_supervised.random_targets import TargetsConfig, encoder_of, encoder_pieces
from distill_bench.networks import Network, build_network
from distill_bench.runtime.device import send
from distill_bench.training.memory import training_bytes

_LAST_RATE = 1e-3  # of the first, after all outer steps


class KRRSTConfig(TargetsConfig):
    """Fields of KRR-ST.

    Attributes:
        network: of the pool, from random initialisation, with a linear layer to the targets.
        iterations: outer steps, each followed by a turn of the pool's network that was used.
        image_lr, target_lr: of the AdamW (without weight decay) that updates images and targets; both fall linearly to
            a thousandth.
        real_batch: real images a step.
        augment: what is done to these: shifts by up to 4 pixels and mirrors (where the dataset allows), or nothing.
        ridge: λ over the trace of the kernel matrix.
        pool: how many networks.
        life: steps a network is trained for before a fresh one replaces it. The first ones start anywhere from 1 to
            life − 1.
        pool_lr, pool_momentum, pool_decay: of their SGD, on all of the set at a time.
        pool_reset: whether a slot's count begins anew with a fresh network; ``false`` as released, see ``Pool``.
        init_space: of the images that synthesis starts from: the pixel space; or ``unit`` as released, where pixels in
            0 … 1 are taken for values of the pixel space.
    """

    lr_fields: ClassVar[tuple[str, ...]] = ("image_lr", "target_lr", "pool_lr", "encoder.learning_rate")
    memory_fields: ClassVar[tuple[str, ...]] = ("real_batch", "pool", "encoder.batch_size")

    network: str = "ConvNetBN"
    iterations: PositiveInt
    image_lr: PositiveFloat
    target_lr: PositiveFloat
    real_batch: PositiveInt = 1024
    augment: Literal["shift", "none"] = "shift"
    ridge: PositiveFloat = 1e-6
    pool: PositiveInt = 10
    life: PositiveInt = 1000
    pool_lr: PositiveFloat = 0.1
    pool_momentum: NonNegativeFloat = 0.9
    pool_decay: NonNegativeFloat = 1e-3
    pool_reset: bool = True
    init_space: Literal["same", "unit"] = "same"

    def step_bytes(self, dataset: Dataset, ipc: int) -> int:
        """Of float32: the larger of the encoder's training and a step on the set and the real images."""
        shape, classes = dataset.train.shape, len(dataset.class_names)
        step = training_bytes(self.network, shape, classes, max(ipc * classes, self.real_batch // 2))
        return max(super().step_bytes(dataset, ipc), step)


@method(KRRSTConfig, pretrained=encoder_pieces)
def krr_st(run: Run[KRRSTConfig]) -> SynthesisResult:
    """KRR-ST. Of labels it knows one thing: which images of every class it starts from."""
    objective = KernelRidge(run)
    optimise(run, objective, objective.learnables, objective.optimizers, run.config.iterations)
    return objective.result()


class KernelRidge(Objective):
    """The outer loss of KRR-ST. Learns images and targets.

    Attributes:
        optimizers: of the learnables, whose rates fall.
    """

    def __init__(self, run: Run[KRRSTConfig]) -> None:
        self._run_of, self._encoder = run, encoder_of(run)
        images = run.training.images(random_indices(run)).clone()
        self._targets = self._encoder.features(images)
        self._images = send(run.training.pixels(images), run.device) if run.config.init_space == "unit" else images
        self._rates = {"images": run.config.image_lr, "targets": run.config.target_lr}
        self.optimizers: dict[str, Optimizer] = {
            name: torch.optim.AdamW([tensor], lr=self._rates[name], weight_decay=0.0)
            for name, tensor in self.learnables.items()
        }
        self._pool: Pool | None = None
        self._slot = 0

    @property
    def learnables(self) -> dict[str, Tensor]:
        """What is optimised, by name."""
        return {"images": self._images, "targets": self._targets}

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        run, config = self._run_of, self._run_of.config
        for name, optimizer in self.optimizers.items():
            optimizer.param_groups[0]["lr"] = self._rates[name] * rate_factor(step, config.iterations)
        self._pool = self._pool or self._warm_pool()
        self._slot = int(torch.randint(config.pool, (), generator=run.generator("slot", step)))
        network = self._pool.slots[self._slot].network.eval()
        real = self._real_images(step)
        with torch.no_grad():
            wanted, real_features = self._encoder.features(real), with_constant(network.embed(real))
        images, targets = (tensor.detach().requires_grad_() for tensor in (self._images, self._targets))
        features = with_constant(network.embed(images))
        loss = F.mse_loss(ridge_prediction(features, targets, real_features, config.ridge), wanted.double())
        found = torch.autograd.grad(loss, [images, targets])
        return loss.detach().float(), dict(zip(("images", "targets"), found, strict=True))

    def after_step(self, step: int) -> None:
        assert self._pool is not None
        self._pool.turn(self._slot, self._images, self._targets)

    def result(self) -> SynthesisResult:
        """The set as it is now. Labels are the classes of the images it started from, for the strict score."""
        stored = {TARGETS: self._targets.cpu()}
        return SynthesisResult(self._images, self._run_of.labels, label_kind="targets", stored=stored)

    def state(self) -> dict[str, Any]:
        return {} if self._pool is None else self._pool.state()

    def restore(self, state: dict[str, Any]) -> None:
        if state:
            self._pool = self._new_pool()
            self._pool.restore(state)

    def _real_images(self, step: int) -> Float[Tensor, "b c h w"]:
        run, config = self._run_of, self._run_of.config
        draws = run.generator("real", step)
        real = run.training.images(torch.randperm(len(run.training), generator=draws)[: config.real_batch])
        if config.augment == "none":
            return real
        return views.augmentation(views.AugmentPolicy(crop="padded"), run.training.flip_invariant)(real, draws)

    def _new_pool(self) -> Pool:
        config = self._run_of.config

        def sgd(network: Network) -> Optimizer:
            how = {"momentum": config.pool_momentum, "weight_decay": config.pool_decay}
            return torch.optim.SGD(network.parameters(), config.pool_lr, **how)  # type: ignore[arg-type]

        return Pool(self._fresh_network, config.pool, config.life, sgd, config.pool_reset)

    def _warm_pool(self) -> Pool:
        """A pool whose networks are anywhere in their lives, trained on the set as it starts; kept as it grows."""
        run, pool = self._run_of, self._new_pool()
        kept, oldest = run.checkpoint.part("pool"), max(2, run.config.life)
        ages = [int(torch.randint(1, oldest, (), generator=run.generator("age", k))) for k in range(run.config.pool)]
        if saved := kept.load():
            pool.restore(saved)
        with run.monitor.stage("krr-st, the pool of networks", sum(ages), pool.steps) as stage:
            for slot, age in zip(pool.slots, ages, strict=True):
                while slot.steps < age:
                    slot.train(self._images, self._targets)
                    stage.advance()
                    done = f"{pool.steps} of {sum(ages)} steps of the pool of networks done"
                    kept.save_if_due(run.monitor, pool.state, done)
        return pool

    def _fresh_network(self, number: int) -> Network:
        run, outputs = self._run_of, self._targets.shape[1]
        network = build_network(run.config.network, run.training.shape, outputs, run.generator("network", number))
        return send(network, run.device)


def rate_factor(step: int, steps: int) -> float:
    """What a rate is multiplied by at a step: 1 at first, a thousandth after the last; torch's LinearLR."""
    return 1 + (_LAST_RATE - 1) * min(step, steps) / steps


def with_constant(features: Float[Tensor, "n d"]) -> Float[Tensor, "n e"]:
    """Features in float64, with a one behind each row: the regression has an offset, which is penalised as the rest."""
    return torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.float64, device=features.device)], 1)


def ridge_prediction(
    features: Float[Tensor, "n d"], targets: Float[Tensor, "n k"], real: Float[Tensor, "m d"], scale: float
) -> Float[Tensor, "m k"]:
    """What ridge regression from a set's features to its targets predicts for real images: K_rs (K_ss + λI)⁻¹ Y_s.

    K_ss = F_s F_sᵀ and K_rs = F_r F_sᵀ; λ = ``scale`` · trace(K_ss), through which no gradient goes (the paper's
    equation 5, and get_krr_loss of the released code, which solves in float32).

    Args:
        features: F_s, float64.
        targets: Y_s, of any float type.
        real: F_r, float64.
        scale: λ over the trace.

    Returns:
        The prediction, float64.
    """
    kernel = features @ features.mT
    ridge = scale * kernel.detach().trace() * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    return real @ (features.mT @ torch.linalg.solve(kernel + ridge, targets.double()))
