"""The one way to run any method."""

from pathlib import Path
from typing import Any

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import is_out_of_memory
from distill_bench.methods.address import card_of, synthesis_key
from distill_bench.methods.iterates import Iterates, OnIterate
from distill_bench.methods.limits import check_budget, check_memory
from distill_bench.methods.packing import as_set
from distill_bench.methods.recipe import PAPER
from distill_bench.methods.registry import Method, load_method
from distill_bench.methods.run import Config, Run
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.run_info import conditions
from distill_bench.runtime.tracking import Log, silent


def synthesize(
    data: Dataset,
    method: str,
    ipc: int | None = None,
    preset: str = PAPER,
    seed: int = 0,
    *,
    fraction: float | None = None,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
    log: Log = silent,
    iterates: int = 10,
    on_iterate: OnIterate | None = None,
    **config: Any,
) -> DistilledSet:
    """``distill_bench.synthesize`` of a dataset that is loaded, with its errors but that the dataset is not there.

    Args:
        data: only its training split is read.
        device: as for ``resolve_device``.
        monitor: hears of progress, and may ask to stop.
        method, ipc, preset, seed, fraction, checkpoint, history, log, iterates, on_iterate, config: as there.

    Returns:
        The set, its images in class order, in the recipe's pixel space.
    """
    budget, chosen = Budget(ipc, fraction), load_method(method)
    resolved = chosen.config_on(data, budget, preset, **config)
    how: dict[str, Any] = {"device": device, "monitor": monitor, "checkpoint": checkpoint, "history": history}
    how |= {"log": log, "iterates": None if on_iterate is None else Iterates(iterates, on_iterate)}
    return make_set(data, chosen, resolved, budget, preset, seed, **how)


def make_set(
    data: Dataset,
    method: Method,
    config: Config,
    budget: Budget,
    preset: str = PAPER,
    seed: int = 0,
    iterates: Iterates | None = None,
    **how: Any,
) -> DistilledSet:
    """``synthesize`` with a loaded method and its resolved fields. Arguments and errors are the same."""
    card, run = card_of(data, method, config, budget, preset, seed), new_run(data, method, config, budget, seed, **how)
    if iterates is not None:
        run.keep = iterates.of(run, card)
    run.checkpoint.of = synthesis_key(data, method, config, budget, preset, seed)
    try:
        return as_set(method.function(run), run, card)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise run.out_of_memory("outside its loop", error) from error
        raise


def new_run(
    data: Dataset,
    method: Method,
    config: Config,
    budget: Budget,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
    log: Log = silent,
    pretrained_seconds: dict[Path, float | None] | None = None,
) -> Run[Any]:
    """What the method's function is handed. Arguments and errors as ``make_set``."""
    check_budget(data, method.name, method.function, config, budget)
    config.check(data)
    place, checkpoint = resolve_device(device), checkpoint or Checkpoint()
    check_memory(method.name, data, config, max(budget.counts(data.class_sizes)), place)
    checkpoint.conditions = conditions(place)
    return Run(
        method=method.name,
        training=TrainingData(data, config.pixel_space_on(data), place),
        budget=budget,
        config=config,
        seed=seed,
        device=place,
        monitor=monitor,
        checkpoint=checkpoint,
        history=[] if history is None else history,
        log=log,
        pretrained_seconds={} if pretrained_seconds is None else pretrained_seconds,
    )
