"""Protocols never change: every number of every one, and what they come to for a set of so many images."""

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from distill_bench.augmentations import dsa
from distill_bench.errors import UsageError
from distill_bench.evaluation import PROTOCOLS, Protocol, load_protocol
from distill_bench.evaluation.inputs import augmentation_of
from distill_bench.evaluation.protocol import known_protocol

# A protocol with a changed number is another protocol: give it a new id instead of changing what stands here.
COMMON = {
    "trains_on": "distilled",
    "network": "ConvNet",
    "minimum_steps": 0,
    "batch_size": 256,
    "learning_rate": 0.01,
    "use_learned_rate": True,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "decay_after": None,
    "reset_momentum": False,
    "augmentation": "dsa",
    "dc_operations": [],
    "dsa_operations": [],
    "dsa_rule": "one",
    "cutmix": 0.0,
    "images_per_class": 0,
    "classes_per_step": 0,
    "networks": 5,
    "overrides": {},
    "optimizer": "sgd",
    "decay_all": False,
    "nesterov": False,
    "decay_factor": 0.1,
    "decays": 1,
    "decayed_momentum": None,
    "annealing": 0.0,
    "floor": 0.0,
    "anneal_every": "epoch",
    "batch_by_ipc": [],
    "views": {"crop": "resized", "scale": [0.08, 1.0], "tiles": 1, "mix": "none", "beta": 1.0},
    "mixed": "probabilities",
    "equal_steps": True,
    "average": 0.0,
    "probe": None,
    "part_of": "",
}
ADAMW = {
    "network": "ResNet18BN",
    "epochs": 300,
    "learning_rate": 0.001,
    "use_learned_rate": False,
    "weight_decay": 0.01,
    "optimizer": "adamw",
    "augmentation": "views",
}
PRUNE = {
    "network": "ResNet18BN",
    "epochs": 200,
    "batch_size": 128,
    "learning_rate": 0.1,
    "use_learned_rate": False,
    "nesterov": True,
    "annealing": 1.0,
    "floor": 1e-4,
    "anneal_every": "step",
    "augmentation": "views",
    "views": COMMON["views"] | {"crop": "reflected"},
}
EQUAL_STEPS = {"epochs": 1, "minimum_steps": 2000, "batch_size": 128, "use_learned_rate": False}
NARROW = {"network": "ConvNetW32", "minimum_steps": 390, "learning_rate": 0.05, "annealing": 1.0, "networks": 1}
MATCHED = {"epochs": 1, "minimum_steps": 600, "learning_rate": 0.03, "use_learned_rate": False, "networks": 3}
FULL = {"trains_on": "full", "networks": 1}
CUTMIX = COMMON["views"] | {"mix": "cutmix"}
MIXUP = COMMON["views"] | {"crop": "padded", "mix": "mixup", "beta": 0.8}
STITCHED = ("imagenet", "imagenette", "imagewoof", "imagemeow", "imagesquawk", "imagefruit", "imageyellow")
FIELD = {"use_learned_rate": False, "reset_momentum": True}
DC_ON_MNIST = {
    "epochs": 1001,
    "decay_after": 502,
    "augmentation": "dc",
    "dc_operations": ["crop", "scale", "rotate"],
}
REINFORCE_IMAGENET = {
    "network": "ResNet18BN_ImageNet",
    "epochs": 150,
    "batch_size": 1024,
    "learning_rate": 0.4,
    "nesterov": True,
    "weight_decay": 1e-4,
}
ENCODER = {
    "network": "ConvNetBN", "epochs": 1, "minimum_steps": 400, "batch_size": 128, "learning_rate": 1e-3,
    "weight_decay": 1e-6, "projector": [256, 256], "redundancy": 1 / 128, "unbiased": True, "crop": [0.5, 1.0],
    "contrast": 0.4, "noise": 0.1,
}  # fmt: skip


