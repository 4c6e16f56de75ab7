"""Batches with targets computed on the fly: mixed, teacher-labelled or recorded, with classes beside them or not.

And batches of so many images of every class.
"""

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentParams, AugmentPolicy
from distill_bench.distilled.playback import Playback
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.runtime.device import send, take
from distill_bench.training.train import BatchFn, ImageLoader


def both(probabilities: Float[Tensor, "b k"], classes: Tensor) -> Float[Tensor, "b 2 k"]:
    """The targets of ``distillation_loss``.

    Args:
        probabilities: what a teacher says.
        classes: int64 [b], or shares of the classes [b, k].

    Returns:
        The two, one after the other.
    """
    shares = classes if classes.is_floating_point() else F.one_hot(classes, probabilities.shape[1])
    return torch.stack([probabilities, shares.to(probabilities.dtype)], dim=1)


def balanced_batches(batches: BatchFn, labels: Int64[Tensor, " n"], images: int, classes: int) -> BatchFn:
    """Random images of every class, or of random classes, instead of the rows that are asked for.

    Args:
        batches: of any rows.
        labels: the class of every row, on the CPU.
        images: how many of a class, all where it has fewer.
        classes: how many are drawn; 0: all that have an image.

    Returns:
        The batch function of a training, see ``BatchFn``.
    """
    rows = [(labels == label).nonzero()[:, 0] for label in labels.unique()]

    def balanced(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(rows), generator=draws)[: classes or None].tolist()
        chosen = [rows[k][torch.randperm(len(rows[k]), generator=draws)[:images]] for k in order]
        return batches(epoch, torch.cat(chosen), draws)

    return balanced


