"""The fixed evaluator: trains freshly initialised networks on a set, the same way whatever made the set."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy
import torch
from torch import Tensor, nn
from torch.random import fork_rng

from distill_bench.augmentations import dc, dsa, views
from distill_bench.datasets import Dataset
from distill_bench.datasets.card import dataset_of
from distill_bench.datasets.pixel_space import PixelSpace, Transform, pixel_space_of
from distill_bench.distilled.card import TARGETS, Card
from distill_bench.distilled.distilled_set import DistilledSet, check_same_dataset
from distill_bench.distilled.playback import Playback, stored_projector, stored_teacher
from distill_bench.distilled.recorded_labels import RecordedLabels
from distill_bench.distilled.replay import IN_TURN
from distill_bench.errors import DistillBenchError, RunFailed, UsageError, first_line, is_out_of_memory
from distill_bench.evaluation.cache import ScoreCache, networks_key, score_key
from distill_bench.evaluation.doubts import notes_of
from distill_bench.evaluation.labels import (
    balanced_batches,
    both,
    cut_batches,
    distance_batches,
    mixed_batches,
    recorded_batches,
    softened,
    teacher_labelled,
)
from distill_bench.evaluation.pretraining import pretrained, score_pretrained
from distill_bench.evaluation.protocol import (
    PROBE,
    PROTOCOLS,
    WITHOUT_AUGMENTATION,
    Protocol,
    is_known,
    load_protocol,
    members,
    outside_notes,
)
from distill_bench.evaluation.result import FULL, LINES, UNTRAINED, LabelUse, Result, data_facts
from distill_bench.evaluation.statistics import percent_interval
from distill_bench.networks import (
    blank_network,
    build_network,
    check_trainable,
    is_library,
    is_ours,
    is_outside,
    resolve_network,
)
from distill_bench.runtime.device import resolve_device, send, take
from distill_bench.runtime.progress import SILENT, Monitor, stopped
from distill_bench.runtime.run_info import run_block
from distill_bench.runtime.seeds import derive_seed, generator
from distill_bench.training import compilation
from distill_bench.training.train import Augment, BatchFn, Plan, accuracy, table_batches, train

_WITHOUT_LEARNED_RATE = (
    " The rate is the set's own. Its images can be evaluated with the protocol's rate and hard labels: `labels=hard`."
)

MOST_NETWORKS = 100_000
T = TypeVar("T")


@dataclass(frozen=True)
class TrainInputs:
    """What networks are trained on.

    Attributes:
        outputs: of a network, where it is pre-trained by targets of so many features; 0: one a class.
        source: the sum of the set that it is pre-trained on.
        line: which line is probed, where there is no set.
    """

    batches: BatchFn
    count: int
    plan: Plan
    labels: LabelUse
    outputs: int = 0
    source: str = ""
    line: str = ""


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
    """Train networks on a distilled set and test them on its dataset's test split.

    Args:
        distilled: the set.
        dataset: where to test; the one on the set's card unless given.
        protocol: an id, see ``PROTOCOLS``; the one on the set's card unless given.
        network: instead of the protocol's.
        networks: how many, from number 0 on, instead of the protocol's usual number; or their numbers. Network k is
            the same for every set.
        labels: ``"stored"`` uses soft labels and a learned rate where the set has them; ``"hard"`` is the strict
            evaluation with classes and the protocol's own rate.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or the like.
        compile: ``"on"``, ``"off"``, or ``"auto"``: where that pays (see ``compilation.decide``). Networks that join
            cached ones run as these did.
        monitor: hears of every epoch, and may ask to stop.
        cache: a folder where accuracies of tested networks are stored and looked up; nothing is stored unless given.
        allow_leak: whether a set may be tested on images that it was made from; the result's notes say it then.

    Returns:
        The accuracies, their statistics, and how they were found.

    Raises:
        UsageError: unknown names, a set that does not fit the dataset, or one made from its test images.
        RunFailed: a network's training diverged.
        Interrupted: the monitor was asked to stop; the cache has all networks that were tested.
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
        **setup.score_fields(inputs, card.method, compile, scores, score_key(*asked)),
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
) -> tuple["EvalSetup", TrainInputs, tuple[str, ...]]:
    """What ``evaluate`` does before it trains. Arguments and errors are the same.

    Args:
        distilled, dataset, protocol, network, networks, labels, device, monitor, allow_leak: as for ``evaluate``.

    Returns:
        The evaluation, what networks are trained on, and what a reader of their accuracy must know.
    """
    if labels not in ("stored", "hard"):
        raise UsageError(f"`labels={labels!r}`: give stored or hard.")
    rules, card = protocol_for(distilled, protocol), distilled.card
    _check_labels(distilled, rules, labels)
    dataset = dataset or dataset_of(card.source)
    check_same_dataset(distilled, dataset)
    notes = notes_of(distilled, dataset, rules.id, allow_leak, labels) + outside_notes(
        rules.id, network or rules.network
    )
    setup = setup_evaluation(dataset, rules, card.pixel_space, network, networks, device, monitor)
    return setup, _train_inputs(distilled, setup, labels), notes


