"""What a set cannot have: more images than its classes, or more memory than the machine."""

import torch

from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError
from distill_bench.methods.run import Config
from distill_bench.runtime.device import physical_memory

_NOTABLE_BYTES = 2 * 10**9
"""Of a step: what is less is not worth a line."""


def check_some(ipc: int) -> None:
    """Raises UsageError for fewer than one image per class."""
    if ipc < 1:
        raise UsageError(f"`ipc={ipc}`: at least one image per class is needed.")


def check_ipc(dataset: Dataset, ipc: int) -> None:
    """Raises UsageError if a class has fewer training images than a set would have."""
    check_some(ipc)
    if short := shortage(dataset, ipc):
        reason, most = short
        raise UsageError(reason + (f" Give `ipc={most}` or less, or add images." if most else ""))


def shortage(dataset: Dataset, ipc: int) -> tuple[str, int] | None:
    """Why a set cannot have so many images per class, and how many it can; None if it can.

    Args:
        dataset: whose training split is counted.
        ipc: images per class.

    Returns:
        The reason and the most images per class; or None.
    """
    indices = dataset.train.class_indices
    counts = [len(indices[label]) if label < len(indices) else 0 for label in range(len(dataset.class_names))]
    fewest = min(counts)
    if fewest >= ipc:
        return None
    where = f"{dataset.name}: class {dataset.class_names[counts.index(fewest)]!r} has"
    if not fewest:
        return f"{where} no training images. Every class needs at least one.", 0
    return f"{where} {fewest} training images, fewer than the {ipc} per class asked for.", fewest


def memory_of_step(method: str, dataset: Dataset, config: Config, ipc: int) -> str:
    """What to know before work that takes much memory, with what bounds it; empty if a step takes little.

    Args:
        method: its name.
        dataset: what the set is made from.
        config: the method's resolved hyper-parameters.
        ipc: images per class.

    Returns:
        A sentence, or an empty string.
    """
    needed = config.step_bytes(dataset, ipc)
    return _of_step(method, dataset, config, needed) if needed >= _NOTABLE_BYTES else ""


def check_memory(method: str, dataset: Dataset, config: Config, ipc: int, device: torch.device) -> None:
    """Raises UsageError if a step takes more memory than this machine has; arguments as ``memory_of_step``."""
    needed = config.step_bytes(dataset, ipc)
    if device.type == "cpu" and needed > physical_memory():
        raise UsageError(_of_step(method, dataset, config, needed))


def _of_step(method: str, dataset: Dataset, config: Config, needed: int) -> str:
    return (
        f"{method}: images of {len(dataset.class_names)} classes are in the network at once, about "
        f"{needed / 1e9:.1f} GB a step; this machine has {physical_memory() / 1e9:.1f} GB. Bound it with "
        f"{config.hint(config.memory_fields)}."
    )