def mixed_batches(load: ImageLoader, targets: Tensor, classes: int, policy: AugmentPolicy, mirror: bool) -> BatchFn:
    """Images augmented and mixed by a policy, and their targets mixed in the same shares.

    Args:
        load: from indices to images.
        targets: classes int64 [n], probabilities [n, classes], or both [n, 2, classes].
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
        return views.shown(drawn, images), _mixed(drawn, images, wanted, take(wanted, drawn.partners))

    return batches


def cut_batches(batches: BatchFn, classes: int, share: float) -> BatchFn:
    """A share of the batches with CutMix: a box of every image comes from another one, and targets are mixed by area.

    Args:
        batches: gives images and targets: classes int64 [b], probabilities [b, classes], or both [b, 2, classes].
        classes: how many there are.
        share: the probability of a batch that it is cut.

    Returns:
        The batch function of a training, whose targets are probabilities, see ``BatchFn``.
    """
    policy = AugmentPolicy(crop="none", mix="cutmix")

    def cut(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images, targets = batches(epoch, indices, draws)
        soft = targets if targets.is_floating_point() else F.one_hot(targets, classes).float()
        if float(torch.rand((), generator=draws)) >= share:
            return images, soft
        _, channels, height, width = images.shape
        drawn = views.sample(policy, len(images), (channels, height, width), False, draws)
        partners = take(images, drawn.partners), take(soft, drawn.partners)
        return views.mixed(drawn, images, partners[0]), _mixed(drawn, images, soft, partners[1])

    return cut


def _mixed(drawn: AugmentParams, images: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """Targets of images and of their partners in the shares of the views."""
    share = send(views.own_share(drawn, *images.shape[2:]).to(own.dtype), own.device)
    share = share.view(-1, *[1] * (own.ndim - 1))
    return share * own + (1 - share) * other


def softened(batches: BatchFn, temperature: float, alpha: float = 1.0) -> BatchFn:
    """Images as they are augmented, and probabilities of their logits, which were mixed as the images are.

    Args:
        batches: gives the images and logits [b, classes]; below an alpha of 1 both [b, 2, classes], see ``both``.
        temperature: which logits are divided by.
        alpha: as for ``teacher_labelled``.

    Returns:
        The batch function of a training, see ``BatchFn``.
    """

    def probable(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images, wanted = batches(epoch, indices, draws)
        if alpha == 1:
            return images, (wanted / temperature).softmax(dim=1)
        said, shares = wanted.unbind(dim=1)
        return images, torch.stack([(said / temperature).softmax(dim=1), shares], dim=1)

    return probable


def teacher_labelled(batches: BatchFn, teacher: nn.Module, temperature: float, alpha: float = 1.0) -> BatchFn:
    """Images as they are augmented, and the teacher's probabilities (logits over ``temperature``) for just these.

    Args:
        batches: gives the images, and their classes, or shares of these.
        teacher: from images to logits.
        temperature: which these are divided by.
        alpha: below 1 the classes stay beside the probabilities, see ``both``.

    Returns:
        The batch function of a training, see ``BatchFn``.
    """

    def labelled(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        images, classes = batches(epoch, indices, draws)
        said = (teacher(images).detach() / temperature).softmax(dim=1)
        return images, said if alpha == 1 else both(said, classes)

    return labelled


def recorded_batches(
    playback: Playback, originals: BatchFn, labels: Tensor, classes: int, alpha: float = 1.0
) -> BatchFn:
    """The recorded views of an epoch and the teacher's recorded probabilities, but for visits of the image itself.

    What is random of a visit is drawn for the seed of the training's generator, the epoch and the image: in batches of
    whatever size networks see the same.

    Args:
        playback: of the recording.
        originals: of visits that show the image itself: gives it augmented, and its class, or shares of these.
        labels: int64 [n], the class of every image.
        classes: how many there are.
        alpha: below 1 the classes, mixed as the views are, stand beside the probabilities, see ``both``.

    Returns:
        The batch function of a training, see ``BatchFn``.
    """
    shares = F.one_hot(labels, classes).float()

    def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        seed = draws.initial_seed()
        images, said = playback(epoch, indices, seed)
        wanted = said if alpha == 1 else both(said, _recorded_shares(playback, shares, epoch, indices, seed, images))
        own = playback.originals(epoch, indices, seed)
        if own.any():
            shown, targets = originals(epoch, indices[own], draws)
            targets = targets if targets.is_floating_point() else F.one_hot(targets, classes)
            targets = targets.to(wanted.dtype)
            place = send(own.nonzero()[:, 0], images.device)
            images = images.index_copy(0, place, shown)
            wanted = wanted.index_copy(0, place, targets if alpha == 1 else both(targets, targets))
        return images, wanted

    return batches


def _recorded_shares(
    playback: Playback, shares: Tensor, epoch: int, indices: Tensor, seed: int, images: Tensor
) -> Tensor:
    """The classes of views, mixed as these are."""
    drawn = playback.recording.views(playback.samples(epoch, indices, seed), indices)
    return _mixed(drawn, images, take(shares, indices), take(shares, drawn.partners))


def distance_batches(recording: RecordedLabels, images: Float[Tensor, "n c h w"], labels: Tensor) -> BatchFn:
    """The recorded views of an epoch, their two classes, in the shares of the view, and the recorded distances.

    Args:
        recording: of distances.
        images: float [n, c, h, w], in the set's pixel space.
        labels: int64 [n], the class of every image.

    Returns:
        The batch function of a training, with the targets of ``distance_loss``.
    """

    def batches(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        at = epoch % recording.epochs
        shown, drawn = recording.replay(images, at, indices), recording.views(at, indices)
        share = views.own_share(drawn, *images.shape[2:])
        shares, said = torch.stack([share, 1 - share], dim=1), recording.distances(at, indices)
        classes = torch.stack([take(labels, indices), take(labels, drawn.partners)], dim=1)
        others = send(torch.stack([shares, said], dim=2), images.device)
        return shown, torch.cat([classes[..., None].to(others.dtype), others], dim=2)

    return batches
