"""The first part of a set that was made in blocks, which is a set of its own."""

import torch

from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import UsageError
from distill_bench.runtime.text import listed


def prefix_of(distilled: DistilledSet, ipc: int) -> DistilledSet:
    """See ``DistilledSet.prefix``."""
    card = distilled.card
    if ipc not in card.prefixes:
        has = f"of this set they are its first {listed(card.prefixes)}" if card.prefixes else "of this set none are"
        raise UsageError(
            f"`prefix={ipc}`: the first images per class are a set of their own where they were made as blocks; {has}."
        )
    rows = (distilled.labels == torch.arange(len(card.class_names))[:, None]).cumsum(dim=1)
    kept = rows.gather(0, distilled.labels[None])[0] <= ipc
    smaller = tuple(each for each in card.prefixes if each < ipc)
    return DistilledSet(
        distilled.images[kept],
        distilled.labels[kept],
        card.model_copy(update={"ipc": ipc, "prefixes": smaller, "prefix_of": card.prefix_of or card.ipc}),
        soft_labels=None if distilled.soft_labels is None else distilled.soft_labels[kept],
        learning_rate=distilled.learning_rate,
    )