def _check_labels(distilled: DistilledSet, rules: Protocol, labels: str) -> None:
    """Raises UsageError if a protocol cannot train on a set's labels."""
    kind = "hard" if labels == "hard" else distilled.card.trained_kind
    if rules.probe is not None and kind != "targets":
        raise UsageError(
            f"{rules.id} pre-trains networks by targets, features of every image, and labels here are of the kind "
            f"{kind!r}. Name a protocol that trains on labels, `protocol=standard-v1`; sets of targets are made by "
            "random-targets and krr-st."
        )
    if rules.probe is None and kind == "targets":
        features, classes = distilled.stored[TARGETS].shape[1], len(distilled.card.class_names)
        raise UsageError(
            f"the set has targets, {features} features an image to pre-train a network by, and {rules.id} trains "
            f"on labels of {classes} classes. Name a protocol that pre-trains, of {', '.join(members(PROBE))}; or take "
            "the classes of its images for labels, `labels=hard`."
        )


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
    inputs = _whole_split(setup) if rules.probe is None else _unlabelled(len(split), line)
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
        notes=dataset.notes + outside_notes(protocol, network or rules.network),
        **setup.score_fields(inputs, line, compile, scores, key),
    )


def _whole_split(setup: "EvalSetup") -> TrainInputs:
    """The training split, as networks are trained on it."""
    split = setup.dataset.train
    load, targets = setup.transform.fetch(split, setup.device), split.labels.to(setup.device)
    batches = table_batches(load, targets, _augmentation_of(setup.rules, setup.dataset))
    return TrainInputs(batches, len(split), setup.rules.plan(len(split)), "hard")


def _unlabelled(images: int, line: str) -> TrainInputs:
    """A line that is probed: what its networks have learned, they have learned elsewhere, in one epoch for progress."""
    batches = table_batches(partial(take, torch.empty(0)), torch.empty(0))
    return TrainInputs(batches, images, Plan(epochs=1, batch_size=1, learning_rate=0.0), "none", line=line)


