"""Evaluation protocols: immutable, versioned. A changed number is a new version; an id never changes meaning."""

import math
import os
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    field_serializer,
    field_validator,
    model_validator,
)

from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.errors import UsageError, describe, unknown
from distill_bench.evaluation.probe import Probe
from distill_bench.networks import is_library, is_named_by_us, is_outside, library_note
from distill_bench.runtime.files import read_toml
from distill_bench.runtime.outside import file_and_sum, import_named
from distill_bench.training.optimizers import OptimizerName
from distill_bench.training.train import Plan

Augmentation = Literal["none", "dsa", "dc", "views"]
Override = int | float | str | tuple[str, ...] | AugmentPolicy
_MANY_CLASSES = 100
PROBE = "probe-v1"
"""What the protocols that probe pre-trained networks are part of."""
WITHOUT_AUGMENTATION = "+no-augmentation"
"""How the id of a protocol that leaves augmentation out goes on after that of the one it is else equal to."""


class Protocol(BaseModel):
    """How networks are trained on a set and tested. The metric is test accuracy after the last epoch.

    Attributes:
        id: such as ``"standard-v1"``.
        source: the paper or code the numbers come from.
        trains_on: the distilled set, or the dataset's whole training split (the reference line); or the targets of a
            set, by squared error and without augmentation, before a probe.
        network: trained from random initialisation; a name without depth means the one usual at the resolution.
        epochs: passes over the set.
        minimum_steps: with few images, so many more epochs that there are at least this many optimiser steps.
        decay_after: epochs at the full rate, after which it is multiplied; None: half of the epochs, rounded down,
            and one at least.
        decay_factor: by so much.
        decays: so often, after as many epochs each.
        reset_momentum: whether momentum starts again at that point.
        decayed_momentum: SGD's from that point on, where it starts again; None: the same.
        optimizer: SGD; AdamW, which leaves biases and norms without weight decay, unless
        decay_all: asks for it; or Muon, which has AdamW for these; see ``training.optimizers``.
        nesterov: whether the momentum, of SGD or Muon, is Nesterov's.
        annealing: the part of a cosine's half-wave that the learning rate follows instead; 0: none, it is a step.
        batch_by_ipc: instead of ``batch_size``, pairs of IPC and batch size, of which that of the nearest IPC below
            counts; twice as many from 100 classes on.
        floor: the learning rate at the end of the cosine's half-wave.
        anneal_every: whether the rate follows it epoch by epoch, or step by step.
        augmentation: none; ``dsa`` on each batch (no flip if the dataset is not flip-invariant); ``dc``: DC's own;
            ``views``: crops, mirrors and mixtures.
        dc_operations: which of DC's operations.
        dsa_operations: which of DSA's; all unless given.
        dsa_rule: one of them a batch; or ``several``, see ``dsa.sample_several``; or ``always-flip``, see
            ``dsa.sample``.
        cutmix: the share of batches in which DSA is followed by CutMix, of images and targets.
        images_per_class: so many random images of every class a step, whatever the batch size; 0: batches are cut from
            a permutation of the set.
        classes_per_step: then, of so many random classes; 0: of all.
        views: how views are drawn. Targets are mixed as images are. A set's recorded views stand instead of these.
        mixed: what is mixed of labels that are logits: their probabilities, or the logits, which then become them.
        equal_steps: whether a set that shows more images than its budget has is trained for so many fewer epochs that
            the optimiser takes as many steps as for one that does not; else epochs are the same.
        average: above 0, the decay a step of the moving average of parameters and running statistics, with which
            networks are tested.
        networks: how many are trained unless another number is asked for. A sample size, not part of the meaning.
        probe: what follows a training on targets; ``augmentation`` is that of its fine-tuning.
        part_of: the name that stands for this protocol and others together, which pre-train the same networks.
        overrides: for a dataset by name, fields that differ there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    id: str
    source: str
    trains_on: Literal["distilled", "full", "targets"] = "distilled"
    network: str = "ConvNet"
    epochs: PositiveInt
    minimum_steps: int = 0
    batch_size: PositiveInt = 256
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    use_learned_rate: bool = True
    momentum: float = 0.9
    weight_decay: float = 5e-4
    decay_after: int | None = None
    decay_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    decays: PositiveInt = 1
    reset_momentum: bool = False
    decayed_momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    optimizer: OptimizerName = "sgd"
    decay_all: bool = False
    nesterov: bool = False
    annealing: float = 0.0
    floor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    anneal_every: Literal["epoch", "step"] = "epoch"
    batch_by_ipc: tuple[tuple[int, int], ...] = ()
    augmentation: Augmentation = "dsa"
    dc_operations: tuple[str, ...] = ()
    dsa_operations: tuple[Literal["color", "crop", "cutout", "flip", "scale", "rotate"], ...] = ()
    dsa_rule: Literal["one", "several", "always-flip"] = "one"
    cutmix: Annotated[float, Field(ge=0, le=1)] = 0.0
    images_per_class: NonNegativeInt = 0
    classes_per_step: NonNegativeInt = 0
    views: AugmentPolicy = AugmentPolicy()
    mixed: Literal["probabilities", "logits"] = "probabilities"
    equal_steps: bool = True
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    networks: PositiveInt = 5
    probe: Probe | None = None
    part_of: str = ""
    overrides: Mapping[str, Mapping[str, Override]] = {}

    @field_validator("overrides", mode="after")
    @classmethod
    def _unchangeable(cls, overrides: Mapping[str, Mapping[str, Override]]) -> Mapping[str, Mapping[str, Override]]:
        return MappingProxyType({name: MappingProxyType(dict(fields)) for name, fields in overrides.items()})

    @model_validator(mode="after")
    def _targets_come_before_a_probe(self) -> "Protocol":
        if (self.trains_on == "targets") != (self.probe is not None):
            raise ValueError("probe goes with trains_on = targets: give both, or neither")
        return self

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> "Protocol":
        if self.nesterov and not (self.optimizer != "adamw" and self.momentum > 0):
            raise ValueError("nesterov is a kind of momentum: it needs optimizer sgd or muon, and a momentum above 0")
        return self

    @model_validator(mode="after")
    def _classes_are_of_balanced_steps(self) -> "Protocol":
        if self.classes_per_step and not self.images_per_class:
            raise ValueError("classes_per_step goes with images_per_class: give both, or neither")
        return self

    @model_validator(mode="after")
    def _momentum_changes_where_it_starts_again(self) -> "Protocol":
        if self.decayed_momentum is not None and not self.reset_momentum:
            raise ValueError("decayed_momentum goes with reset_momentum = true: give both, or neither")
        return self

    @model_validator(mode="after")
    def _several_decays_have_their_epochs(self) -> "Protocol":
        if self.decays > 1 and (self.reset_momentum or self.annealing or not self.decay_after):
            raise ValueError("decays above 1 need decay_after, and go neither with reset_momentum nor with annealing")
        return self

    @model_validator(mode="after")
    def _rules_are_of_dsa(self) -> "Protocol":
        if self.augmentation != "dsa" and (self.dsa_rule != "one" or self.cutmix):
            raise ValueError('dsa_rule and cutmix go with augmentation = "dsa"; views have a mix of their own')
        if self.cutmix and self.trains_on != "distilled":
            raise ValueError('cutmix is of sets: it goes with trains_on = "distilled"')
        return self

    @model_validator(mode="after")
    def _says_nothing_that_is_not_heard(self) -> "Protocol":
        """What goes with a choice that was not made is refused: whoever wrote it means it to count."""
        idle = {
            'augmentation = "dsa"': (self.augmentation == "dsa", ("dsa_operations",)),
            'augmentation = "dc"': (self.augmentation == "dc", ("dc_operations",)),
            'augmentation = "views"': (self.augmentation == "views", ("views", "mixed")),
            "no annealing": (not self.annealing, ("decay_after", "decay_factor")),
            "annealing": (bool(self.annealing), ("floor", "anneal_every")),
            'trains_on = "distilled"': (self.trains_on == "distilled", ("images_per_class", "batch_by_ipc")),
        }
        for choice, (made, names) in idle.items():
            usual = {name: type(self).model_fields[name].default for name in names}
            if not made and (set_ := [name for name in names if getattr(self, name) != usual[name]]):
                raise ValueError(f"{set_[0]} goes with {choice}: leave it out, or choose that")
        if self.augmentation == "dc" and not self.dc_operations:
            raise ValueError('augmentation = "dc" has no dc_operations: give some, or augmentation = "none"')
        return self

    @model_validator(mode="after")
    def _overrides_are_valid(self) -> "Protocol":
        plain = {name: getattr(self, name) for name in type(self).model_fields if name != "overrides"}
        for fields in self.overrides.values():
            type(self).model_validate(plain | dict(fields))
        return self

    @field_serializer("overrides")
    def _plain(self, overrides: Mapping[str, Mapping[str, Override]]) -> dict[str, dict[str, Override]]:
        return {name: dict(fields) for name, fields in overrides.items()}

    def for_dataset(self, name: str) -> "Protocol":
        """The protocol with the overrides of a dataset applied."""
        return self.model_copy(update=self.overrides.get(name, {}))

    def plan(
        self,
        images: int,
        learned_rate: float | None = None,
        temperature: float = 1.0,
        classes: int = 1,
        shown: int | None = None,
    ) -> Plan:
        """The training plan for a set of so many images.

        Args:
            images: as they are stored.
            learned_rate: the set's own, or None.
            temperature: of its labels.
            classes: how many there are.
            shown: how many images an epoch has, where they are others than those stored. There are as many fewer epochs
                as make the steps those of the stored images, and no more, unless the protocol has its epochs always.

        Returns:
            The plan.
        """
        batch_size = self._batch_size(images // classes, classes)
        steps = math.ceil(images / batch_size)
        whole = max(self.epochs, math.ceil(self.minimum_steps / steps))
        shown = images if shown is None or not self.equal_steps else shown
        epochs = math.ceil(whole * steps / math.ceil(shown / batch_size))
        decay_after = max(1, whole // 2) if self.decay_after is None else self.decay_after
        of_those = max(decay_after * epochs // whole, min(1, decay_after))  # a single epoch has the full rate
        rate = learned_rate if self.use_learned_rate and learned_rate is not None else self.learning_rate
        return Plan(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            decay_after=None if self.annealing else of_those,
            decay_factor=self.decay_factor,
            decays=self.decays,
            reset_momentum=self.reset_momentum,
            decayed_momentum=self.decayed_momentum,
            temperature=temperature,
            optimizer=self.optimizer,
            decay_all=self.decay_all,
            annealing=self.annealing,
            nesterov=self.nesterov,
            floor=self.floor,
            anneal_every=self.anneal_every,
            average=self.average,
        )

    def _batch_size(self, ipc: int, classes: int) -> int:
        sizes = [size for least, size in sorted(self.batch_by_ipc) if least <= ipc]
        return sizes[-1] * (2 if classes >= _MANY_CLASSES else 1) if sizes else self.batch_size


def _parts(name: str, fields: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The protocols of a table by id: itself, or one for each of its parts, which are laid over what it has."""
    if "parts" not in fields:
        return {name: fields}
    common = {key: value for key, value in fields.items() if key != "parts"} | {"part_of": name}
    return {
        f"{name}-{part}": common | own | {"probe": common["probe"] | own["probe"]}
        for part, own in fields["parts"].items()
    }


