"""The harness of ``make bench-speed``: its reference computes what the package does, and its records are complete."""

import importlib
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from distill_bench.augmentations import dsa
from distill_bench.methods import load_method
from distill_bench.methods.decoupled import recover
from distill_bench.methods.gradient_matching.gradient_matching import gradient_distance, parameter_gradients
from distill_bench.methods.mean_matching import attention_matching, distribution_matching
from distill_bench.methods.mean_matching.attention_matching import attention_and_embedding, watched
from distill_bench.methods.mean_matching.distribution_matching import embedding
from distill_bench.methods.mean_matching.mean_matching import distance_and_slope
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator
from distill_bench.training.compilation import flops_of
from distill_bench.training.train import Plan, accuracy, table_batches, train

FOLDER = Path(__file__).parent.parent / "benchmarks/speed"
SHAPE = (3, 32, 32)


@pytest.fixture
def harness(monkeypatch):
    """The harness's modules, importable."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("cases", "matching", "reference", "report", "run")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)


def test_the_reference_trains_and_tests_as_the_package_does(harness, monkeypatch):
    reference = harness["reference"]
    monkeypatch.setattr(reference, "augment", lambda images: images)
    images, labels = torch.randn(12, *SHAPE, generator=generator("images")), torch.arange(12) % 10
    with torch.random.fork_rng():
        training = reference.Training(images, labels, 10)
        network = build_network("ConvNet", SHAPE, 10, generator("weights"))
        own = list(training._network.parameters())
        with torch.no_grad():
            for theirs, ours in zip(own, network.parameters(), strict=True):
                theirs.copy_(ours)
        for _ in range(4):
            training.epoch()
    plan = Plan(4, batch_size=256, learning_rate=0.01, momentum=0.9, weight_decay=5e-4)
    train(network, table_batches(images.__getitem__, labels), 12, plan, generator("order"))
    for theirs, ours in zip(own, network.parameters(), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)  # the orders of the batch differ
    assert training.test(images, labels) == accuracy(network, images.__getitem__, labels)


@pytest.mark.parametrize("operation", dsa.OPERATIONS)
def test_the_references_augmentation_is_dsa(harness, monkeypatch, operation):
    """It changes images by about as much as the package's does, operation by operation."""
    reference = harness["reference"]
    monkeypatch.setattr(reference, "OPERATIONS", (operation,))
    images = torch.randn(2000, 3, 8, 8, generator=generator("images")).cumsum(3).cumsum(2) / 8
    ours = dsa.apply(dsa.sample((operation,), len(images), (3, 8, 8), generator("draws")), images)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = reference.augment(images)
    for amount in (
        lambda t: (t - images).square().mean(),
        lambda t: t.square().mean(),
        lambda t: (t == 0).float().mean(),
    ):
        assert float(amount(theirs)) == pytest.approx(float(amount(ours)), rel=0.12, abs=0.01)


