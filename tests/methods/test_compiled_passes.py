"""Compiled passes of networks and teachers: equal but for the last bits, where that pays, resumed as begun."""

import contextlib

import jaxtyping
import pytest
import torch
from pretraining import StopsAfter

from distill_bench import Dataset, Split, synthesize
from distill_bench.distilled.budget import Budget
from distill_bench.errors import Interrupted
from distill_bench.methods import load_method, matching
from distill_bench.methods.decoupled import recover
from distill_bench.methods.matching import PAYS_FLOPS, Passes
from distill_bench.methods.mean_matching.distribution_matching import embedding
from distill_bench.methods.synthesis import new_run
from distill_bench.networks import build_network
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.training import compilation

SMALL = {"network": "ConvNetD2W8", "iterations": 3, "real_batch": 12}


def shaped(name, shape=(3, 32, 32), images=3):
    labels = torch.arange(10).repeat_interleave(images)
    pixels = torch.randint(0, 256, (len(labels), *shape), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Dataset(name, tuple(map(str, range(10))), lambda: Split(pixels, labels), None, True)


def decided(monkeypatch, source, method, ipc, preset):
    """What `auto` decides for a recipe; the real batch counts as if every class had images enough."""
    asked = []
    decide = lambda choice, device, flops, least: asked.append(flops >= least) or False  # noqa: E731
    monkeypatch.setattr(compilation, "decide", decide)
    chosen = load_method(method)
    config = chosen.config(source.name, ipc, preset)
    run = new_run(source, chosen, config, Budget(1), 0)
    Passes(run, embedding, 10 * config.real_batch * (3 * config.outer_loop if hasattr(config, "outer_loop") else 1))
    return asked == [True]


@pytest.mark.parametrize("method", ["dm", "dsa", "dc"])
def test_papers_recipes_are_compiled_and_the_scaled_down_ones_are_not(monkeypatch, method):
    """So that what is committed stays the same to the bit."""
    assert decided(monkeypatch, shaped("cifar10"), method, 1, "paper")
    for name, shape in {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}.items():
        for ipc in (1, 10):
            assert not decided(monkeypatch, shaped(name, shape), method, ipc, "cpu"), (name, ipc)
    assert not decided(monkeypatch, shaped("digits", (1, 8, 8)), method, 10, "cpu")


@pytest.mark.parametrize(("method", "compiled"), [("dm", True), ("datadam-released", True), ("dsa", False)])
def test_batch_norm_is_compiled_where_its_statistics_are_not_kept(monkeypatch, method, compiled):
    source, chosen, asked = shaped("cifar10"), load_method(method), []
    monkeypatch.setattr(compilation, "decide", lambda choice, device, flops, least: asked.append(flops) or False)
    run = new_run(source, chosen, chosen.config("cifar10", 1, network="ConvNetD3BN"), Budget(1), 0)
    with contextlib.suppress(Interrupted):
        run.monitor = StopsAfter(0)
        chosen.function(run)
    assert (asked[0] > 0) == compiled


def test_a_papers_recovery_is_compiled_and_the_scaled_down_ones_are_not():
    for preset, classes in (("paper", 10), ("cpu", 10)):
        config = load_method("sre2l").config("cifar10", 10, preset)
        teacher = build_network(config.teacher.network, (3, 32, 32), classes, torch.Generator())
        work = 3 * 10 * classes * config.iterations * compilation.flops_of(teacher, (3, 32, 32))
        assert (work >= PAYS_FLOPS) == (preset == "paper"), (preset, work)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        ("dm", SMALL),
        ("dsa", SMALL | {"outer_loop": 2}),
        ("datadam", SMALL),
        ("datadam-released", SMALL | {"network": "ConvNetD2W8BN"}),
        ("sre2l", {"iterations": 3, "teacher": {"network": "ConvNetD2W8BN", "epochs": 60}}),
    ],
)
def test_compiled_sets_are_plain_but_for_the_last_bits_and_resume(monkeypatch, tmp_path, request, method, fields):
    source = shaped("mine", images=12)

    def made(**options):
        return synthesize(source, method, 2, **fields, **options)

    plain = made()
    for module in (matching, recover):
        monkeypatch.setattr(module, "PAYS_FLOPS", 1.0)
    jaxtyping.config.update("jaxtyping_disable", True)  # what is compiled cannot be checked: torch would trace it
    request.addfinalizer(lambda: jaxtyping.config.update("jaxtyping_disable", False))
    checkpoint = Checkpoint(tmp_path / "c.safetensors", 0.0)
    compiled = made(checkpoint=checkpoint)
    assert checkpoint.compiled and not torch.equal(compiled.images, plain.images)
    torch.testing.assert_close(compiled.images, plain.images, rtol=1e-4, atol=1e-4)
    begun = Checkpoint(tmp_path / "begun.safetensors", 0.0)
    with pytest.raises(Interrupted):
        made(checkpoint=begun, monitor=StopsAfter(1))
    if method != "sre2l":  # whose batches decide one by one, from what is the same for all
        monkeypatch.setattr(matching, "PAYS_FLOPS", PAYS_FLOPS)  # which a run that was begun does not ask again
    assert made(checkpoint=begun).to_bytes() == compiled.to_bytes()
