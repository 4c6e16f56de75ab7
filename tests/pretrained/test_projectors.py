"""Projectors: increments alone are trained, towards labels and weak teachers, and stored as they were trained."""

import dataclasses
import hashlib

import pytest
import torch
from pretraining import StopsAfter, data
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import stored_projector
from distill_bench.errors import DataError, Interrupted, UsageError
from distill_bench.networks import build_network
from distill_bench.networks.efficientnet_lite import efficientnet_lite0
from distill_bench.networks.encoders import ENCODERS, ExternalEncoder
from distill_bench.networks.initialise import initialise
from distill_bench.networks.low_rank import dense_convolutions
from distill_bench.pretrained.experts import ExpertRecipe
from distill_bench.pretrained.projectors import (
    ProjectorRecipe,
    _Training,
    check_projector_recipe,
    get_or_train_projector,
    snapshot_epochs,
    weak_teachers,
)
from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher
from distill_bench.runtime.seeds import generator

TEACHER = TeacherRecipe(network="ConvNetD2W4BN", epochs=6, learning_rate=0.1, augment="none")
RECIPE = ProjectorRecipe(
    rank=2, head_rank=3, convolutions=0, steps=5, batch_size=16, learning_rate=0.01, network="ConvNetD1W4",
    expert=ExpertRecipe(epochs=3, augment="none"), snapshots=2,
)  # fmt: skip
IMAGES = torch.arange(24)


@pytest.fixture(scope="module")
def training(digits) -> TrainingData:
    return data(digits)


@pytest.fixture(scope="module")
def teacher(training):
    return get_or_train_teacher(training, TEACHER, 0)


@pytest.fixture(scope="module")
def made(training, teacher):
    return get_or_train_projector(training, RECIPE, teacher, 0)


def beginning(training, teacher, **fields) -> _Training:
    recipe = RECIPE.model_copy(update=fields)
    return _Training(training, recipe, teacher.network, weak_teachers(training, recipe, 0), 0)


def as_set(made, digits, training) -> DistilledSet:
    images, labels = training.images(IMAGES), training.labels[IMAGES]
    plain = DistilledSet.from_tensors(images, labels, digits, pixel_space=training.pixel_space)
    about = {"label_kind": "projector", "projector": made.card, "requires": made.requires}
    return DistilledSet(images, labels, plain.card.model_copy(update=about), stored=made.tensors)


@pytest.mark.parametrize("head", ["names", "prototypes"])
def test_at_the_start_it_is_the_frozen_encoder_with_its_head(training, teacher, head):
    started, images = beginning(training, teacher, head=head), training.images(IMAGES)
    features = F.normalize(teacher.network.embed(images), dim=1)
    rows = F.normalize(teacher.network.classifier.weight, dim=1) if head == "names" else started.projector.head
    assert torch.equal(started.logits(images), 20.0 * features @ rows.T)
    if head == "prototypes":
        every = F.normalize(teacher.network.embed(training.images(torch.arange(len(training)))), dim=1)
        few = beginning(training, teacher, prototype_images=10_000).projector.head
        for label in range(10):
            mean = F.normalize(every[training.labels == label].mean(dim=0), dim=0)
            torch.testing.assert_close(few[label], mean, rtol=2e-3, atol=1e-3)  # in half precision


def test_the_loss_is_that_of_weak_teachers_and_classes(training, teacher):
    started = beginning(training, teacher, class_weight=0.3)
    images, labels = training.images(IMAGES), training.labels[IMAGES]
    weak, network = weak_teachers(training, RECIPE, 0), build_network("ConvNetD1W4", training.shape, 10, generator("x"))
    wanted = []
    for epoch in (2, 3):
        vector_to_parameters(weak.snapshot(0, epoch), network.parameters())
        wanted.append(network(images))
    error = (started.logits(images) - (wanted[0] + wanted[1]) / 2).square().sum() / (len(images) * 10)
    classes = -started.logits(images).log_softmax(dim=1)[torch.arange(len(images)), labels].mean()
    torch.testing.assert_close(started.loss(images, labels), error + 0.3 * classes)
    centred = beginning(training, teacher, class_weight=0.3, centred=True)
    apart = centred.logits(images) - (wanted[0] + wanted[1]) / 2
    variance = apart.var(dim=1, correction=0).mean()  # the error less what is common to all classes
    torch.testing.assert_close(centred.loss(images, labels), variance + 0.3 * classes)
    assert snapshot_epochs(3, 2) == [2, 3] and snapshot_epochs(2, 9) == [1, 2]


