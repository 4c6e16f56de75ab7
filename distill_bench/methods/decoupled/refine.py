"""NRR-DD: crops of what a teacher looks at and is least sure of, refined where it does not look, and relabelled.

Source: Tran et al., "Enhancing Dataset Distillation via Non-Critical Region Refinement" (CVPR
2025, arXiv 2503.18267). There is no code; what the paper does not say, and no summary of it, is a field with a value of
our own.
"""

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int64
from pydantic import Field, NonNegativeInt
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.methods.decoupled.class_activation import areas_of, check_maps
from distill_bench.methods.decoupled.realistic_crops import CropConfig, check_pool, cropped_images
from distill_bench.methods.decoupled.recover import RecoverConfig, Recovery, recovered_images
from distill_bench.methods.decoupled.relabel import relabel, teacher_of, teacher_pieces
from distill_bench.methods.run import Run, SynthesisResult, method
from distill_bench.networks import Network


class RefineConfig(RecoverConfig, CropConfig):
    """Fields of NRR-DD: RDED's of the crops, SRe2L's of the updates, and these.

    Attributes:
        iterations: updates of every batch of images; with 0 the crops are left as they are.
        init: images start from the crops.
        optimizer: Adam, or plain gradient descent.
        threshold: ε: pixels are refined by max(0, ε − C), where C is how critical they are, from 0 to 1.
        masked: what that is multiplied with: the update, or the gradient. Adam divides a gradient by its own size, so
            that with it a masked gradient is as good as none but where the mask is 0.
        mask_every: the mask is made anew after so many updates; 0: it is that of the crops throughout.
    """

    LATER: ClassVar[tuple[str, ...]] = CropConfig.LATER

    iterations: NonNegativeInt
    crop: bool = False
    first_bn_multiplier: float = 1.0
    init: Literal["crops"] = "crops"  # type: ignore[assignment]
    optimizer: Literal["adam", "sgd"] = "adam"
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    masked: Literal["update", "gradient"] = "update"
    mask_every: NonNegativeInt = 0

    def check(self, dataset: Dataset) -> None:
        """Raise UsageError as crops and recovery do, or for a teacher without class activation maps."""
        super().check(dataset)
        check_maps(self.teacher.network, dataset.train.shape, len(dataset.class_names))


@method(RefineConfig, pretrained=teacher_pieces)
def refine(run: Run[RefineConfig]) -> SynthesisResult:
    """Crops, refined batch by batch, relabelled."""
    check_pool(run)
    teacher = teacher_of(run)
    images = cropped_images(run, teacher.network)
    if run.config.iterations:
        images = recovered_images(run, teacher.network, images, Refinement)
    return relabel(run, teacher, SynthesisResult(images, run.labels))


class Refinement(Recovery):
    """The losses of ``Recovery``, whose updates are held back where the teacher looks."""

    _run_of: Run[Any]

    def __init__(
        self,
        run: Run[Any],
        network: Network,
        labels: Int64[Tensor, " b"],
        images: Float[Tensor, "b c h w"],
        optimizer: torch.optim.Optimizer,
        number: int,
    ) -> None:
        super().__init__(run, network, labels, images, optimizer, number)
        self._network = network
        self._mask = self._mask_now()

    @staticmethod
    def optimizer(config: Any, images: Float[Tensor, "b c h w"]) -> torch.optim.Optimizer:
        """Of the images: Adam, or plain gradient descent."""
        if config.optimizer == "sgd":
            return torch.optim.SGD([images], lr=config.image_lr)
        return Recovery.optimizer(config, images)

    def loss_and_grads(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        config = self._run_of.config
        if step and config.mask_every and step % config.mask_every == 0:
            self._mask = self._mask_now()
        self._before = self._images.clone()
        loss, gradients = super().loss_and_grads(step)
        if config.masked == "gradient":
            gradients = {name: self._mask * each for name, each in gradients.items()}
        return loss, gradients

    def after_step(self, step: int) -> None:
        moved = self._images
        if self._run_of.config.masked == "update":
            moved = self._before + self._mask * (moved - self._before)
        self._images.copy_(torch.where(self._mask > 0, self._run_of.training.clip(moved), self._before))

    def state(self) -> dict[str, Any]:
        return super().state() | {"mask": self._mask}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self._mask = state["mask"].to(self._images.device)

    def _mask_now(self) -> Float[Tensor, "b 1 h w"]:
        areas = areas_of(self._network, self._images, self._labels)
        return refinement_mask(areas, self._run_of.config.threshold)[:, None]


def refinement_mask(areas: Float[Tensor, "b h w"], threshold: float) -> Float[Tensor, "b h w"]:
    """How much every pixel is refined: max(0, ε − C), 0 where it is as critical as the threshold, or more.

    Args:
        areas: C, see ``critical_areas``.
        threshold: ε.

    Returns:
        The mask.
    """
    return (threshold - areas).clamp(min=0)