PROTOCOLS = {
    name: Protocol.model_validate({"id": name} | fields)
    for table in read_toml(Path(__file__).with_name("protocols.toml")).items()
    for name, fields in _parts(*table).items()
}


def members(name: str) -> tuple[str, ...]:
    """The protocols that a name stands for: those that are part of it, or itself.

    >>> members("probe-v1")[:2], members("quick-v1")
    (('probe-v1-linear-1', 'probe-v1-linear-5'), ('quick-v1',))
    """
    return tuple(own for own, rules in PROTOCOLS.items() if rules.part_of == name != "") or (name,)


def load_protocol(name: str) -> Protocol:
    """A protocol by id, or a user's own.

    Args:
        name: an id, the path of a ``.toml`` with the fields of ``Protocol``, or a ``module:NAME`` of one. What is
            from outside goes by this name, as its id may be another's too. With ``+no-augmentation`` at its end, the
            same protocol whose images are not augmented, nor mixed; recorded views stay as they are. With ``+`` and the
            name of a network of this project, the same with that network.

    Returns: the protocol. The id of one from outside is ``name``.

    Raises:
        UsageError: there is none of that id, or it is invalid, or has the id of one of this project's.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if (parts := members(name)) != (name,):
        raise UsageError(f"{name} stands for {len(parts)} protocols, and one is wanted: name {', '.join(parts)}.")
    base, changes = _split(name)
    if changes:
        if _split(base)[1]:
            raise UsageError(f"{name}: give one network at most, then {WITHOUT_AUGMENTATION}, each once.")
        return reduce(_changed, changes, load_protocol(base))
    if name.endswith(".toml") and os.path.isfile(name):
        try:
            own = Protocol.model_validate(read_toml(Path(name)))
        except ValidationError as error:
            raise UsageError(f"{name}: {describe(error, Protocol.model_fields)}.") from error
    elif ":" in name:
        own = import_named(name, "protocol")
        if not isinstance(own, Protocol):
            raise UsageError(f"{name} is a {type(own).__name__}, not a Protocol.")
    else:
        raise UsageError(unknown("protocol", name, PROTOCOLS, "; your own: a .toml file, or module:NAME"))
    if own.id in PROTOCOLS:
        raise UsageError(f"{name}: the id {own.id} is that of a protocol of this project; give your own another.")
    return own.model_copy(update={"id": name})


def _split(name: str) -> tuple[str, list[str]]:
    """A protocol's name without the changes at its end, and these: a network, no augmentation, in this order."""
    base, found = name, list[str]()
    if base.endswith(WITHOUT_AUGMENTATION):
        base, found = base.removesuffix(WITHOUT_AUGMENTATION), [WITHOUT_AUGMENTATION[1:]]
    before, plus, network = base.rpartition("+")
    return (before, [network, *found]) if plus and is_named_by_us(network) else (base, found)


