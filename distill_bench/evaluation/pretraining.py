"""Networks before they are probed: pre-trained on a set of targets, by Barlow Twins on all data, or not at all."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import torch

from distill_bench.datasets.training_view import TrainingData
from distill_bench.evaluation.inputs import TrainInputs
from distill_bench.evaluation.probe import Probe, Task, probed
from distill_bench.evaluation.result import FULL, UNTRAINED
from distill_bench.evaluation.setup import EvalSetup
from distill_bench.networks import Network, build_network
from distill_bench.pretrained.barlow_twins import get_or_train_encoder
from distill_bench.runtime.device import send
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.seeds import generator
from distill_bench.training.compilation import squared_error
from distill_bench.training.train import Augment, train

_KEPT = 8


@dataclass(frozen=True)
class _Pretraining:
    """A network that several protocols probe, by the address of all that it depends on."""

    address: str
    make: Callable[[], Network] = field(compare=False)


@lru_cache(maxsize=_KEPT)
def _made(pretraining: _Pretraining) -> Network:
    """The network, trained once for the protocols that follow one another."""
    return pretraining.make()


def pretrained(setup: EvalSetup, inputs: TrainInputs, index: int, after_epoch: Callable[[], None]) -> Network:
    """Network ``index``, pre-trained. Its seeds are the same for every set and for all protocols of a group.

    Args:
        setup: the evaluation.
        inputs: what it is trained on; a line names itself, and is trained on nothing of the kind.
        index: its number.
        after_epoch: called after every epoch.

    Returns:
        The network, on its device.

    Raises:
        RunFailed: training diverged.
        Interrupted: the monitor was asked to stop.
    """
    if inputs.line:
        network = _of_line(setup, inputs.line, index)
        after_epoch()
        return network
    facts = [inputs.source, setup.dataset.kind, setup.rules.part_of, setup.network, repr(inputs.plan), index]
    address = canonical_hash([*facts, str(setup.device), torch.get_num_threads(), setup.compiled])
    left = inputs.plan.epochs

    def epoch_done() -> None:
        nonlocal left
        left -= 1
        after_epoch()

    network = copy.deepcopy(_made(_Pretraining(address, partial(_on_targets, setup, inputs, index, epoch_done))))
    for _ in range(left):  # another protocol has trained it
        after_epoch()
    return network


def _on_targets(setup: EvalSetup, inputs: TrainInputs, index: int, after_epoch: Callable[[], None]) -> Network:
    seeds = (setup.dataset.kind, setup.rules.part_of, index)
    network = send(_fresh(setup, index, inputs.outputs), setup.device)
    how: dict[str, Any] = {"compiled": setup.compiled, "objective": squared_error}
    train(network, inputs.batches, inputs.count, inputs.plan, generator(*seeds, "training"), after_epoch, **how)
    return network


def _of_line(setup: EvalSetup, line: str, index: int) -> Network:
    if line == UNTRAINED:
        return send(_fresh(setup, index, 1), setup.device)
    assert line == FULL and setup.rules.probe is not None
    training = TrainingData(setup.dataset, setup.space, setup.device)
    recipe = setup.rules.probe.encoder.model_copy(update={"network": setup.network})
    return get_or_train_encoder(training, recipe, index, monitor=setup.monitor).network.requires_grad_(True)


def _fresh(setup: EvalSetup, index: int, outputs: int) -> Network:
    seeds = (setup.dataset.kind, setup.rules.part_of, index)
    return build_network(setup.network, setup.dataset.train.shape, outputs, generator(*seeds, "weights"))


def score_pretrained(setup: EvalSetup, augment: Augment | None, index: int, network: Network) -> float:
    """The accuracy of a pre-trained network, in percent.

    Args:
        setup: the evaluation.
        augment: what is done to a batch in fine-tuning.
        index: its number.
        network: the network.

    Returns:
        Percent.

    Raises:
        RunFailed: fine-tuning diverged.
    """
    data, transform, device = setup.dataset, setup.transform, setup.device
    task = Task(
        load=transform.fetch(data.train, device),
        labels=data.train.labels.to(device),
        test=transform.fetch(data.test, device),
        test_labels=data.test.labels.to(device),
        classes=len(data.class_names),
        augment=augment,
        device=device,
    )
    probe = setup.rules.probe
    assert isinstance(probe, Probe)
    return probed(network, probe, task, partial(generator, data.kind, setup.rules.part_of, index, "labels"))