@dataclass(frozen=True)
class EvalSetup:
    """Everything of an evaluation but what is trained on: equal for all sets of one table.

    Attributes:
        numbers: of the networks.
        compiled: whether they run compiled.
    """

    dataset: Dataset
    rules: Protocol
    space: PixelSpace
    transform: Transform
    network: str
    numbers: Sequence[int]
    device: torch.device
    monitor: Monitor
    compiled: bool = False

    def score_fields(
        self, inputs: TrainInputs, method: str, compile: str, scores: ScoreCache, key: str
    ) -> dict[str, Any]:
        """Train and test the networks; the fields of a score that do not depend on the set's card.

        Args:
            inputs: what they are trained on.
            method: which made it, for progress.
            compile: as for ``evaluate``.
            scores: where tested networks are looked up and stored.
            key: the score's address.

        Returns:
            Fields of ``Result`` by name.
        """
        compiled = scores.fix_compile_mode(lambda: self._pays_compiled(compile, inputs), self.monitor)
        accuracies = replace(self, compiled=compiled)._accuracies(inputs, method, scores)
        low, high = percent_interval([accuracies])
        return {
            **data_facts(self.dataset),
            "protocol": self.rules.id,
            "network": self.network,
            "labels": inputs.labels,
            "learning_rate": inputs.plan.learning_rate,
            "pixel_space": self.space.kind,
            "accuracy": float(numpy.mean(accuracies)),
            "std": float(numpy.std(accuracies)),
            "ci_low": low,
            "ci_high": high,
            "accuracies": tuple(accuracies),
            "networks": len(accuracies),
            "train_fingerprint": self.dataset.train.fingerprint,
            "test_fingerprint": self.dataset.test.fingerprint,
            "score_key": f"{key}-{len(accuracies)}",
            "run": run_block(scores.seconds, self.device) | {"compiled": compiled},
        }

    def _pays_compiled(self, compile: str, inputs: TrainInputs) -> bool:
        flops = 0.0
        # many kinds of layers take minutes to compile, and a line trains nothing here
        if compile == "auto" and not is_library(self.network) and not inputs.line:
            shape, trained = self.dataset.train.shape, inputs.plan.epochs * inputs.count
            blank = blank_network(self.network, shape, len(self.dataset.class_names))
            network = blank.to_empty(device="cpu")  # operations do not depend on values
            flops = compilation.training_flops(network, shape, trained, len(self.dataset.test))
        return compilation.decide(compile, self.device, flops)

    def _accuracies(self, inputs: TrainInputs, method: str, scores: ScoreCache) -> list[float]:
        test = self.transform.fetch(self.dataset.test, self.device)
        labels = self.dataset.test.labels.to(self.device)
        epochs, accuracies = inputs.plan.epochs, list[float]()
        counted = {index for index in scores.networks if index in self.numbers}
        title = f"evaluate {method}, {self.rules.id}, {self.network}"
        with self.monitor.stage(title, len(self.numbers) * epochs, len(counted) * epochs) as stage:

            def after_epoch() -> None:
                stage.advance()
                if self.monitor.stop_requested:
                    raise stopped(f"{len(accuracies)} of {len(self.numbers)} networks tested")

            def test_network(index: int) -> float:
                counted.add(index)
                tested: Callable[[Any], float] = partial(accuracy, load=test, labels=labels, compiled=self.compiled)
                if self.rules.probe is not None:
                    tested = partial(score_pretrained, self, _augmentation_of(self.rules, self.dataset), index)
                return self.trained(index, inputs, after_epoch, tested)

            for index in self.numbers:
                accuracies.append(scores.get_or_run(index, partial(test_network, index), self.monitor))
                stage.advance(0 if index in counted else epochs)  # another process has tested it meanwhile
                stage.note(f"accuracy {accuracies[-1]:.1f} %")
        return accuracies

    def trained(
        self, index: int, inputs: TrainInputs, after_epoch: Callable[[], None], use: Callable[[nn.Module], T]
    ) -> T:
        """What ``use`` makes of network ``index`` once it is trained.

        Args:
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
            with self._global_draws(index):
                return use(self.train_network(index, inputs, after_epoch))
        except RunFailed as error:
            raise self._diverged(index, inputs, error) from error
        except Exception as error:
            if is_out_of_memory(error):
                raise self._out_of_memory(index, inputs, error) from error
            if isinstance(error, DistillBenchError) or is_ours(self.network):
                raise
            raise self._failed(index, error) from error

    @contextmanager
    def _global_draws(self, index: int) -> Iterator[None]:
        """What a network from outside draws from torch's global generator is the same every time; ours draw nothing."""
        if not is_outside(self.network):
            yield
            return
        devices = [] if self.device.type == "cpu" else [self.device]
        with fork_rng(devices=devices, device_type=self.device.type if devices else "cuda"):
            torch.manual_seed(derive_seed(self.dataset.kind, self.rules.id, index, "global generator"))
            yield

    def train_network(self, index: int, inputs: TrainInputs, after_epoch: Callable[[], None]) -> nn.Module:
        """Network ``index``, trained. Its seeds are the same for every set, so that sets are compared in pairs."""
        if self.rules.probe is not None:
            return pretrained(self, inputs, index, after_epoch)
        seeds = (self.dataset.kind, self.rules.id, index)
        shape, classes = self.dataset.train.shape, len(self.dataset.class_names)
        network = send(build_network(self.network, shape, classes, generator(*seeds, "weights")), self.device)
        draws = generator(*seeds, "training")
        train(network, inputs.batches, inputs.count, inputs.plan, draws, after_epoch, compiled=self.compiled)
        return network

    def _diverged(self, index: int, inputs: TrainInputs, error: RunFailed) -> RunFailed:
        learned = not inputs.line and inputs.plan.learning_rate != self.rules.learning_rate
        return RunFailed(f"network {index}: {error}{_WITHOUT_LEARNED_RATE if learned else ''}")

    def _failed(self, index: int, error: Exception) -> UsageError:
        """The error of a network that is not ours, whose code may raise anything."""
        return UsageError(
            f"network {index}: {self.network} failed in training or testing: {type(error).__name__}: "
            f"{first_line(error)}. Give another network (`network`), or mend it."
        )

    def _out_of_memory(self, index: int, inputs: TrainInputs, error: BaseException) -> RunFailed:
        return RunFailed(
            f"network {index}: ran out of memory ({first_line(error)}). Batches of {inputs.plan.batch_size} images "
            f"and the network {self.network} are the protocol's: take more memory. Run fewer cells at a time (`jobs`), "
            "on another device (`device`), or another network (`network`)."
        )


