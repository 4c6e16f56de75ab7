"""Optimisers against their formulas, written out; and the average against its sum."""

import copy

import pytest
import torch
from torch import nn

from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.optimizers import Muon, build_optimizer
from distill_bench.training.train import Plan, TrainState, table_batches, train

PLAN = Plan(epochs=4, batch_size=5, learning_rate=0.02, momentum=0.9, weight_decay=0.1, optimizer="muon")
IMAGES, LABELS = torch.randn(12, 1, 8, 8, generator=generator("images")), torch.arange(12) % 3


def network() -> nn.Module:
    return build_network("ConvNetD1W4", (1, 8, 8), 3, generator("weights"))


def trained(plan):
    net = network()
    train(net, table_batches(lambda rows: IMAGES[rows], LABELS), 12, plan, generator("order"))
    return net


def orthogonalised(matrix):
    """The matrix with singular values of about 1: five steps of the quintic iteration, in bfloat16 as torch has it."""
    wide = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T).bfloat16()
    wide = wide / wide.norm()
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.775 * gram + 2.0315 * gram @ gram) @ wide
    return (wide if matrix.shape[0] <= matrix.shape[1] else wide.T).float()


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_is_its_formula_on_weights_and_adamw_on_the_rest(nesterov):
    net = network()
    plan = Plan(1, 1, learning_rate=0.02, momentum=0.9, weight_decay=0.1, optimizer="muon", nesterov=nesterov)
    optimizer, steps = Muon(net, plan), 3
    adamw = copy.deepcopy(net)
    other = torch.optim.AdamW([p for p in adamw.parameters() if p.ndim == 1], lr=0.02, weight_decay=0.0)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    moving = {name: torch.zeros_like(p).flatten(1) for name, p in before.items() if p.ndim > 1}
    for _ in range(steps):
        for (name, p), twin in zip(net.named_parameters(), adamw.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator("gradient", name))
            twin.grad = p.grad.clone()
            if p.ndim > 1:
                moving[name] = 0.9 * moving[name] + 0.1 * p.grad.flatten(1)
                used = 0.1 * p.grad.flatten(1) + 0.9 * moving[name] if nesterov else moving[name]
                factor = 0.2 * max(used.shape) ** 0.5
                before[name] *= 1 - 0.02 * 0.1
                before[name] -= 0.02 * factor * orthogonalised(used).view_as(p)
        optimizer.step()
        other.step()
        optimizer.zero_grad()
        assert all(p.grad is None for p in net.parameters())
    for (name, p), twin in zip(net.named_parameters(), adamw.parameters(), strict=True):
        expected = before[name] if p.ndim > 1 else twin
        torch.testing.assert_close(p, expected, rtol=2e-2, atol=2e-3)
        assert (p.detach() - network().state_dict()[name]).abs().max() > 1e-2


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_every_optimiser_follows_the_plans_rate_and_goes_on_from_its_state(name):
    plan = Plan(epochs=4, batch_size=5, learning_rate=0.02, momentum=0.9, optimizer=name, decay_after=2, average=0.5)
    assert {group["lr"] for group in build_optimizer(network(), plan).param_groups} == {0.02}
    whole = trained(plan).state_dict()
    kept, net, state = [], network(), TrainState()

    def keep():
        if state.epoch == 2:
            kept.append((copy.deepcopy(net.state_dict()), copy.deepcopy(vars(state))))

    batches = table_batches(lambda rows: IMAGES[rows], LABELS)
    train(net, batches, 12, plan, generator("order"), keep, state)
    (values, saved), again = *kept, network()
    again.load_state_dict(values)
    train(again, batches, 12, plan, generator("another"), state=TrainState(**saved))
    for key, value in again.state_dict().items():
        assert torch.equal(value, whole[key]) and torch.equal(net.state_dict()[key], whole[key]), key


def test_the_average_is_the_weighted_sum_of_all_steps_and_does_not_change_them():
    decay, plain = 0.7, Plan(epochs=3, batch_size=12, learning_rate=0.1, momentum=0.9)
    steps, net = [dict(network().named_parameters())], network()
    batches = table_batches(lambda rows: IMAGES[rows], LABELS)
    train(
        net, batches, 12, plain, generator("order"), lambda: steps.append(copy.deepcopy(dict(net.named_parameters())))
    )
    averaged = trained(Plan(epochs=3, batch_size=12, learning_rate=0.1, momentum=0.9, average=decay))
    weights = [decay**3, *((1 - decay) * decay ** (3 - step) for step in (1, 2, 3))]
    for name, value in averaged.named_parameters():
        expected = sum(weight * step[name].detach() for weight, step in zip(weights, steps, strict=True))
        torch.testing.assert_close(value, expected)
    assert not torch.equal(averaged.classifier.weight, net.classifier.weight)
