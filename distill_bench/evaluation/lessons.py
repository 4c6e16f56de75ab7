"""Batches whose targets are no rows of a table: of mixed images, by a teacher that sees the batch, or recorded."""

from torch import Generator, Tensor, nn
from torch.nn import functional as F

from distill_bench.augment import views
from distill_bench.augment.views import ViewRule
from distill_bench.distilled_set import TEACHER_PREFIX, DistilledSet
from distill_bench.errors import DataError, UsageError
from distill_bench.networks import Network, blank_network, build_network
from distill_bench.recorded import Recording
from distill_bench.training import Augment, Fetch, Lesson


def mixing(fetch: Fetch, targets: Tensor, classes: int, rule: ViewRule, mirror: bool) -> Lesson:
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


def replayed(images: Tensor, recording: Recording, temperature: float) -> Lesson:
    """The recorded views and labels; after the last recorded epoch the first comes again."""

    def lesson(epoch: int, indices: Tensor, draws: Generator) -> tuple[Tensor, Tensor]:
        at = epoch % recording.epochs
        wanted = (recording.logits(at, indices) / temperature).softmax(dim=1)
        return recording.replay(images, at, indices), wanted.to(images.device)

    return lesson


def stored_teacher(distilled: DistilledSet) -> Network:
    """The network that a set holds, in evaluation mode, without gradients.

    Raises:
        DataError: its tensors are not those of the network that the card names.
    """
    name, shape = distilled.card.teacher, distilled.images.shape[1:]
    assert name is not None
    about = name, (shape[0], shape[1], shape[2]), len(distilled.card.class_names)
    own = {
        key.removeprefix(TEACHER_PREFIX): value
        for key, value in distilled.stored.items()
        if key.startswith(TEACHER_PREFIX)
    }
    try:
        wanted = blank_network(*about).state_dict()  # a name may claim any size; nothing is allocated for it
    except UsageError as error:
        raise DataError(f"the stored teacher cannot be built: {error}") from error
    differing = [key for key in wanted.keys() | own.keys() if _form(wanted.get(key)) != _form(own.get(key))]
    if differing:
        key = min(differing)
        raise DataError(
            f"the stored teacher is no {name}: its {key} is {_form(own.get(key))}, not {_form(wanted.get(key))}."
        )
    network = build_network(*about, Generator())
    network.load_state_dict(own)
    return network.eval().requires_grad_(False)


def _form(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")