def probe(way, labels, steps=100):
    """A part of ``probe-v1``."""
    tuned = {"steps": steps, "batch_size": 128, "learning_rate": 0.01, "weight_decay": 5e-4}
    narrow = {name: {"network": "ConvNetW16BN"} for name in ("mnist", "fashion_mnist")}
    return {
        "trains_on": "targets", "part_of": "probe-v1", "network": "ConvNetW32BN", "epochs": 300, "learning_rate": 0.1,
        "use_learned_rate": False, "weight_decay": 1e-3, "decay_factor": 1.0, "networks": 3, "overrides": narrow,
        "augmentation": "none" if way == "linear" else "dsa",
        "probe": {"way": way, "labels": labels, "draws": 3, "penalty": 1e-3, "encoder": ENCODER, **tuned},
    }  # fmt: skip


PINNED = {
    "standard-v1": COMMON | {"epochs": 1000},
    "quick-v1": COMMON | {"epochs": 300, "networks": 3},
    "full-v1": COMMON
    | {"trains_on": "full", "epochs": 10, "minimum_steps": 500, "networks": 3}
    | {"overrides": {name: {"epochs": 2, "minimum_steps": 0} for name in ("mnist", "fashion_mnist")}},
    "dc-v1": COMMON
    | FIELD
    | {"epochs": 301, "decay_after": 152, "augmentation": "none", "overrides": {"mnist": DC_ON_MNIST}},
    "dsa-v1": COMMON | FIELD | {"epochs": 1001, "decay_after": 502},
    "fyi-v1": COMMON | FIELD | {"epochs": 1001, "decay_after": 502, "dsa_rule": "always-flip"},
    "mtt-v1": COMMON | {"reset_momentum": True, "epochs": 1001, "decay_after": 502},
    "ast-v1": COMMON
    | {"epochs": 1001, "decay_after": 502, "reset_momentum": True, "weight_decay": 1e-3}
    | {"decay_factor": 0.5, "decayed_momentum": 0.8},
    "datm-v1": COMMON | {"reset_momentum": True, "epochs": 1001, "decay_after": 502, "batch_size": 128},
    "rat-v1": COMMON
    | {"epochs": 600, "batch_size": 1000000, "learning_rate": 0.001, "use_learned_rate": False, "networks": 8}
    | {"optimizer": "adamw", "weight_decay": 0.0, "decay_factor": 1.0, "dsa_operations": ["flip", "rotate"]}
    | {
        "overrides": {
            "cifar100": {"images_per_class": 1},
            "tiny_imagenet": {"images_per_class": 1, "classes_per_step": 50},
            "imagenet": {"images_per_class": 1, "classes_per_step": 50},
        }
    },
    "datadam-v1": COMMON | FIELD | {"network": "ConvNetBN", "epochs": 1801, "decay_after": 902, "batch_size": 64},
    "ncfm-v1": COMMON
    | {"epochs": 2000, "batch_size": 128, "optimizer": "adamw", "decay_all": True, "learning_rate": 1e-3}
    | {"weight_decay": 0.01, "decay_after": 400, "decay_factor": 0.5, "decays": 4, "use_learned_rate": False}
    | {"dsa_rule": "several", "dsa_operations": ["color", "crop", "flip", "scale", "rotate"], "cutmix": 0.5}
    | {"equal_steps": False, "networks": 10},
    "sre2l-v1": COMMON
    | ADAMW
    | {"batch_size": 1024, "annealing": 1.0, "views": CUTMIX}
    | {
        "overrides": {name: {"epochs": 400, "batch_size": 128, "views": MIXUP} for name in ("cifar10", "cifar100")}
        | {"imagenet": {"network": "ResNet18BN_ImageNet"}}
    },
    "rded-v1": COMMON
    | ADAMW
    | {"batch_by_ipc": [[1, 10], [10, 50], [50, 100]], "annealing": 0.5, "views": CUTMIX | {"scale": [1.0, 1.0]}}
    | {
        "overrides": {"tiny_imagenet": {"batch_by_ipc": [], "batch_size": 100}}
        | {
            name: {"network": "ResNet18BN_ImageNet", "views": CUTMIX | {"scale": [0.5, 1.0], "tiles": 2}}
            for name in STITCHED
        }
    },
    "infer-v1": COMMON
    | ADAMW
    | {"epochs": 400, "batch_size": 64, "decay_all": True, "annealing": 1.0, "views": MIXUP}
    | {"mixed": "logits", "equal_steps": False},
    "prune-v1": COMMON | PRUNE,
    "prune-full-v1": COMMON | PRUNE | FULL,
    "prune-cpu-v1": COMMON | EQUAL_STEPS | {"networks": 3},
    "prune-cpu-full-v1": COMMON | EQUAL_STEPS | FULL,
    "prune-small-v1": COMMON | EQUAL_STEPS | NARROW,
    "prune-small-full-v1": COMMON | EQUAL_STEPS | NARROW | FULL,
    "reinforce-v1": COMMON
    | {"network": "ResNet18BN", "epochs": 1000, "learning_rate": 0.2, "use_learned_rate": False, "networks": 1}
    | {"annealing": 1.0, "anneal_every": "step", "augmentation": "views"}
    | {"overrides": {"imagenet": REINFORCE_IMAGENET}},
    "reinforce-small-v1": COMMON
    | EQUAL_STEPS
    | NARROW
    | {"minimum_steps": 900, "augmentation": "views", "views": COMMON["views"] | {"scale": [0.5, 1.0]}},
    "matched-v1": COMMON | MATCHED,
    "matched-average-v1": COMMON | MATCHED | {"average": 0.99},
    "matched-adamw-v1": COMMON | MATCHED | {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01},
    "matched-muon-v1": COMMON
    | MATCHED
    | {"optimizer": "muon", "learning_rate": 3e-3, "weight_decay": 0.01, "momentum": 0.95, "nesterov": True},
    "probe-v1-linear-1": COMMON | probe("linear", 1),
    "probe-v1-linear-5": COMMON | probe("linear", 5),
    "probe-v1-linear-all": COMMON | probe("linear", 0),
    "probe-v1-finetune-1": COMMON | probe("finetune", 1),
    "probe-v1-finetune-5": COMMON | probe("finetune", 5),
    "probe-v1-finetune-all": COMMON | probe("finetune", 0, steps=300),
}


