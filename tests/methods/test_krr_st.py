"""KRR-ST: kernel ridge regression against its primal form, meta-gradients against differences, the pool's counters."""

import dataclasses
import math

import numpy
import pytest
import torch
from stopping import StopsAfter
from torch.nn import functional as F

from distill_bench import synthesize
from distill_bench.datasets import Split
from distill_bench.distilled.card import TARGETS
from distill_bench.errors import Interrupted
from distill_bench.methods import load_method
from distill_bench.methods.self_supervised import krr_st as module
from distill_bench.methods.self_supervised.krr_st import rate_factor, ridge_prediction, with_constant
from distill_bench.methods.self_supervised.pool import Pool
from distill_bench.networks import build_network
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.seeds import generator


def drawn(*shape, index=0):
    return torch.randn(*shape, generator=generator("krr", index), dtype=torch.float64)


@pytest.mark.parametrize(("count", "width"), [(6, 9), (9, 6)])
def test_the_kernel_form_is_ridge_regression_in_the_features(count, width):
    """F_r (F_sᵀF_s + λI)⁻¹ F_sᵀ Y, by numpy."""
    own, targets, real = drawn(count, width), drawn(count, 4, index=1), drawn(7, width, index=2)
    penalty = 0.03 * float((own**2).sum())
    f = own.numpy()
    weights = numpy.linalg.solve(f.T @ f + penalty * numpy.eye(width), f.T @ targets.numpy())
    found = ridge_prediction(own, targets, real, 0.03)
    numpy.testing.assert_allclose(found.numpy(), real.numpy() @ weights, atol=1e-10)


def test_of_its_own_images_it_predicts_the_targets_without_a_penalty_and_nothing_with_a_large_one():
    own, targets = drawn(5, 8), drawn(5, 3, index=1)
    torch.testing.assert_close(ridge_prediction(own, targets, own, 1e-13), targets, atol=1e-8, rtol=0)
    assert ridge_prediction(own, targets, own, 1e12).abs().max() < 1e-10


def test_the_regression_has_an_offset_and_works_in_double_precision():
    features = with_constant(torch.ones(3, 2))
    assert features.dtype == torch.float64 and features.tolist() == [[1, 1, 1]] * 3


def outer_loss(images, targets, real, wanted, weights):
    """Of a linear network."""
    own, others = (with_constant(each.flatten(1) @ weights) for each in (images, real))
    return F.mse_loss(ridge_prediction(own, targets, others, 0.01), wanted)


def test_the_gradient_of_targets_is_that_of_the_closed_form_and_that_of_images_of_differences():
    images, targets, real, wanted = (
        drawn(*shape, index=i) for i, shape in enumerate([(4, 1, 2, 3), (4, 3), (6, 1, 2, 3), (6, 3)])
    )
    weights = drawn(6, 5, index=9)
    images.requires_grad_(), targets.requires_grad_()
    of_images, of_targets = torch.autograd.grad(outer_loss(images, targets, real, wanted, weights), [images, targets])
    # ∂L/∂Y_s = 2/(bd) Hᵀ R
    with torch.no_grad():
        own, others = (with_constant(each.flatten(1) @ weights) for each in (images, real))
        kernel = own @ own.mT
        hat = others @ own.mT @ torch.linalg.inv(kernel + 0.01 * kernel.trace() * torch.eye(4, dtype=kernel.dtype))
        torch.testing.assert_close(of_targets, 2 / wanted.numel() * hat.mT @ (hat @ targets - wanted))
        # the penalty is held: it does not follow the images
        penalty, step = 0.01 * kernel.trace(), 1e-6
        for place in [(0, 0, 0, 0), (1, 0, 1, 2), (3, 0, 0, 1)]:
            ends = []
            for sign in (1, -1):
                moved = images.clone()
                moved[place] += sign * step
                f = with_constant(moved.flatten(1) @ weights)
                inverse = torch.linalg.inv(f @ f.mT + penalty * torch.eye(4, dtype=f.dtype))
                ends.append(F.mse_loss(others @ f.mT @ inverse @ targets, wanted))
            assert of_images[place].item() == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-5)


def test_rates_fall_as_linear_lr_has_them():
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1e-3, total_iters=7)
    for step in range(9):
        assert rate_factor(step, 7) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        optimizer.step()
        schedule.step()


def pool_of(size, life, reset):
    numbers = []

    def fresh(number):
        numbers.append(number)
        return build_network("ConvNetD1W4BN", (1, 8, 8), 3, generator("pool", number))

    return Pool(fresh, size, life, lambda network: torch.optim.SGD(network.parameters(), 0.1, 0.9), reset), numbers


SET = torch.randn(6, 1, 8, 8, generator=generator("set")), torch.randn(6, 3, generator=generator("targets"))


