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
@pytest.mark.parametrize("decay_all", [False, True])
def test_muon_is_its_formula_on_weights_and_adamw_on_the_rest(nesterov, decay_all):
    net, twin, rate, decay = network(), network(), 0.1, 2.0
    how = {"learning_rate": rate, "momentum": 0.9, "weight_decay": decay, "nesterov": nesterov, "decay_all": decay_all}
    optimizer = Muon(net, Plan(1, 1, optimizer="muon", **how))
    vectors = [p for p in twin.parameters() if p.ndim == 1]
    other = torch.optim.AdamW(vectors, lr=rate, weight_decay=decay * decay_all, fused=True)
    wanted = {name: p.detach().clone() for name, p in net.named_parameters() if p.ndim > 1}
    moving = {name: torch.zeros_like(p).flatten(1) for name, p in wanted.items()}
    for step in range(3):
        for (name, p), like in zip(net.named_parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn(p.shape, generator=generator("gradient", name, step))
            like.grad = p.grad.clone()
            if p.ndim > 1:
                gradient = p.grad.flatten(1)
                moving[name] = 0.9 * moving[name] + 0.1 * gradient
                used = 0.1 * gradient + 0.9 * moving[name] if nesterov else moving[name]
                update = orthogonalised(used) * 0.2 * max(used.shape) ** 0.5
                wanted[name] = (1 - rate * decay) * wanted[name] - rate * update.view_as(p)
        optimizer.step()
        other.step()
        optimizer.zero_grad()
        assert all(p.grad is None for p in net.parameters())
    for (name, p), like in zip(net.named_parameters(), twin.parameters(), strict=True):
        if p.ndim == 1:
            assert torch.equal(p, like), name
        else:  # to bfloat16, in which the iteration is
            assert (p - wanted[name]).norm() < 0.05 * wanted[name].norm(), name


@pytest.mark.parametrize("layers", [[nn.Linear(3, 2, bias=False)], [nn.BatchNorm1d(3)]], ids=["matrix", "vectors"])
def test_muon_takes_networks_of_matrices_or_vectors_alone(layers):
    net = nn.Sequential(*layers)
    before = [p.detach().clone() for p in net.parameters()]
    optimizer = Muon(net, PLAN)
    for p in net.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert not any(torch.equal(p, was) for p, was in zip(net.parameters(), before, strict=True))
    optimizer.load_state_dict(optimizer.state_dict())


def test_a_weight_that_is_no_matrix_of_its_rows_is_refused():
    layer = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    with pytest.raises(RuntimeError, match="view"):
        Muon(layer, PLAN)


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


def test_running_statistics_are_averaged_with_the_weights():
    rows = table_batches(lambda at: IMAGES[at], LABELS)
    found = []
    for average in (0.0, 0.9):
        net = build_network("ConvNetD1W4BN", (1, 8, 8), 3, generator("weights"))
        train(net, rows, 12, Plan(epochs=5, batch_size=12, learning_rate=0.1, average=average), generator("order"))
        found.append({name: each for name, each in net.state_dict().items() if "running" in name})
    assert found[0] and not any(torch.equal(found[0][name], found[1][name]) for name in found[0])
