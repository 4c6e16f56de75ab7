"""Networks trained and tested, one after the other: the accuracies of a score."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy
import torch
from torch import nn
from torch.random import fork_rng

from distill_bench.errors import DistillBenchError, RunFailed, UsageError, first_line, is_out_of_memory
from distill_bench.evaluation.cache import ScoreCache
from distill_bench.evaluation.inputs import TrainInputs, augmentation_of
from distill_bench.evaluation.pretraining import pretrained, score_pretrained
from distill_bench.evaluation.result import data_facts
from distill_bench.evaluation.setup import EvalSetup
from distill_bench.evaluation.statistics import percent_interval
from distill_bench.networks import blank_network, build_network, is_named_by_us, is_ours, is_outside
from distill_bench.runtime.device import send
from distill_bench.runtime.progress import stopped
from distill_bench.runtime.run_info import run_block
from distill_bench.runtime.seeds import derive_seed, generator
from distill_bench.training import compilation
from distill_bench.training.train import accuracy, train

_WITHOUT_LEARNED_RATE = (
    " The rate is the set's own. Its images can be evaluated with the protocol's rate and hard labels: `labels=hard`."
)

T = TypeVar("T")


def score_fields(
    setup: EvalSetup, inputs: TrainInputs, method: str, compile: compilation.Choice, scores: ScoreCache, key: str
) -> dict[str, Any]:
    """Train and test the networks; the fields of a score that do not depend on the set's card.

    Args:
        setup: the evaluation.
        inputs: what they are trained on.
        method: which made it, for progress.
        compile: as for ``evaluate``.
        scores: where tested networks are looked up and stored.
        key: the score's address.

    Returns:
        Fields of ``Result`` by name.

    Raises:
        RunFailed, Interrupted: as ``evaluate``.
    """
    compiled = scores.fix_compile_mode(lambda: _pays_compiled(setup, compile, inputs), setup.monitor)
    accuracies = _accuracies(replace(setup, compiled=compiled), inputs, method, scores)
    low, high = percent_interval([accuracies])
    return {
        **data_facts(setup.dataset),
        "protocol": setup.rules.id,
        "network": setup.network,
        "labels": inputs.labels,
        "learning_rate": inputs.plan.learning_rate,
        "pixel_space": setup.space.kind,
        "accuracy": float(numpy.mean(accuracies)),
        "std": float(numpy.std(accuracies)),
        "ci_low": low,
        "ci_high": high,
        "accuracies": tuple(accuracies),
        "networks": len(accuracies),
        "train_fingerprint": setup.dataset.train.fingerprint,
        "test_fingerprint": setup.dataset.test.fingerprint,
        "score_key": f"{key}-{len(accuracies)}" if [*setup.numbers] == [*range(len(accuracies))] else None,
        "run": run_block(scores.seconds_of(setup.numbers), setup.device) | {"compiled": compiled},
    }


def _pays_compiled(setup: EvalSetup, compile: compilation.Choice, inputs: TrainInputs) -> bool:
    flops = 0.0
    # many kinds of layers take minutes to compile, others' code may not compile at all, and a line trains nothing here
    if compile == "auto" and is_named_by_us(setup.network) and not inputs.line:
        shape, trained_on = setup.dataset.train.shape, inputs.plan.epochs * inputs.count
        blank = blank_network(setup.network, shape, len(setup.dataset.class_names))
        network = blank.to_empty(device="cpu")  # operations do not depend on values
        flops = compilation.training_flops(network, shape, trained_on, len(setup.dataset.test))
    return compilation.decide(compile, setup.device, flops)


def _accuracies(setup: EvalSetup, inputs: TrainInputs, method: str, scores: ScoreCache) -> list[float]:
    test = setup.transform.fetch(setup.dataset.test, setup.device)
    labels = setup.dataset.test.labels.to(setup.device)
    epochs, accuracies = inputs.plan.epochs, list[float]()
    counted = {index for index in scores.networks if index in setup.numbers}
    title = f"evaluate {method}, {setup.rules.id}, {setup.network}"
    with setup.monitor.stage(title, len(setup.numbers) * epochs, len(counted) * epochs) as stage:

        def after_epoch() -> None:
            stage.advance()
            if setup.monitor.stop_requested:
                raise stopped(f"{len(accuracies)} of {len(setup.numbers)} networks tested")

        def test_network(index: int) -> float:
            counted.add(index)
            tested: Callable[[Any], float] = partial(accuracy, load=test, labels=labels, compiled=setup.compiled)
            if setup.rules.probe is not None:
                tested = partial(score_pretrained, setup, augmentation_of(setup.rules, setup.dataset), index)
            return use_trained(setup, index, inputs, after_epoch, tested)

        for index in setup.numbers:
            accuracies.append(scores.get_or_run(index, partial(test_network, index), setup.monitor))
            stage.advance(0 if index in counted else epochs)  # another process has tested it meanwhile
            stage.note(f"accuracy {accuracies[-1]:.1f} %")
    return accuracies


def use_trained(
    setup: EvalSetup, index: int, inputs: TrainInputs, after_epoch: Callable[[], None], use: Callable[[nn.Module], T]
) -> T:
    """What ``use`` makes of network ``index`` once it is trained.

    Args:
        setup: the evaluation.
        index: the network's number.
        inputs: what it is trained on.
        after_epoch: called after every epoch.
        use: tests it.

    Returns:
        What ``use`` does.

    Raises:
        RunFailed: training diverged, or memory was not enough.
        UsageError: a network that is not ours failed.
    """
    try:
        with _global_draws(setup, index):
            return use(train_network(setup, index, inputs, after_epoch))
    except RunFailed as error:
        learned = not inputs.line and inputs.plan.learning_rate != setup.rules.learning_rate
        raise RunFailed(f"network {index}: {error}{_WITHOUT_LEARNED_RATE if learned else ''}") from error
    except Exception as error:
        if is_out_of_memory(error):
            raise RunFailed(
                f"network {index}: ran out of memory ({first_line(error)}). Batches of {inputs.plan.batch_size} images "
                f"and the network {setup.network} are the protocol's: take more memory. Run fewer cells at a time "
                "(`jobs`), on another device (`device`), or another network (`network`)."
            ) from error
        if isinstance(error, DistillBenchError) or is_ours(setup.network):
            raise
        raise UsageError(  # of a network that is not ours the code may raise anything
            f"network {index}: {setup.network} failed in training or testing: {type(error).__name__}: "
            f"{first_line(error)}. Give another network (`network`), or mend it."
        ) from error


@contextmanager
def _global_draws(setup: EvalSetup, index: int) -> Iterator[None]:
    """What a network from outside draws from torch's global generator is the same every time; ours draw nothing."""
    if not is_outside(setup.network):
        yield
        return
    device = setup.device
    devices = [] if device.type == "cpu" else [device]
    with fork_rng(devices=devices, device_type=device.type if devices else "cuda"):
        seed = derive_seed(setup.dataset.kind, setup.rules.id, index, "global generator")
        (torch.manual_seed if devices else torch.default_generator.manual_seed)(seed)  # those that are put back
        yield


def train_network(setup: EvalSetup, index: int, inputs: TrainInputs, after_epoch: Callable[[], None]) -> nn.Module:
    """Network ``index``, trained. Its seeds are the same for every set, so that sets are compared in pairs.

    Args:
        setup: the evaluation.
        index: the network's number.
        inputs: what it is trained on.
        after_epoch: called after every epoch.

    Returns:
        The network, on its device.

    Raises:
        RunFailed: training diverged.
    """
    if setup.rules.probe is not None:
        return pretrained(setup, inputs, index, after_epoch)
    seeds = (setup.dataset.kind, setup.rules.id, index)
    shape, classes = setup.dataset.train.shape, len(setup.dataset.class_names)
    network = send(build_network(setup.network, shape, classes, generator(*seeds, "weights")), setup.device)
    draws = generator(*seeds, "training")
    train(network, inputs.batches, inputs.count, inputs.plan, draws, after_epoch, compiled=setup.compiled)
    return network