def test_every_protocol_is_pinned():
    assert list(PROTOCOLS) == list(PINNED)


@pytest.mark.parametrize("name", PINNED)
def test_no_number_of_a_protocol_has_changed(name):
    dumped = load_protocol(name).model_dump(mode="json")
    assert dumped.pop("source")
    assert dumped == {"id": name, **PINNED[name]}


@pytest.mark.parametrize("name", PINNED)
def test_a_protocol_cannot_be_changed(name):
    for field, value in {"epochs": 1, "id": "mine", "new": 1}.items():
        with pytest.raises(ValidationError):
            setattr(load_protocol(name), field, value)
    with pytest.raises(TypeError):
        load_protocol("dc-v1").overrides["mnist"]["epochs"] = 1  # type: ignore[index]
    with pytest.raises(TypeError):
        load_protocol("dc-v1").overrides["digits"] = {}  # type: ignore[index]


def test_an_unknown_protocol_is_refused_with_the_known_ones():
    with pytest.raises(UsageError) as error:
        load_protocol("standard-v2")
    assert all(name in str(error.value) for name in ("standard-v2", *PINNED))


def reference_rates(epochs, rate=0.01):
    """The rate of every epoch of evaluate_synset, whose argument is ``epochs``: methods.md 0.5."""
    rates = []
    for epoch in range(epochs + 1):
        rates.append(rate)
        if epoch == epochs // 2 + 1:
            rate *= 0.1
    return rates


def rates(plan):
    return [
        plan.learning_rate * (plan.decay_factor if epoch >= plan.decay_after else 1) for epoch in range(plan.epochs)
    ]


@pytest.mark.parametrize(
    ("name", "source", "epochs", "batch"),
    [
        ("dc-v1", "cifar10", 300, 256),
        ("dc-v1", "mnist", 1000, 256),
        ("dsa-v1", "mnist", 1000, 256),
        ("datadam-v1", "mnist", 1800, 64),
    ],
)
def test_the_papers_protocols_have_the_rates_of_the_reference_loop(name, source, epochs, batch):
    plan = load_protocol(name).for_dataset(source).plan(100)
    assert rates(plan) == pytest.approx(reference_rates(epochs))
    assert plan.reset_momentum and (plan.momentum, plan.weight_decay, plan.batch_size) == (0.9, 5e-4, batch)


