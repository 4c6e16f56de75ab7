"""FYI's flip in float64: the mirror images are the same data, gradients come through both halves, and who may not."""

import importlib
from dataclasses import replace

import pytest
import torch
from matching_oracles import (
    CLASSES,
    COMMON,
    IPC,
    REAL,
    SHAPE,
    SOURCE,
    datadam_objective,
    dm_objective,
    network_of,
    run_of,
    start,
)
from torch.nn import functional as F

from distill_bench import synthesize
from distill_bench.augmentations import dsa
from distill_bench.augmentations.flip import flipped, with_mirrors
from distill_bench.benchmark import BenchConfig, SetCell, tasks_of
from distill_bench.errors import UsageError
from distill_bench.methods.gradient_matching.gradient_matching import GradientMatching, GradientMatchingConfig
from distill_bench.methods.matching import augment_pair, draw_dsa
from distill_bench.methods.mean_matching.attention_matching import AttentionMatchingConfig
from distill_bench.methods.mean_matching.mean_matching import MeanMatchingConfig
from distill_bench.runtime.seeds import generator
from distill_bench.training.train import Plan, train

GM = importlib.import_module("distill_bench.methods.gradient_matching.gradient_matching")
MATCHING = importlib.import_module("distill_bench.methods.matching")
NAME = "ConvNetD2W4ASwish"
METHODS = {
    "dc": (GradientMatching, GradientMatchingConfig, {"outer_loop": 1, "inner_loop": 1}),
    "dsa": (GradientMatching, GradientMatchingConfig, {"outer_loop": 1, "inner_loop": 1, "augment": "dsa"}),
    "dm": (dm_objective, MeanMatchingConfig, {"augment": "dsa"}),
    "datadam": (datadam_objective, AttentionMatchingConfig, {"augment": "dsa"}),
}


@pytest.fixture
def one_network(monkeypatch):
    """Every step has the same network, in float64."""
    monkeypatch.setattr(MATCHING, "random_network", lambda job, step: network_of(NAME))


def step(method, images, source=SOURCE, **options):
    objective, fields, own = METHODS[method]
    job = run_of(fields(**COMMON | own | {"flip": True} | options), source)
    loss, gradients = objective(job, images).loss_and_grads(0)
    return float(loss), gradients["images"]


def test_the_mirror_images_follow_the_images_and_the_targets_come_twice():
    images = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]], [[[0.0, 0.0, 7.0], [8.0, 0.0, 0.0]]]])
    doubled, targets = flipped(images, torch.tensor([4, 9]))
    assert torch.equal(doubled[:2], images) and targets.tolist() == [4, 9, 4, 9]
    assert doubled[2:].tolist() == [[[[3.0, 2.0, 1.0], [6.0, 5.0, 4.0]]], [[[7.0, 0.0, 0.0], [0.0, 0.0, 8.0]]]]
    assert flipped(images, torch.tensor([[0.1, 0.9], [0.2, 0.8]]))[1].shape == (4, 2)


