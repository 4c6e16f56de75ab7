"""Smooth experts: ramp, penalty, and the training that has them."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.networks import Network
from distill_bench.pretrained.experts import ExpertRecipe, get_or_train_experts
from distill_bench.pretrained.smooth import SmoothSnapshots, gradient_penalty, ramp
from distill_bench.runtime.seeds import generator

QUICK = {"epochs": 3, "batch_size": 256, "learning_rate": 0.05, "augment": "none"}


@pytest.fixture(scope="module")
def training(digits):
    return TrainingData(digits, pixel_space_of(digits, "normalized"), torch.device("cpu"))


def trajectory(training, **fields):
    recipe = ExpertRecipe(**QUICK | fields)
    experts = get_or_train_experts(training, "ConvNetD1W4", recipe, 1)
    return torch.stack([experts.snapshot(0, epoch) for epoch in range(recipe.epochs + 1)])


def test_the_ramp_is_that_of_the_released_code():
    """0.5 + 0.05 e in epochs 0 to 9, and 1 from then on."""
    expected = [0.5 + 0.05 * epoch for epoch in range(10)] + [1.0] * 5
    assert [ramp(epoch, 10, 0.5) for epoch in range(15)] == pytest.approx(expected)


def test_the_penalty_of_a_linear_function_of_one_pixel_is_a_closed_form():
    """The gradient of the summed logits is the sum of the rows."""
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(5, 3)).double(), torch.randn(7, 5, 1, 1).double()
    expected = (network[1].weight.sum(dim=0).norm() - 1).square()
    for norm in ("pixel", "image"):
        penalty = gradient_penalty(network, images, norm)
        torch.testing.assert_close(penalty, expected, rtol=1e-12, atol=0)
    (found,) = torch.autograd.grad(penalty, network[1].weight)
    (wanted,) = torch.autograd.grad(expected, network[1].weight)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("norm", ["pixel", "image"])
def test_the_penalty_of_a_network_is_the_slow_loops(norm):
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(12, 4)).double()
    images = torch.randn(3, 2, 4, 4, generator=generator("images"), dtype=torch.float64)
    lengths = []
    for image in images:
        pixels = image[None].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(sum(network(pixels)[0, k] for k in range(4)), pixels)
        if norm == "image":
            lengths.append(gradient.square().sum().sqrt())
        else:
            lengths += [gradient[0, :, u, v].square().sum().sqrt() for u in range(4) for v in range(4)]
    expected = sum((length - 1) ** 2 for length in lengths) / len(lengths)
    torch.testing.assert_close(gradient_penalty(network, images, norm).detach(), expected, rtol=1e-12, atol=0)


def test_a_step_of_a_ramped_loss_is_a_plain_step_at_a_smaller_rate(training):
    """In the first epoch the loss counts half."""
    ramped = trajectory(training, epochs=1, ramp_epochs=2)
    slower = trajectory(training, epochs=1, learning_rate=0.025)
    torch.testing.assert_close(ramped, slower, rtol=1e-5, atol=1e-6)
    assert (ramped - trajectory(training, epochs=1)).abs().max() > 1e-3


def test_a_step_with_the_penalty_goes_along_the_gradient_of_the_sum(training):
    """One step of one batch, of a network and a loss written out."""
    network = Network(nn.Flatten(), nn.Linear(64, 10))
    smooth = SmoothSnapshots(training, 0, 0.5, 2.0, "image")
    batches = smooth.watched(network, lambda epoch, at, draws: (training.images(at), training.labels[at]))
    images, labels = batches(0, torch.arange(5), generator("draws"))
    returned = smooth.gradient(network, lambda: nn.functional.cross_entropy(network(images), labels))
    loss = nn.functional.cross_entropy(network(images), labels)
    whole = loss + 2 * (network.classifier.weight.sum(dim=0).norm() - 1).square()
    for parameter, expected in zip(
        network.parameters(), torch.autograd.grad(whole, list(network.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, expected)
    torch.testing.assert_close(returned, loss)


def test_the_rate_falls_once(training):
    falling = trajectory(training, decay_after=1, decay_factor=1e-6)
    assert torch.allclose(falling[1], falling[3], atol=1e-5) and not torch.allclose(falling[0], falling[1], atol=1e-2)
    torch.testing.assert_close(falling[1], trajectory(training)[1])


def test_what_is_not_said_leaves_recipes_and_what_nothing_uses_trains_no_others(training):
    old = {"epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "augment", "rho", "alpha"}
    assert set(ExpertRecipe().model_dump()) == old
    assert ExpertRecipe(penalty=2.0).model_dump().keys() - old == {"penalty"}
    plain = trajectory(training)
    for fields in ({"ramp_start": 0.1}, {"decay_factor": 0.5}, {"penalty_norm": "image"}):
        assert torch.equal(trajectory(training, **fields), plain)


@pytest.mark.parametrize("fields", [{"ramp_epochs": 1}, {"penalty": 1.0}])
def test_flat_and_smooth_experts_exclude_each_other(fields):
    with pytest.raises(ValidationError, match="rho makes flat experts"):
        ExpertRecipe(rho=0.01, **fields)