@pytest.fixture
def matched(harness, monkeypatch):
    """References of matching methods without augmentation, on all real images, with one network of the package."""
    matching = harness["matching"]
    monkeypatch.setattr(matching, "augment", lambda images: images)
    real = torch.randn(12, *SHAPE, generator=generator("real"))
    images = matching.RealImages(real, torch.arange(12) // 4, 3)

    def network(name):
        own = build_network(name, SHAPE, 3, generator("weights"))
        plain = harness["reference"].convnet(3, 32, 3)
        plain = matching.with_batch_norm(plain) if "BN" in name else plain
        with torch.no_grad():
            for theirs, ours in zip(plain.parameters(), own.parameters(), strict=True):
                theirs.copy_(ours)
        monkeypatch.setattr(matching, "convnet", lambda *_: plain)
        monkeypatch.setattr(matching, "with_batch_norm", lambda network: network)
        return own

    return matching, images, real, network


def check_update(work, gradient, rate):
    before = work.images.detach().clone()
    work.update()
    torch.testing.assert_close(work.images.detach() - before, -rate * gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["DistributionMatching", "AttentionMatching"])
def test_the_references_of_mean_matching_make_the_packages_update(matched, kind):
    matching, images, real, network = matched
    work = getattr(matching, kind)(images, 2, 4)
    if kind == "DistributionMatching":
        signals, distance = partial(embedding, network("ConvNetD3")), distribution_matching.distance
    else:
        signals = partial(attention_and_embedding, watched(network("ConvNetD3BN"), 4.0))
        fields = load_method("datadam").config("random", 2, "paper", 32)
        distance = partial(attention_matching.distance, fields)
    target = [signal.detach().unflatten(0, (3, -1)).mean(1) for signal in signals(real)]
    _, gradient = distance_and_slope(signals, distance, work.images, [2, 2, 2], target, 0)
    check_update(work, gradient, 1.0)


def test_the_reference_of_gradient_matching_makes_the_packages_update(matched):
    matching, images, real, network = matched
    work, own = matching.GradientMatching(images, True, 4), network("ConvNetD3")
    leaf, parameters = work.images.detach().clone().requires_grad_(), list(own.parameters())
    loss = sum(
        gradient_distance(
            parameter_gradients(own, parameters, leaf[[label]], label, keep_graph=True),
            parameter_gradients(own, parameters, real[label * 4 : label * 4 + 4], label, keep_graph=False),
        )
        for label in range(3)
    )
    check_update(work, torch.autograd.grad(loss, leaf)[0], 0.1)


def test_the_reference_of_recovery_has_the_packages_loss_and_network(harness):
    matching = harness["matching"]
    with torch.random.fork_rng():
        work = matching.Recovery(32, 4, 10)
    assert flops_of(work.network, SHAPE) == flops_of(build_network("ResNet18BN", SHAPE, 10, generator("w")), SHAPE)
    work._distances.clear()
    observed = recover.watched(work.network)
    observed.network(work.images)
    work.network(work.images)
    ours = recover.weighted_sum(observed.notes, 10.0)
    first, *rest = work._distances
    torch.testing.assert_close(10 * first + sum(rest), ours, rtol=1e-4, atol=1e-4)


def test_a_monitors_clock_stops_the_work_and_has_the_median(harness):
    ends = harness["cases"].Ends(5)
    assert ends.of(lambda: None).stop_requested and len(ends.times) == 6
    ends.times = [0.0, 9.0, 18.0, 19.0, 22.0, 24.0]
    assert ends.seconds(2) == {"seconds": 2.0}


def test_the_operations_of_the_limit_are_the_networks(harness):
    network = build_network("ConvNet", SHAPE, 10, generator("weights"))
    assert sum(harness["cases"].convnet_flops()) == flops_of(network, SHAPE)


def test_a_case_timed_alone_joins_the_others_on_the_page(harness, tmp_path):
    run = harness["run"]
    network, gradient = (
        {"seconds": 2.0, "mb": 100.0, "epoch": 0.1, "test": 0.5, "start": 3.0},
        {"seconds": 4.0, "mb": 9.0},
    )
    rate = {"sgemm": 1e9, "convolution": 2e9}

    def time(name, entry, machine):
        found = {name: {each: [entry, entry] for each in run.RUNS} | {"cold": [entry]}}
        records = [run.record(name, found[name], rate, machine)]
        records, found = run.joined(tmp_path, machine, records, found)
        run.write(tmp_path, records, {"machine": machine, "rate": rate, "rounds": found})
        return [each["case"] for each in records], (tmp_path / "speed.md").read_text()

    time("trajectory N=10", gradient, "here")
    cases, page = time("evaluator IPC 1", network, "here")
    assert cases == ["evaluator IPC 1", "trajectory N=10"] and "| trajectory N=10 | 2 | 4.0 |" in page
    assert time("trajectory N=10", gradient, "here")[0] == cases
    assert time("trajectory N=30", gradient, "elsewhere")[0] == ["trajectory N=30"]


def test_a_record_has_what_was_promised(harness):
    entry = {"epoch": 0.1, "test": 5.0, "mb": 1000.0}
    name = "evaluator IPC 10"
    found = {
        "ours": [entry | {"seconds": s, "start": 3.0} for s in (50.0, 55.0, 60.0)],
        "reference": [entry | {"seconds": 110.0, "mb": 900.0}] * 3,
        "reference_tuned": [entry | {"seconds": 100.0}] * 3,
        "cold": [entry | {"seconds": 50.0, "start": 30.0}],
    }
    rate = {"sgemm": 1e11, "convolution": 2e11}
    record = harness["run"].record(name, found, rate, "a machine")
    limit = harness["cases"].CASES[name].flops() / 2e11
    assert record == {
        "case": name, "ours_seconds": 55.0, "reference_seconds": 110.0, "ratio": 0.5, "reference_tuned_seconds": 100.0,
        "ratio_tuned": 0.55, "ours_mb": 1000, "reference_mb": 900, "limit_seconds": round(limit, 2),
        "machine": "a machine",
    }  # fmt: skip
    everything = {"machine": "a machine", "rate": rate, "rounds": {name: found}}
    page = harness["report"].markdown([record], everything, {name: "what it is"})
    assert "**0.55**" in page and "30.0" in page
    assert harness["report"].picture([record])[:4] == b"\x89PNG"


def test_growth_is_named_by_its_power(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER.parent / "scaling"))
    cost = importlib.import_module("cost")
    assert cost.power({"1": 3.0, "10": 30.0}) == pytest.approx(1) and cost.power({"8": 1.0, "64": 64.0}) == 2
    rows = {
        "flat": {"1": 5.0, "50": 5.2},
        "linear": {"1": 1.0, "2": 9.0, "10": 11.0},
        "power 2.00": {"8": 2.0, "16": 8.0},
    }
    assert {name: cost.growth(points) for name, points in rows.items()} == {name: name for name in rows}
