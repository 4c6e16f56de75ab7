"""The fixed evaluator: trains freshly initialised networks on a set, the same way whatever made the set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset
from distill_bench.errors import UsageError
from distill_bench.evaluation.cache import ScoreCache, networks_key, score_key
from distill_bench.evaluation.doubts import data_notes, notes_of
from distill_bench.evaluation.inputs import TrainInputs, check_labels, train_inputs, unlabelled, whole_split
from distill_bench.evaluation.protocol import PROTOCOLS, Protocol, is_known, load_protocol, members, outside_notes
from distill_bench.evaluation.result import FULL, LINES, UNTRAINED, Result
from distill_bench.evaluation.scoring import score_fields
from distill_bench.evaluation.setup import EvalSetup, setup_evaluation
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.training import compilation


def evaluate(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    compile: compilation.Choice = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    allow_leak: bool = False,
) -> Result:
    """``distill_bench.evaluate`` of a set and a dataset that are loaded, with its errors but that either is not there.

    Args:
        distilled: the set.
        dataset: where to test; the one on the set's card unless given.
        protocol: an id, see ``PROTOCOLS``; the one on the set's card unless given.
        compile: ``"on"``, ``"off"``, or ``"auto"``: where that pays (see ``compilation.decide``). Networks that join
            cached ones run as these did.
        monitor: hears of every epoch, and may ask to stop.
        network, networks, labels, device, cache, allow_leak: as there.

    Returns:
        The accuracies, their statistics, and how they were found.
    """
    setup, inputs, notes = prepare(
        distilled, dataset, protocol, network, networks, labels, device=device, monitor=monitor, allow_leak=allow_leak
    )
    card = distilled.card
    asked = setup.dataset, setup.rules.id, distilled, labels, network
    scores = ScoreCache(cache, networks_key(*asked))
    return Result(
        method=card.method,
        ipc=card.budget.ipc,
        fraction=card.fraction,
        images=len(distilled.images),
        shown=inputs.count if inputs.count != len(distilled.images) else None,
        preset=card.preset,
        seed=card.seed,
        strict=labels == "hard" and distilled.has_strict_score,
        bytes=distilled.nbytes,
        set_sha256=distilled.sha256,
        origin=card.origin,
        requires=card.requires,
        recipe=card.recipe or None,
        notes=notes,
        **score_fields(setup, inputs, card.method, compile, scores, score_key(*asked)),
    )


def prepare(
    distilled: DistilledSet,
    dataset: Dataset | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    allow_leak: bool = False,
) -> tuple[EvalSetup, TrainInputs, tuple[str, ...]]:
    """What ``evaluate`` does before it trains. Arguments and errors are the same.

    Args:
        distilled, dataset, protocol, network, networks, labels, device, monitor, allow_leak: as for ``evaluate``.

    Returns:
        The evaluation, what networks are trained on, and what a reader of their accuracy must know.
    """
    if labels not in ("stored", "hard"):
        raise UsageError(f"`labels={labels!r}`: give stored or hard.")
    rules, card = protocol_for(distilled, protocol), distilled.card
    check_labels(distilled, rules, labels)
    dataset = dataset or dataset_of(card.source)
    check_same_dataset(distilled, dataset)
    notes = notes_of(distilled, dataset, rules.id, allow_leak, labels) + outside_notes(
        rules.id, network or rules.network
    )
    setup = setup_evaluation(dataset, rules, card.pixel_space, network, networks, device, monitor)
    return setup, train_inputs(distilled, setup, labels), notes


def protocol_for(distilled: DistilledSet, protocol: str | None = None) -> Protocol:
    """The protocol a set is evaluated under: the one on its card unless another is named.

    Raises:
        UsageError: there is none of that id, or it is not for distilled sets.
    """
    # a card is a stranger's: it loads nothing
    if protocol is None and not is_known(distilled.card.protocol):
        raise UsageError(
            f"the set's card names the protocol {distilled.card.protocol!r}, which this version does not have: name "
            f"one to evaluate it under, `protocol={', '.join(PROTOCOLS)}`."
        )
    rules = load_protocol(distilled.card.protocol if protocol is None else protocol)
    if rules.trains_on == "full":
        raise UsageError(
            f"{rules.id} scores a whole training split, not a distilled set: name another protocol for the set, or "
            "leave the set out and name the `dataset` (in Python: use evaluate_full)."
        )
    return rules


def protocols_for(distilled: DistilledSet, protocol: str | None = None) -> tuple[str, ...]:
    """The ids of the protocols that a name stands for, or the set's card. Errors as ``protocol_for``."""
    parts = members(distilled.card.protocol if protocol is None else protocol)
    return parts if len(parts) > 1 else (protocol_for(distilled, protocol).id,)


def evaluate_full(
    dataset: Dataset,
    protocol: str = "full-v1",
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    *,
    device: str = "auto",
    compile: compilation.Choice = "auto",
    monitor: Monitor = SILENT,
    cache: Path | None = None,
    line: str = FULL,
) -> Result:
    """The reference line: networks trained on the whole training split. Arguments and errors as ``evaluate``.

    Under a protocol that probes, networks are pre-trained on it without labels, by Barlow Twins; or, where the ``line``
    is ``UNTRAINED``, they are probed with their initial values.
    """
    rules, split = load_protocol(protocol), dataset.train
    if rules.trains_on == "distilled":
        raise UsageError(f"{protocol} scores distilled sets; full-v1 scores a whole training split.")
    if line not in LINES or (line == UNTRAINED and rules.probe is None):
        raise UsageError(f"`line={line}`: give {FULL}; or {UNTRAINED} under a protocol that probes networks.")
    setup = setup_evaluation(dataset, rules, pixel_space_of(dataset, "normalized"), network, networks, device, monitor)
    inputs = whole_split(setup) if rules.probe is None else unlabelled(len(split), line)
    key = score_key(dataset, protocol, None, network=network, line=line)
    scores = ScoreCache(cache, key)
    stored = len(split) * (torch.Size(split.shape).numel() + split.labels.element_size())
    return Result(
        method=line,
        ipc=None,
        images=len(split) if line == FULL else None,
        seed=0,
        bytes=stored if line == FULL else None,
        set_sha256=None,
        notes=data_notes(dataset) + outside_notes(protocol, network or rules.network),
        **score_fields(setup, inputs, line, compile, scores, key),
    )
