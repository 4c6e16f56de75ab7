"""The one way to run any method."""

from typing import Any

import torch

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import is_out_of_memory
from distill_bench.methods.address import card_of
from distill_bench.methods.limits import check_ipc, check_memory
from distill_bench.methods.packing import as_set
from distill_bench.methods.recipe import PAPER
from distill_bench.methods.registry import Method, load_method
from distill_bench.methods.run import Config, Run, sharing_of
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.progress import SILENT, Monitor


def synthesize(
    data: Dataset,
    method: str,
    ipc: int,
    preset: str = PAPER,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
    **config: Any,
) -> DistilledSet:
    """Make a distilled set from the training split of a source. The set is the last iterate.

    Args:
        data: only its training split is read.
        method: a name from ``list_methods``, or ``module:function``.
        ipc: images per class.
        preset: ``"paper"``, or a named variant of the recipe such as ``"cpu"``.
        seed: of everything random in synthesis.
        checkpoint: where unfinished work is kept; none unless given.
        history: a list that receives the loss of every step.
        fields: hyper-parameters that replace the recipe's.

    Raises:
        UsageError: unknown names, fields that are invalid or do not go with the source, more images per class asked
            for than there are.
        RunFailed: the computation did.
        Interrupted: the monitor was asked to stop; the checkpoint was written.
    """
    chosen = load_method(method)
    resolved = chosen.config_on(data, ipc, preset, **config)
    return make_set(
        data,
        chosen,
        resolved,
        ipc,
        preset,
        seed,
        device=device,
        monitor=monitor,
        checkpoint=checkpoint,
        history=history,
    )


def make_set(
    data: Dataset,
    method: Method,
    config: Config,
    ipc: int,
    preset: str = PAPER,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
) -> DistilledSet:
    """``synthesize`` with a loaded method and its resolved fields. Arguments and errors are the same."""
    run = _run_of(data, method, config, ipc, seed, device, monitor, checkpoint)
    run.history = [] if history is None else history
    try:
        return as_set(method.function(run), run, card_of(data, method, config, ipc, preset, seed))
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise run.out_of_memory("outside its loop", error) from error
        raise


def parts_of_set(data: Dataset, method: Method, config: Config, ipc: int) -> int:
    """How many processes can work at a set at a time: 1 where its parts depend on each other."""
    sharing = sharing_of(method.function)
    return max(1, sharing.parts(config, len(data.class_names), ipc)) if sharing else 1


def help_make_set(
    data: Dataset,
    method: Method,
    config: Config,
    ipc: int,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint,
) -> None:
    """Do parts of a set that another process makes, which finds them: experts, recovered batches.

    Args:
        checkpoint: at the path of the other process's.

    Raises:
        as ``make_set``.
    """
    if (sharing := sharing_of(method.function)) is not None:
        sharing.work(_run_of(data, method, config, ipc, seed, device, monitor, checkpoint))


def _run_of(
    data: Dataset,
    method: Method,
    config: Config,
    ipc: int,
    seed: int,
    device: str,
    monitor: Monitor,
    checkpoint: Checkpoint | None,
) -> Run[Any]:
    check_ipc(data, ipc)
    config.check(data)
    place, kept = resolve_device(device), checkpoint or Checkpoint()
    check_memory(method.name, data, config, ipc, place)
    kept.conditions = {"device": str(place), "threads": torch.get_num_threads()}
    return Run(
        method=method.name,
        training=TrainingData(data, config.pixel_space_on(data), place),
        ipc=ipc,
        config=config,
        seed=seed,
        device=place,
        monitor=monitor,
        checkpoint=kept,
    )
