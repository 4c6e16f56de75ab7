"""Backpropagation through training: whole outer steps against autograd through the same training, and its parts."""

import pytest
import torch
from torch import nn

from distill_bench import UsageError, synthesize
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.methods import Checkpoint, Run, load_method
from distill_bench.methods.matching import random_network
from distill_bench.methods.unrolled import unrolled as UN
from distill_bench.runtime.progress import SILENT


def run_of(source, ipc=2, seed=0, **fields):
    resolved = load_method("rat-bptt").config(source.name, ipc, "test", **fields)
    place = torch.device("cpu")
    training = TrainingData(source, pixel_space_of(source, "normalized"), place)
    return Run("rat-bptt", training, Budget(ipc), resolved, seed, place, SILENT, Checkpoint())


def move(config, theta, state, gradient, rate, number):
    """A step of torch's SGD or Adam, written out."""
    gradient = [g + config.inner_decay * p for g, p in zip(gradient, theta, strict=True)]
    if config.optimizer == "sgd":
        state = (
            gradient if state is None else [config.inner_momentum * b + g for b, g in zip(state, gradient, strict=True)]
        )
        return [p - rate * b for p, b in zip(theta, state, strict=True)], state
    means, squares = ([0.0] * len(theta), [0.0] * len(theta)) if state is None else state
    means = [0.9 * m + 0.1 * g for m, g in zip(means, gradient, strict=True)]
    squares = [0.999 * v + 0.001 * g * g for v, g in zip(squares, gradient, strict=True)]
    ends = [
        p - rate * m / (1 - 0.9**number) / ((v / (1 - 0.999**number) + 1e-30).sqrt() + 1e-8)
        for p, m, v in zip(theta, means, squares, strict=True)
    ]
    return ends, (means, squares)


def by_autograd(run, objective, step):
    """The loss of an outer step and its gradients for images and the logarithm of the rate."""
    config = run.config
    done = UN._before_window(config, run.generator("window", step))
    draws = run.generator("student", step)
    batches = [objective._batch(draws) for _ in range(done + config.window)]
    network = random_network(run, step)
    images = objective.learnables["images"].clone().requires_grad_()
    log_rate = torch.tensor(config.inner_lr).log().requires_grad_()
    theta, state, total = [p.detach().requires_grad_() for p in network.parameters()], None, 0.0
    names = [name for name, _ in network.named_parameters()]

    def loss_of(values, x, y):
        return nn.functional.cross_entropy(
            torch.func.functional_call(network, dict(zip(names, values, strict=True)), x), y
        )

    real = run.generator("real", step)
    ends = [config.window * (k + 1) // config.losses for k in range(config.losses)]
    held = []
    for _ in ends:
        indices = torch.randperm(len(run.training), generator=real)[: config.real_batch]
        operations = dsa.usual_operations(run.training.flip_invariant)
        drawn = dsa.sample(operations, len(indices), run.training.shape, real)
        x = run.training.images(indices)
        held.append((dsa.apply(drawn, x) if config.augment == "dsa" else x, run.training.labels[indices]))
    for number, batch in enumerate(batches, 1):
        inside = number > done
        x, y = batch(images if inside else images.detach(), objective._labels)
        gradient = torch.autograd.grad(loss_of(theta, x, y), theta, create_graph=inside)
        theta, state = move(
            config, theta, state, gradient, log_rate.exp() if inside else log_rate.exp().detach(), number
        )
        if not inside:
            theta = [p.detach().requires_grad_() for p in theta]
        if number - done in ends:
            total = total + loss_of(theta, *held[ends.index(number - done)]) / len(ends)
    return total.detach(), torch.autograd.grad(total, [images, log_rate])


@pytest.mark.parametrize(
    "fields",
    [
        {"augment": "dsa"},
        {"augment": "dsa", "window_from": "end", "losses": 1},
        {"optimizer": "sgd", "inner_lr": 0.1, "inner_momentum": 0.9, "inner_decay": 5e-4, "images_per_class": 1},
        {"window": 5, "losses": 3, "optimizer": "sgd", "inner_lr": 0.1},
    ],
    ids=["Adam", "Adam, end", "momentum", "whole training"],
)
def test_an_outer_step_is_autograd_through_the_training(digits, fields):
    run = run_of(digits, clip=0.0, **fields)
    objective = UN.Unrolled(run)
    for step in (0, 1):
        loss, gradients = objective.loss_and_grads(step)
        expected, (of_images, of_rate) = by_autograd(run, objective, step)
        torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
        assert float((gradients["images"] - of_images).norm() / of_images.norm()) < 1e-3
        assert float(gradients["log_rate"]) == pytest.approx(float(of_rate), rel=1e-2, abs=1e-5)


def test_windows_are_anywhere_or_at_the_end(digits):
    run = run_of(digits, total=9, window=3)
    starts = [UN._before_window(run.config, run.generator("window", step)) for step in range(200)]
    assert set(starts) == set(range(7))
    at_end = run_of(digits, total=9, window=3, window_from="end").config
    assert UN._before_window(at_end, run.generator("window", 0)) == 6


def test_the_clip_remembers_the_uncut_lengths():
    """After lengths 1, 1 and 10 the average is 1.9, and the last is cut to 3.8."""
    average, way = None, torch.ones(1, 1, 2, 2) / 2
    for length, expected in ((1.0, 1.0), (1.0, 1.0), (10.0, 1.9)):
        cut, average = UN.clip(length * way, average, 2.0, 0.9)
        assert float(average) == pytest.approx(expected)
    assert float(cut.norm()) == pytest.approx(3.8)
    free, _ = UN.clip(10 * way, average, 0.0, 0.9)
    assert float(free.norm()) == pytest.approx(10)


def test_noise_starts_on_the_sphere(digits):
    images = UN.Unrolled(run_of(digits, init="noise-sphere")).learnables["images"]
    torch.testing.assert_close(images.flatten(1).norm(dim=1), torch.ones(20))


def test_a_learned_rate_of_sgd_is_the_sets_and_one_of_adam_is_not(digits):
    of_adam = synthesize(digits, "rat-bptt", 1, preset="test", network="ConvNetD1W4")
    assert of_adam.learning_rate is None
    of_sgd = synthesize(digits, "rat-bptt", 1, preset="test", optimizer="sgd", rate_lr=0.5)
    assert of_sgd.learning_rate is not None and abs(of_sgd.learning_rate - 0.01) > 1e-3
    fixed = synthesize(digits, "rat-bptt", 1, preset="test", optimizer="sgd", rate_lr=0.0)
    assert fixed.learning_rate is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 6}, "longer than the training"),
        ({"losses": 4}, "no more ends"),
        ({"inner_momentum": 0.9}, "inner_momentum is SGD's"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        load_method("rat-bptt").config("digits", 1, "test", **fields)
