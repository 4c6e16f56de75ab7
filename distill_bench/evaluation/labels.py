"""Batches whose targets are no rows of a table: of mixed images, or by a teacher that sees the batch."""

from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.training.train import Augment, Fetch, Lesson


def mixing(fetch: Fetch, targets: Tensor, classes: int, rule: AugmentPolicy, mirror: bool) -> Lesson:
    """Images mixed by a rule, and their targets mixed in the same shares.

    Args:
        targets: classes int64 [n], or probabilities [n, classes].
    """
    soft = targets if targets.is_floating_point() else F.one_hot(targets, classes).float()

    def lesson(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images, wanted = fetch(indices), soft[indices]
        _, channels, height, width = images.shape
        drawn = views.sample(rule, len(images), (channels, height, width), mirror, draws)
        share = views.own_share(drawn, height, width).to(wanted)[:, None]
        return views.shown(drawn, images), share * wanted + (1 - share) * wanted[drawn.partners]

    return lesson


def taught(fetch: Fetch, augment: Augment | None, teacher: nn.Module, temperature: float) -> Lesson:
    """Images as they are augmented, and what the teacher says of just these."""

    def lesson(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images = fetch(indices)
        if augment is not None:
            images = augment(images, draws)
        return images, (teacher(images).detach() / temperature).softmax(dim=1)

    return lesson