def test_gradients_reach_an_image_through_both_halves():
    images = start().requires_grad_()
    slopes = torch.randn(2 * len(images), *SHAPE, generator=generator("slopes"), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(with_mirrors(images), images, slopes)
    first, second = slopes.split(len(images))
    for n in range(len(images)):
        for x in range(SHAPE[2]):
            torch.testing.assert_close(gradient[n, :, :, x], first[n, :, :, x] + second[n, :, :, SHAPE[2] - 1 - x])


@pytest.mark.usefixtures("one_network")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("always_flip", [False, True])
def test_images_and_their_mirrors_have_the_same_loss_and_mirrored_gradients(method, always_flip):
    options = {"always_flip": always_flip} if METHODS[method][2].get("augment") else {}
    loss, gradient = step(method, start(), **options)
    mirrored_loss, mirrored_gradient = step(method, start().flip(3), **options)
    assert mirrored_loss == pytest.approx(loss, rel=1e-11)
    torch.testing.assert_close(mirrored_gradient, gradient.flip(3), rtol=1e-8, atol=1e-12)
    plain = [step(method, images, flip=False, **options)[0] for images in (start(), start().flip(3))]
    assert abs(plain[0] - plain[1]) > 1e-6 * abs(plain[0])  # without the flip they are not the same data


@pytest.mark.usefixtures("one_network")
@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_the_sum_of_the_two_halves(method, monkeypatch):
    loss, gradient = step(method, start())
    halves = []
    for kept in (0, 1):

        def one_half(images, kept=kept):
            parts = [images, images.flip(3)]
            return torch.cat([part if side == kept else part.detach() for side, part in enumerate(parts)])

        monkeypatch.setattr(MATCHING, "with_mirrors", one_half)
        same, half = step(method, start())
        assert same == pytest.approx(loss, rel=1e-12)
        assert half.any()
        halves.append(half)
    torch.testing.assert_close(halves[0] + halves[1], gradient, rtol=1e-9, atol=1e-13)
    assert not torch.allclose(halves[0], gradient)


def test_the_real_batch_is_not_doubled_and_both_halves_undergo_the_same(monkeypatch):
    job = run_of(MeanMatchingConfig(**COMMON, augment="dsa", flip=True))
    real = torch.randn(REAL, *SHAPE, generator=generator("real"), dtype=torch.float64)
    own = start()[:IPC]
    for index in range(12):
        seen_real, seen = augment_pair(job, real, own, generator("pair", index))
        drawn = dsa.sample(dsa.OPERATIONS, 1, SHAPE, generator("pair", index))
        assert torch.equal(seen_real, dsa.apply(drawn, real))
        assert torch.equal(seen, torch.cat([dsa.apply(drawn, own), dsa.apply(drawn, own.flip(3))]))


def training_batches(monkeypatch, config):
    """What the inner loop trains the network on."""
    found = []
    monkeypatch.setattr(GM, "epochs", lambda network, batches, *_, **__: found.append(batches) or [])
    GradientMatching(run_of(config), start()).after_step(0)
    return found[0]


@pytest.mark.usefixtures("one_network")
def test_the_inner_loop_trains_on_the_mirror_images_too(monkeypatch):
    for flip in (True, False):
        batches = training_batches(monkeypatch, GradientMatchingConfig(**COMMON, outer_loop=2, inner_loop=1, flip=flip))
        images, _ = batches(0, torch.arange(2), generator("inner"))
        assert torch.equal(images, torch.cat([start()[:2], start()[:2].flip(3)]) if flip else start()[:2])


@pytest.mark.usefixtures("one_network")
@pytest.mark.parametrize("always_flip", [False, True])
def test_the_inner_loop_has_the_dsa_of_the_recipe(always_flip, monkeypatch):
    common = COMMON | {"outer_loop": 2, "inner_loop": 1, "augment": "dsa"}
    batches = training_batches(monkeypatch, GradientMatchingConfig(**common, always_flip=always_flip))
    everything = torch.arange(CLASSES * IPC)
    for index in range(8):
        drawn = dsa.sample(dsa.OPERATIONS, CLASSES * IPC, SHAPE, generator("inner", index), always_flip)
        assert torch.equal(batches(0, everything, generator("inner", index))[0], dsa.apply(drawn, start()))


@pytest.mark.usefixtures("one_network")
def test_a_flipped_batch_is_augmented_after_it_was_doubled(monkeypatch):
    common = COMMON | {"outer_loop": 2, "inner_loop": 1, "augment": "dsa"}
    batches = training_batches(monkeypatch, GradientMatchingConfig(**common, flip=True))
    indices = torch.tensor([2, 0, 1])
    images, labels = batches(0, indices, generator("inner"))
    both = torch.cat([start()[indices], start()[indices].flip(3)])
    assert torch.equal(images, dsa.apply(dsa.sample(dsa.OPERATIONS, 6, SHAPE, generator("inner")), both))
    assert torch.equal(labels, torch.arange(CLASSES).repeat_interleave(IPC)[indices].repeat(2))


def test_training_on_a_doubled_batch_is_a_step_on_the_mean_loss_of_both_halves():
    images, labels = start(), torch.arange(CLASSES).repeat_interleave(IPC)
    network, other = network_of(NAME), network_of(NAME)
    plan = Plan(epochs=1, batch_size=len(images), learning_rate=0.1)

    def batches(epoch, indices, draws):
        return flipped(images[indices], labels[indices])

    loss = train(network, batches, len(images), plan, generator("order"))
    both = [F.cross_entropy(other(half), labels) for half in (images, images.flip(3))]
    expected = sum(both) / 2
    assert loss == pytest.approx(float(expected.detach()))
    slopes = torch.autograd.grad(expected, list(other.parameters()))
    for after, before, slope in zip(network.parameters(), other.parameters(), slopes, strict=True):
        torch.testing.assert_close(after, before - 0.1 * slope)


def test_always_flip_mirrors_half_of_the_images_and_then_draws_from_the_other_operations():
    batch = torch.randn(8, *SHAPE, generator=generator("batch"))
    mirrored, operations = [], []
    for index in range(200):
        drawn = dsa.sample(dsa.OPERATIONS, 8, SHAPE, generator("always", index), always_flip=True)
        operations.append(drawn.operation)
        mirrored.append(drawn.mirrored)
        by_hand = torch.stack(
            [image.flip(2) if flip else image for image, flip in zip(batch, drawn.mirrored, strict=True)]
        )
        assert torch.equal(dsa.apply(drawn, batch), dsa.apply(replace(drawn, mirrored=None), by_hand))
    assert 0.45 < torch.stack(mirrored).double().mean() < 0.55
    counts = {name: operations.count(name) for name in dsa.OPERATIONS}
    assert counts.pop("flip") == 0 and min(counts.values()) > 20


def test_without_always_flip_the_draws_are_as_before():
    drawn = dsa.sample(dsa.OPERATIONS, 3, SHAPE, generator("plain"))
    assert drawn.mirrored is None
    job = run_of(MeanMatchingConfig(**COMMON, augment="dsa"))
    again = draw_dsa(job, 3, generator("plain"))
    assert again.operation == drawn.operation
    assert all(torch.equal(again.values[name], value) for name, value in drawn.values.items())


ASKED = {"dm": {"flip": True}, "dsa": {"always_flip": True}, "fyi-dc": {}, "fyi-datadam": {}}


@pytest.mark.parametrize("method", ASKED)
def test_a_source_whose_mirror_images_may_not_keep_their_label_refuses(method, digits):
    small = {"iterations": 1, "real_batch": 4, "network": "ConvNetD2W4"}
    with pytest.raises(UsageError, match=r"flip: a mirrored image of digits may not keep .*flip_any_source"):
        synthesize(digits, method, 1, **small | ASKED[method])
    synthesize(digits, method, 1, **small | ASKED[method] | {"flip_any_source": True})


def test_a_suite_knows_before_it_begins_that_a_cell_cannot_be_run(digits, tmp_path):
    work = tasks_of(SetCell("digits", "fyi-dm", 1, 0, "cpu", ("quick-v1",)), BenchConfig("mine", tmp_path), digits)
    assert work.cannot is not None and "may not keep its label" in work.cannot


def test_always_flip_without_dsa_is_refused():
    with pytest.raises(UsageError, match=r'always_flip is a variant of DSA: it needs augment = "dsa"'):
        synthesize(SOURCE, "dc", 1, **COMMON, always_flip=True)