def test_a_slot_counts_anew_with_every_network_and_as_released_it_does_not():
    life = 3
    steps = {}
    for reset in (True, False):
        pool, numbers = pool_of(1, life, reset)
        steps[reset] = []
        for _ in range(3 * (life + 1)):
            pool.turn(0, *SET)
            steps[reset].append(pool.slots[0].steps)
        steps[reset].append(numbers)
    assert steps[True] == [1, 2, 3, 0] * 3 + [[0, 1, 2, 3]]
    assert steps[False] == [1, 2, 3] + [3] * 9 + [[*range(10)]]  # each turn another, never trained


def test_a_step_of_a_slot_is_sgd_on_the_mean_squared_error_in_training_mode():
    pool, _ = pool_of(2, 5, True)
    plain = build_network("ConvNetD1W4BN", (1, 8, 8), 3, generator("pool", 1)).train()
    sgd = torch.optim.SGD(plain.parameters(), 0.1, 0.9)
    for _ in range(2):
        pool.turn(1, *SET)
        sgd.zero_grad()
        (plain(SET[0]) - SET[1]).square().mean().backward()
        sgd.step()
    for one, other in zip(pool.slots[1].network.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_pool_goes_on_from_its_state():
    (whole, _), (begun, _) = pool_of(2, 3, True), pool_of(2, 3, True)
    for turn in range(8):
        whole.turn(turn % 2, *SET)
        begun.turn(turn % 2, *SET)
        resumed, _ = pool_of(2, 3, True)
        resumed.restore(begun.state())
        begun = resumed
        for one, other in zip(whole.slots, begun.slots, strict=True):
            assert all(map(torch.equal, one.network.state_dict().values(), other.network.state_dict().values()))


def test_both_begin_with_the_same_images_and_their_features_and_move_no_farther_than_their_rates(digits):
    config = load_method("krr-st").config("digits", 2, "test")
    real, made = (synthesize(digits, name, 2, "test", seed=5) for name in ("random-targets", "krr-st"))
    assert real.card.label_kind == made.card.label_kind == "targets"
    assert torch.equal(real.labels, made.labels)
    steps = sum(rate_factor(step, config.iterations) for step in range(config.iterations))
    for one, other, rate in (
        (real.images, made.images, config.image_lr), (real.stored[TARGETS], made.stored[TARGETS], config.target_lr)
    ):  # fmt: skip
        moved = (one - other).abs().max().item()
        assert 0 < moved <= 1.05 * rate * steps


def test_as_released_it_begins_with_pixels_and_features_of_the_images_all_the_same(digits):
    still = {"iterations": 1, "image_lr": 1e-12, "target_lr": 1e-12}
    real = synthesize(digits, "random-targets", 1, "test")
    made = synthesize(digits, "krr-st", 1, "test", init_space="unit", **still)
    mean, std = real.card.pixel_space.mean[0], real.card.pixel_space.std[0]
    torch.testing.assert_close(made.images, real.images * std + mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(made.stored[TARGETS], real.stored[TARGETS])


def test_of_the_same_first_images_it_makes_the_same_whatever_their_labels(digits, monkeypatch):
    """The images of every class that it starts from are the one thing that it knows of labels."""
    monkeypatch.setattr(module, "random_indices", lambda run: torch.arange(run.total))
    images, labels, made = digits.train.images(torch.arange(200)), digits.train.labels[:200], []
    for order in (torch.arange(200), torch.randperm(200, generator=generator("labels"))):
        split = Split(images, labels[order])
        data = dataclasses.replace(digits, load_train=lambda split=split: split, _cache={})
        made.append(synthesize(data, "krr-st", 1, "test"))
    assert made[0].card.source.train_fingerprint != made[1].card.source.train_fingerprint
    assert torch.equal(made[0].images, made[1].images)
    assert torch.equal(made[0].stored[TARGETS], made[1].stored[TARGETS])


def test_the_outer_loss_falls(digits):
    losses: list[float] = []
    quick = {"iterations": 60, "image_lr": 0.1, "target_lr": 0.1, "real_batch": 256, "pool": 1, "augment": "none"}
    synthesize(digits, "krr-st", 1, "test", history=losses, **quick)
    first, last = (sum(part) / 10 for part in (losses[:10], losses[-10:]))
    assert last < 0.9 * first and all(map(math.isfinite, losses))


def test_the_pool_can_be_stopped_and_goes_on(digits, tmp_path):
    """Thousands of steps come before the first with the paper's values."""
    long = {"life": 40, "pool": 2, "iterations": 1}
    whole = synthesize(digits, "krr-st", 1, "test", **long).to_bytes()
    ends, kept = 0, Checkpoint(tmp_path / "unfinished.safetensors", every_seconds=1e9)
    while ends < 100:
        try:
            made = synthesize(digits, "krr-st", 1, "test", monitor=StopsAfter(7), checkpoint=kept, **long)
            break
        except Interrupted:
            ends += 1
    assert made.to_bytes() == whole and 3 < ends < 20