def test_increments_alone_are_trained(training, teacher, made):
    before = {name: each.clone() for name, each in teacher.network.state_dict().items()}
    started = beginning(training, teacher)
    started.loss(training.images(IMAGES), training.labels[IMAGES]).backward()
    assert all(parameter.grad is None for parameter in teacher.network.parameters())
    assert started.scale.grad is not None and all(b.grad.abs().sum() > 0 for _, b in started.factors.values())
    for name, each in teacher.network.state_dict().items():
        assert torch.equal(each, before[name]) and torch.equal(made.tensors[f"projector.encoder.{name}"], each)
    for name, (a, b) in beginning(training, teacher).factors.items():
        layer = "head" if name == "head" else name.removeprefix("encoder.").removesuffix(".weight")
        assert b.abs().sum() == 0 and made.tensors[f"projector.{layer}.b"].abs().sum() > 0
        torch.testing.assert_close(made.tensors[f"projector.{layer}.a"].float(), a.detach(), rtol=0, atol=0.06)


def test_the_gradient_of_the_factors_is_that_of_finite_differences(training, teacher):
    started = beginning(training, teacher)
    images, labels = training.images(IMAGES), training.labels[IMAGES]
    started.loss(images, labels).backward()
    for name, (_, b) in started.factors.items():
        direction = torch.randn(b.shape, generator=generator("direction", name))
        losses = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                b += step * direction
                losses.append(started.loss(images, labels).item())
                b -= step * direction
        torch.testing.assert_close(
            (losses[0] - losses[1]) / 2e-3, (b.grad * direction).sum().item(), rtol=0.02, atol=0.02
        )


def test_what_is_stored_are_ranks_of_rows_and_columns_in_half_precision(made, teacher):
    layers = [layer.weight for layer in dense_convolutions(teacher.network).values()]
    increments = [each for name, each in made.tensors.items() if name.endswith((".a", ".b"))]
    assert {each.dtype for each in increments} == {torch.float16}
    head = (10, teacher.network.classifier.in_features)
    of_layers = sum(len(weight) + weight[0].numel() for weight in layers)
    assert sum(each.numel() for each in increments) == 2 * of_layers + 3 * sum(head)
    assert made.tensors["projector.prototypes"].shape == head


def test_a_set_labels_with_what_was_trained(digits, training, teacher, made):
    projector, chosen = stored_projector(as_set(made, digits, training)), torch.arange(len(training))
    right = (projector(training.images(chosen)).argmax(dim=1) == training.labels).float().mean()
    assert 100 * right.item() == pytest.approx(made.pretrained.facts["accuracy"], abs=0.1)
    assert made.pretrained.facts["losses"][0] > made.pretrained.facts["losses"][-1] and made.requires == ()
    plain = beginning(training, teacher)
    begun = (plain.logits(training.images(chosen)).argmax(dim=1) == training.labels).float().mean()
    assert 100 * begun.item() == pytest.approx(made.pretrained.facts["before"], abs=0.1)


