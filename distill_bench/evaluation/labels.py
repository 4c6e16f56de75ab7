"""Batches with targets computed on the fly: mixed, teacher-labelled or recorded."""

from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.distilled.playback import Playback
from distill_bench.runtime.device import send, take
from distill_bench.training.train import Augment, BatchFn, ImageLoader


def mixed_batches(load: ImageLoader, targets: Tensor, classes: int, policy: AugmentPolicy, mirror: bool) -> BatchFn:
    """Images augmented and mixed by a policy, and their targets mixed in the same shares.

    Args:
        load: from indices to images.
        targets: classes int64 [n], or probabilities [n, classes].
        classes: how many there are.
        policy: how images are augmented and mixed.
        mirror: whether images may be mirrored too.

    Returns:
        The batch function of a training, see ``BatchFn``.
    """
    soft = targets if targets.is_floating_point() else F.one_hot(targets, classes).float()

    def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images, wanted = load(indices), take(soft, indices)
        _, channels, height, width = images.shape
        drawn = views.sample(policy, len(images), (channels, height, width), mirror, draws)
        share = send(views.own_share(drawn, height, width).to(wanted.dtype), wanted.device)[:, None]
        return views.shown(drawn, images), share * wanted + (1 - share) * take(wanted, drawn.partners)

    return batches


def teacher_labelled(load: ImageLoader, augment: Augment | None, teacher: nn.Module, temperature: float) -> BatchFn:
    """Images as they are augmented, and the teacher's probabilities (logits over ``temperature``) for just these."""

    def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images = load(indices)
        if augment is not None:
            images = augment(images, draws)
        return images, (teacher(images).detach() / temperature).softmax(dim=1)

    return batches


def recorded_batches(playback: Playback) -> BatchFn:
    """The recorded views of an epoch and the teacher's recorded probabilities; nothing is drawn."""
    return lambda epoch, indices, draws: playback(epoch, indices)