def without_network(name: str) -> str:
    """A protocol's name without the network that stands in for its own: ``"rded-v1"`` of ``"rded-v1+ConvNetBN"``."""
    base, changes = _split(name)
    return "+".join([base, *(change for change in changes if not is_named_by_us(change))])


def _changed(rules: Protocol, change: str) -> Protocol:
    """A protocol with a change, which no dataset's overrides take back."""
    what = "network" if change != WITHOUT_AUGMENTATION[1:] else "augmentation"
    overrides = {
        name: {field: value for field, value in fields.items() if field != what}
        for name, fields in rules.overrides.items()
    }
    value = change if what == "network" else "none"
    return rules.model_copy(update={"id": f"{rules.id}+{change}", what: value, "overrides": overrides})


def list_protocols() -> list[str]:
    """The ids of the evaluation protocols."""
    return list(PROTOCOLS)


def is_known(name: str) -> bool:
    """Whether a name is that of protocols of this project, changed or not; nothing is read or imported."""
    return members(name) != (name,) or (_split(name)[0] in PROTOCOLS)


def known_protocol(name: str) -> Protocol:
    """A protocol of this project by id: for names that a file says, for which nothing is read or imported.

    Raises:
        UsageError: there is none of that id.
    """
    if not is_known(name):
        raise UsageError(unknown("protocol", name, PROTOCOLS))
    return load_protocol(name)


def outside_notes(protocol: str, network: str) -> tuple[str, ...]:
    """What a reader must know of a protocol and a network from outside, with their files' sums; none of this project's.

    Args:
        protocol: as for ``load_protocol``.
        network: as for ``build_network``.

    Returns:
        A note for each of the two that is from outside, or a library's.
    """
    protocol, _ = _split(protocol)
    named = {
        "protocol": protocol if protocol not in PROTOCOLS else None,
        "network": network if is_outside(network) else None,
    }
    notes = [
        f"the {what} {name} is not one of this project's: {file_and_sum(name, what)}"
        for what, name in named.items()
        if name
    ]
    return (*notes, *([library_note(network)] if is_library(network) else []))