@pytest.mark.usefixtures("global_rng_untouched")
def test_stopped_training_goes_on_to_the_same_bytes(training, teacher, made, monkeypatch, tmp_path):
    whole = made.pretrained.path.read_bytes()
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    weak_teachers(training, RECIPE, 0)
    for done in (2, 4):
        with pytest.raises(Interrupted, match=f"{done} of 5 steps of a projector trained"):
            get_or_train_projector(training, RECIPE, teacher, 0, monitor=StopsAfter(2))
    again = get_or_train_projector(training, RECIPE, teacher, 0)
    assert again.pretrained.path.read_bytes() == whole and again.pretrained.key == made.pretrained.key
    other = get_or_train_projector(training, RECIPE, teacher, 1)
    assert other.pretrained.key != made.pretrained.key and other.tensors.keys() == made.tensors.keys()


def test_an_external_encoder_is_named_and_not_stored(digits, training, teacher, tmp_path, monkeypatch):
    file, name = tmp_path / "weights.pth", "efficientnet-lite0"
    network = initialise(efficientnet_lite0(), generator("lite0")).eval()
    torch.save(network.state_dict(), file)
    content = file.read_bytes()
    own = dataclasses.replace(ENCODERS[name], sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    for module in ("distilled.projector", "networks.encoders"):
        monkeypatch.setattr(f"distill_bench.{module}.ENCODERS", {name: own})
    monkeypatch.setattr(ExternalEncoder, "missing", None)
    monkeypatch.setattr(ExternalEncoder, "_path", lambda self: file)
    recipe = RECIPE.model_copy(
        update={"encoder": name, "side": 32, "convolutions": 5, "steps": 1, "prototype_images": 2}
    )
    monkeypatch.setattr("distill_bench.pretrained.projectors.checked_images", lambda training: IMAGES)
    made = get_or_train_projector(training, recipe, teacher, 0)
    assert [(each.id, each.sha256, each.bytes) for each in made.requires] == [(own.id, own.sha256, own.bytes)]
    assert not any("encoder" in tensor for tensor in made.tensors) and made.card.side == 32
    increments = sum(each.numel() for tensor, each in made.tensors.items() if tensor.endswith((".a", ".b")))
    assert increments == 2 * 7_104 + 3 * (10 + 1280)
    one = as_set(made, digits, training)
    pixels = (digits.train.images(IMAGES).float() - 127) / 128
    shown = F.interpolate(pixels, (32, 32), mode="bilinear").expand(-1, 3, -1, -1)
    changed = {}
    for layer, module in dense_convolutions(network, 5).items():
        a, b = (made.tensors[f"projector.{layer}.{factor}"].float() for factor in "ab")
        changed[f"{layer}.weight"] = module.weight + (a @ b).view_as(module.weight)
    features = functional_call(
        network.features, {key.removeprefix("features."): w for key, w in changed.items()}, shown
    )
    head = made.tensors["projector.prototypes"].float()
    head = head + made.tensors["projector.head.a"].float() @ made.tensors["projector.head.b"].float()
    expected = made.tensors["projector.scale"] * F.normalize(features.flatten(1), dim=1) @ head.T
    torch.testing.assert_close(stored_projector(one)(one.images), expected, rtol=1e-3, atol=1e-3)
    assert parameters_to_vector(network.parameters()).isfinite().all()


def test_what_cannot_be_made_is_refused_before_any_work(digits, training, monkeypatch):
    external = RECIPE.model_copy(update={"encoder": "efficientnet-lite0"})
    monkeypatch.setattr(ExternalEncoder, "missing", "the weights are not installed")
    for recipe, space, error, message in (
        (external, "normalized", DataError, "the weights are not installed"),
        (external, "zca", UsageError, "whitened"),
        (external.model_copy(update={"head": "names"}), "normalized", UsageError, "no rows for the classes 0, 1"),
        (RECIPE.model_copy(update={"encoder": "clip"}), "normalized", UsageError, "unknown encoder 'clip'"),
        (RECIPE.model_copy(update={"network": "own:network"}), "normalized", UsageError, "not one of this project's"),
    ):
        with pytest.raises(error, match=message):
            check_projector_recipe(recipe, digits, data(digits, space).pixel_space)
    check_projector_recipe(RECIPE, digits, data(digits, "zca").pixel_space)