def setup_evaluation(
    dataset: Dataset,
    rules: Protocol,
    space: PixelSpace,
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    device: str = "auto",
    monitor: Monitor = SILENT,
) -> EvalSetup:
    """Everything of an evaluation but what is trained on. Arguments as for ``evaluate``.

    Raises:
        UsageError: unknown names, or no or too many networks.
    """
    rules = rules.for_dataset(dataset.name)
    name, shape = rules.network if network is None else network, dataset.train.shape
    if rules.probe is not None and (is_outside(name) or is_library(name)):
        raise UsageError(f"{rules.id} probes the features of networks of this project; {name} is none of them.")
    check_trainable(name, shape, len(dataset.class_names))
    asked = rules.networks if networks is None else networks
    if isinstance(asked, int) and asked > MOST_NETWORKS:
        raise UsageError(f"`networks={asked}` are too many: give at most {MOST_NETWORKS:,}.")
    numbers = range(asked) if isinstance(asked, int) else asked
    if not numbers:
        raise UsageError(f"`networks={asked}`: at least one network must be trained.")
    return EvalSetup(
        dataset=dataset,
        rules=rules,
        space=space,
        transform=Transform(space, dataset.train),
        network=resolve_network(name, shape),
        numbers=numbers,
        device=resolve_device(device),
        monitor=monitor,
    )


def _train_inputs(distilled: DistilledSet, setup: EvalSetup, labels: str) -> TrainInputs:
    card, shown, device = distilled.card, distilled.shown(setup.dataset), setup.device
    rules, classes, mirror = setup.rules, len(card.class_names), setup.dataset.flip_invariant
    pixels = shown.images.to(device)
    kind = "hard" if labels == "hard" else card.trained_kind
    alpha = 1.0 if kind == "hard" else card.alpha
    plan = rules.plan(
        distilled.budget_count,
        distilled.learning_rate if labels == "stored" else None,
        1.0 if kind == "hard" else card.temperature,
        classes,
        len(pixels),
    )
    plan, count = replace(plan, alpha=alpha), len(pixels)

    def batches_of(targets: Tensor) -> BatchFn:
        load = partial(take, pixels)
        if rules.augmentation == "views":
            batches = mixed_batches(load, targets, classes, rules.views, mirror)
        else:
            batches = table_batches(load, targets, _augmentation_of(rules, setup.dataset))
        if rules.augmentation == "dsa" and rules.cutmix:
            batches = cut_batches(batches, classes, rules.cutmix)
        if not rules.images_per_class:
            return batches
        return balanced_batches(batches, shown.labels, rules.images_per_class, rules.classes_per_step)

    own = shown.labels.to(device)
    if kind == "targets":
        targets = distilled.stored[TARGETS].to(device)
        batches = table_batches(partial(take, pixels), targets)
        return TrainInputs(batches, count, plan, "targets", targets.shape[1], distilled.sha256)
    if kind == "hard":
        return TrainInputs(batches_of(own), count, plan, "hard")
    if kind in ("teacher", "projector"):
        teacher = (stored_teacher(distilled) if kind == "teacher" else stored_projector(distilled)).to(device)
        batches = teacher_labelled(batches_of(own), teacher, card.temperature, alpha)
        return TrainInputs(batches, count, plan, kind)
    if kind == "distances":
        batches = distance_batches(RecordedLabels.stored(distilled.stored, classes), pixels, own)
        return TrainInputs(batches, count, replace(plan, distance_weight=card.distance_weight), "teacher")
    if kind == "recorded":
        recording = RecordedLabels.stored(distilled.stored, classes)
        playback = Playback(pixels, recording, card.temperature, card.replay or IN_TURN)
        batches = recorded_batches(playback, batches_of(own), own, classes, alpha)
        return TrainInputs(batches, count, plan, "teacher")
    late = kind == "logits" and rules.augmentation == "views" and rules.mixed == "logits"
    assert shown.soft_labels is not None
    targets = _targets(shown.soft_labels, card, late).to(device)
    batches = batches_of(targets if alpha == 1 else both(targets, own))
    return TrainInputs(softened(batches, card.temperature, alpha) if late else batches, count, plan, "soft")


def _targets(soft: Tensor, card: Card, late: bool) -> Tensor:
    """What cross-entropy is of: probabilities, or weights as they are; or logits that become probabilities later."""
    soft = soft.float()
    return (soft / card.temperature).softmax(dim=1) if card.label_kind == "logits" and not late else soft


def _augmentation_of(rules: Protocol, dataset: Dataset) -> Augment | None:
    """What a protocol does to every batch of images of a dataset; None: nothing."""
    if rules.augmentation == "dc":
        return lambda images, draws: dc.augment(images, rules.dc_operations, draws)
    if rules.augmentation == "views":
        return views.augmentation(rules.views, dataset.flip_invariant)
    if rules.augmentation == "none":
        return None
    among = rules.dsa_operations or dsa.OPERATIONS
    if not dsa.usual_operations(dataset.flip_invariant, among):
        raise UsageError(
            f"{rules.id} mirrors images and does nothing else to them; of {dataset.name} a mirrored one may not keep "
            f"its label. Name another protocol, or {rules.id}{WITHOUT_AUGMENTATION}."
        )
    return dsa.augmentation(dataset.flip_invariant, among=among, several=rules.dsa_rule == "several")
