"""The harness of ``make bench-speed``: its reference computes what the package does, and its records are complete."""

import sys
from pathlib import Path

import pytest
import torch

from distill_bench.augmentations import dsa
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
    import cases
    import reference
    import report
    import run

    yield {"cases": cases, "reference": reference, "report": report, "run": run}
    for name in ("cases", "reference", "report", "run"):
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