def test_the_rate_of_ncfm_halves_after_every_fifth():
    wanted = [1e-3 * 0.5 ** (epoch // 400) for epoch in range(2000)]
    plan = load_protocol("ncfm-v1").plan(10)
    assert [plan.rate(epoch) for epoch in range(2000)] == pytest.approx(wanted)
    longer = load_protocol("ncfm-v1").plan(10, shown=40)
    assert (longer.epochs, longer.decay_after) == (2000, 400), "of all images that the set shows"


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"decays": 2, "decay_after": 1, "reset_momentum": True}, "decays above 1 need decay_after, and go neither"),
        ({"decays": 2, "decay_after": 1, "annealing": 1.0}, "nor with annealing"),
        ({"decays": 2}, "decays above 1 need decay_after"),
        ({"cutmix": 0.5, "trains_on": "full"}, "cutmix is of sets"),
        ({"augmentation": "views", "cutmix": 0.5}, "cutmix go with augmentation"),
        ({"augmentation": "none", "dsa_rule": "several"}, "dsa_rule and cutmix go with"),
        ({"cutmix": 1.5}, "less than or equal to 1"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(fields, complaint):
    with pytest.raises(ValidationError, match=complaint):
        Protocol(id="mine", source="test", epochs=1, **fields)


def test_dc_augments_on_mnist_alone():
    protocol = load_protocol("dc-v1")
    assert protocol.for_dataset("mnist").augmentation == "dc"
    assert protocol.for_dataset("mnist").dc_operations == ("crop", "scale", "rotate")
    for name in ("digits", "fashion_mnist", "cifar10", "folder:mnist"):
        assert protocol.for_dataset(name) == protocol
    assert protocol.augmentation == "none"  # the protocol itself is as before
    assert protocol.for_dataset("mnist").id == "dc-v1"


@pytest.mark.parametrize(
    ("source", "images", "epochs"),
    [
        ("cifar10", 50_000, 10),  # 196 steps an epoch
        ("mnist", 60_000, 2),
        ("fashion_mnist", 60_000, 2),
        ("mnist", 256, 2),
        ("digits", 1438, 84),  # 6 steps an epoch: 84 · 6 = 504
        ("folder:photos", 256, 500),
        ("folder:photos", 257, 250),
        ("folder:photos", 12_800, 10),  # 50 steps an epoch: exactly 500
        ("folder:photos", 12_544, 11),  # 49
    ],
)
def test_the_whole_split_is_trained_on_for_few_epochs_but_500_steps_where_the_source_sets_no_number(
    source, images, epochs
):
    plan = load_protocol("full-v1").for_dataset(source).plan(images)
    assert (plan.epochs, plan.decay_after) == (epochs, epochs // 2)


@pytest.mark.parametrize(("name", "epochs"), [("standard-v1", 1000), ("quick-v1", 300)])
def test_our_own_protocols_decay_after_half_of_the_epochs_and_keep_their_momentum(name, epochs):
    for images in (1, 10, 500, 50_000):
        plan = load_protocol(name).plan(images)
        assert (plan.epochs, plan.decay_after, plan.decay_factor) == (epochs, epochs // 2, 0.1)
        assert not plan.reset_momentum and plan.temperature == 1.0


@pytest.mark.parametrize("name", PINNED)
def test_a_learned_rate_is_used_where_the_protocol_says_so(name):
    own = PINNED[name]["learning_rate"]
    uses_it = name in ("standard-v1", "quick-v1", "full-v1", "mtt-v1", "ast-v1", "datm-v1")
    learned = 0.5 if uses_it else own
    assert load_protocol(name).plan(100, learned_rate=0.5).learning_rate == learned
    assert load_protocol(name).plan(100).learning_rate == own
    assert load_protocol(name).plan(100, 0.5, temperature=20.0).temperature == 20.0


@pytest.mark.parametrize("images", [1000, 5000, 25000, 50000])
def test_equal_steps_are_equal_but_for_a_last_epoch_and_fixed_epochs_are_not(images):
    equal, fixed = (load_protocol(name).plan(images) for name in ("prune-cpu-v1", "prune-v1"))
    in_an_epoch = -(-images // 128)
    assert 2000 <= equal.epochs * in_an_epoch < 2000 + in_an_epoch
    assert (fixed.epochs, fixed.batch_size, fixed.rate(0)) == (200, 128, 0.1)
    assert fixed.rate(199, 1 - 1e-12) == pytest.approx(1e-4)
    assert load_protocol("prune-full-v1").plan(images) == fixed
    assert load_protocol("prune-cpu-full-v1").plan(images) == equal


@pytest.mark.parametrize("shown", [99, 100, 101, 240, 256, 257, 700, 5000])
@pytest.mark.parametrize(("name", "images"), [("quick-v1", 100), ("dsa-v1", 30), ("sre2l-v1", 1000), ("rded-v1", 100)])
def test_other_images_than_are_stored_are_shown_in_as_many_steps(name, images, shown):
    protocol = load_protocol(name)
    usual, plan = protocol.plan(images, classes=10), protocol.plan(images, classes=10, shown=shown)
    steps, in_an_epoch = usual.epochs * -(-images // usual.batch_size), -(-shown // plan.batch_size)
    assert steps <= plan.epochs * in_an_epoch < steps + in_an_epoch
    assert plan.batch_size == usual.batch_size
    if usual.decay_after is not None:
        assert abs(plan.decay_after / plan.epochs - usual.decay_after / usual.epochs) < 1 / plan.epochs
    assert protocol.plan(images, classes=10, shown=images) == usual


def test_infer_shows_more_images_in_as_many_epochs():
    for shown in (100, 350):
        plan = load_protocol("infer-v1").plan(100, classes=10, shown=shown)
        assert (plan.epochs, plan.batch_size, plan.decay_all) == (400, 64, True)


@pytest.mark.parametrize("values", [{"momentum": 0.0}, {"optimizer": "adamw"}], ids=str)
def test_nesterov_without_momentum_is_refused(values):
    with pytest.raises(ValidationError, match=r"nesterov is a kind of momentum"):
        Protocol(id="own", source="test", epochs=1, nesterov=True, **values)


@pytest.mark.parametrize("images", [10, 100, 2000])
def test_rats_protocol_has_the_same_number_of_steps_at_one_rate_for_every_set(images):
    plan = load_protocol("rat-v1").plan(images, learned_rate=0.5)
    assert (plan.epochs * -(-images // plan.batch_size), plan.optimizer, plan.weight_decay) == (600, "adamw", 0.0)
    assert {plan.rate(epoch) for epoch in range(plan.epochs)} == {0.001}


@pytest.mark.parametrize("images", [10, 256, 257, 6000])
def test_matched_protocols_take_as_many_updates_for_every_set_to_an_epoch(images):
    for name in ("matched-v1", "matched-average-v1", "matched-adamw-v1", "matched-muon-v1"):
        plan, in_an_epoch = load_protocol(name).plan(images, learned_rate=0.5), -(-images // 256)
        assert 600 <= plan.epochs * in_an_epoch < 600 + in_an_epoch and plan.learning_rate != 0.5
        assert plan.average == (0.99 if "average" in name else 0.0)


def test_a_network_at_the_end_of_an_id_is_the_protocols_on_every_dataset():
    rules, plain = load_protocol("rded-v1+ConvNetD1W4"), load_protocol("rded-v1")
    assert (rules.id, rules.network, rules.for_dataset("imagenet").network) == (
        "rded-v1+ConvNetD1W4", "ConvNetD1W4", "ConvNetD1W4"
    )  # fmt: skip
    assert rules.for_dataset("imagenet").views == plain.for_dataset("imagenet").views
    same = {"id": plain.id, "network": plain.network, "overrides": plain.overrides}
    assert rules.model_copy(update=same) == plain
    both = load_protocol("dc-v1+MLP+no-augmentation")
    assert (both.network, both.for_dataset("mnist").augmentation) == ("MLP", "none")
    assert known_protocol("dc-v1+MLP+no-augmentation") == both
    for name in ("quick-v1+Convnet", "quick-v0+MLP", "quick-v1+os:system", "quick-v1+"):
        for load in (load_protocol, known_protocol):
            with pytest.raises(UsageError):
                load(name)


def test_some_classes_a_step_without_a_number_of_images_are_refused():
    with pytest.raises(ValidationError, match="classes_per_step goes with images_per_class"):
        Protocol(id="own", source="test", epochs=1, classes_per_step=2)


@pytest.mark.parametrize("values", [{"trains_on": "targets"}, {"probe": {"way": "linear", "labels": 1}}], ids=str)
def test_targets_without_a_probe_and_a_probe_without_targets_are_refused(values):
    with pytest.raises(ValidationError, match="probe goes with trains_on = targets"):
        Protocol(id="own", source="test", epochs=1, **values)


def test_another_momentum_where_it_does_not_start_again_is_refused():
    with pytest.raises(ValidationError, match="decayed_momentum goes with reset_momentum"):
        Protocol(id="own", source="test", epochs=1, decayed_momentum=0.5)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"augmentation": "none", "dsa_operations": ["flip"]}, "dsa_operations goes with"),
        ({"dc_operations": ["crop"]}, "dc_operations goes with"),
        ({"augmentation": "dc"}, "has no dc_operations"),
        ({"mixed": "logits"}, "mixed goes with"),
        ({"annealing": 1.0, "decay_factor": 0.5}, "decay_factor goes with no annealing"),
        ({"annealing": 1.0, "decay_after": 3}, "decay_after goes with no annealing"),
        ({"anneal_every": "step"}, "anneal_every goes with annealing"),
        ({"floor": 0.001}, "floor goes with annealing"),
        ({"trains_on": "full", "images_per_class": 1}, "images_per_class goes with"),
        ({"overrides": {"mnist": {"dc_operations": ["crop"]}}}, "dc_operations goes with"),
    ],
)
def test_a_field_that_nothing_would_hear_is_refused(fields, said):
    with pytest.raises(ValidationError, match=said):
        Protocol.model_validate({"id": "own", "source": "test", "epochs": 3} | fields)


@pytest.mark.parametrize(("images", "shown"), [(1_281_167, None), (60_000, 240_000), (640_000, None)])
def test_a_training_of_one_epoch_has_the_full_rate(images, shown):
    plan = PROTOCOLS["prune-cpu-v1"].plan(images, shown=shown)
    assert plan.epochs <= 2 and plan.rate(0) == PROTOCOLS["prune-cpu-v1"].learning_rate


def test_batches_are_those_of_the_nearest_number_of_images_below_in_whatever_order():
    own = Protocol(id="own", source="test", epochs=3, batch_by_ipc=((10, 50), (1, 10)))
    assert [own.plan(ipc * 10, classes=10).batch_size for ipc in (1, 9, 10, 50)] == [10, 10, 50, 50]


@pytest.mark.parametrize(("tiles", "fine"), [(1, True), (2, True), (3, False), (5, False), (8, True)])
def test_tiles_that_do_not_divide_the_images_are_refused_before_training(digits, tiles, fine):
    views = PROTOCOLS["rded-v1"].views.model_copy(update={"tiles": tiles})
    rules = PROTOCOLS["rded-v1"].model_copy(update={"augmentation": "views", "views": views})
    if fine:
        assert augmentation_of(rules, digits) is not None
        return
    with pytest.raises(UsageError, match=f"cuts images into {tiles} tiles a side, and digits has images of 8×8"):
        augmentation_of(rules, digits)


def test_fyis_networks_see_each_image_mirrored_or_not_before_another_operation(digits):
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))

    def shown(augment):
        return augment(images, torch.Generator().manual_seed(1))

    rules, mirrored = load_protocol("fyi-v1"), replace(digits, flip_invariant=True)
    assert shown(augmentation_of(rules, mirrored)).equal(shown(dsa.augmentation(True, always_flip=True)))
    assert not shown(augmentation_of(rules, mirrored)).equal(shown(dsa.augmentation(True)))
    assert shown(augmentation_of(rules, digits)).equal(shown(dsa.augmentation(False))), "no mirror where it is no digit"
