"""What a set cannot have: more images than its classes, or more memory than the machine."""

import torch

from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.methods.formation import FormationConfig
from distill_bench.methods.run import Config, MethodFunction, selects
from distill_bench.runtime.memory import MemoryLimit, memory_limit, resident_bytes

_NOTABLE_BYTES = 2 * 10**9
"""Of a process: with less it is not said what bounds it, unless it is most of what may be taken."""
_NOTABLE_PART = 0.75


def check_budget(dataset: Dataset, method: str, function: MethodFunction, config: Config, budget: Budget) -> None:
    """Raises UsageError if a method cannot make a set of a budget. Arguments as for ``budget_trouble``."""
    if short := shortage(dataset, budget):
        reason, most = short
        raise UsageError(reason + (f" Give `ipc={most}` or less, or add images." if most else ""))
    if trouble := budget_trouble(dataset, method, function, config, budget):
        raise UsageError(trouble)


def budget_trouble(
    dataset: Dataset, method: str, function: MethodFunction, config: Config, budget: Budget
) -> str | None:
    """Why a method cannot make a set of this kind of budget; None if it can.

    Args:
        dataset: whose training split is counted.
        method: its name.
        function: its function.
        config: its resolved hyper-parameters.
        budget: what is asked for.

    Returns:
        The reason, and what to do.
    """
    if trouble := _formation_trouble(dataset, config, budget):
        return trouble
    if budget.ipc is not None:
        if not config.balanced:
            return (
                f"{method} chooses among all classes together, so that there is no number of images per class: give "
                "`fraction`."
            )
        try:
            config.images_a_class(budget.ipc, len(dataset.class_names))
        except UsageError as error:
            return f"{method} at {budget}: {error}"
        return None
    if not (selects(function) and config.of_real_images):
        return (
            f"{method} makes equally many images of every class, and cannot be asked for a fraction of the training "
            "split: give `ipc`. Fractions are for methods that choose real images, such as random."
        )
    chosen, classes = budget.total(sizes := dataset.class_sizes), len(sizes)
    if config.balanced or chosen >= classes:
        return None
    return (
        f"`fraction={budget.fraction:g}` of the {sum(sizes)} training images of {dataset.name} is {chosen}, and there "
        f"are {classes} classes: some would come out empty. Give `fraction={classes / sum(sizes):.2g}` or more."
    )


def _formation_trouble(dataset: Dataset, config: Config, budget: Budget) -> str | None:
    """Why images of a formation cannot be put together of real ones; None if they can, or if there is no formation."""
    if not isinstance(config, FormationConfig) or config.formation == 1:
        return None
    factor, fewest = config.formation, min(dataset.class_sizes)
    if budget.ipc is None:
        return (
            f"`formation={factor}` puts real images together in new ones, and a fraction of the training split is kept "
            "as it is: give `ipc`, or leave `formation` out."
        )
    if not config.begins_with_real_images or (needed := budget.ipc * factor**2) <= fewest:
        return None
    fewer = f"`ipc={fewest // factor**2}` or less, or " if fewest >= factor**2 else ""
    return (
        f"`formation={factor}` puts {factor**2} real images in each, which takes {needed} of a class at ipc "
        f"{budget.ipc}; {dataset.name} has a class of {fewest}. Give {fewer}a smaller `formation`."
    )


def shortage(dataset: Dataset, budget: Budget) -> tuple[str, int] | None:
    """Why a set cannot have so many images per class, and how many it can; None if it can.

    Args:
        dataset: whose training split is counted.
        budget: images per class, or a fraction, of which every class must have one image.

    Returns:
        The reason and the most images per class; or None.
    """
    counts, asked = dataset.class_sizes, budget.ipc or 1
    fewest = min(counts)
    if fewest >= asked:
        return None
    where = f"{dataset.name}: class {dataset.class_names[counts.index(fewest)]!r} has"
    if not fewest:
        return f"{where} no training images. Every class needs at least one.", 0
    return f"{where} {fewest} training images, fewer than the {asked} per class asked for.", fewest


def peak_memory(dataset: Dataset, config: Config, ipc: int) -> float:
    """About how many bytes of memory this process will take at most to make a set: what it holds now, and a step's.

    Args:
        dataset: what the set is made from, loaded.
        config: the method's resolved hyper-parameters.
        ipc: images per class.

    Returns:
        Bytes.
    """
    return resident_bytes() + config.step_bytes(dataset, ipc)


def memory_of_step(method: str, dataset: Dataset, config: Config, ipc: int) -> str:
    """What to know of memory before work: the predicted peak, and where that is much, what bounds it.

    Args:
        method: its name.
        dataset: what the set is made from, loaded.
        config: the method's resolved hyper-parameters.
        ipc: images per class.

    Returns:
        A sentence; an empty string where nothing is known of the method's steps.

    Raises:
        UsageError: ``DISTILL_BENCH_MEMORY_LIMIT`` is no amount of memory.
    """
    limit, needed = memory_limit(), config.step_bytes(dataset, ipc)
    peak = resident_bytes() + needed
    if not needed:
        return ""
    if peak < min(_NOTABLE_BYTES, _NOTABLE_PART * limit.bytes):
        return f"{method}: about {peak / 1e9:.1f} GB of memory at its peak; {limit}."
    return _of_step(method, config, needed, limit)


def check_memory(method: str, dataset: Dataset, config: Config, ipc: int, device: torch.device) -> None:
    """Raises UsageError if a step takes more memory than the limit leaves; arguments as ``memory_of_step``."""
    if device.type == "cpu":
        needed, limit = config.step_bytes(dataset, ipc), memory_limit()
        if needed > limit.room:
            raise UsageError(_of_step(method, config, needed, limit))


def _of_step(method: str, config: Config, needed: int, limit: MemoryLimit) -> str:
    said = [
        f"{method}: about {needed / 1e9:.1f} GB a step, and this process holds {limit.held / 1e9:.1f} GB; {limit}.",
        config.memory_note,
    ]
    if hint := config.hint(config.memory_fields):
        said.append(f"Bound it with {hint}.")
    return " ".join(filter(None, said))
