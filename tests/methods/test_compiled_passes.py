"""Compiled passes of random networks: the same sets but for the last bits, where that pays, resumed as begun."""

import jaxtyping
import pytest
import torch
from pretraining import StopsAfter

from distill_bench import Dataset, Split, synthesize
from distill_bench.errors import Interrupted
from distill_bench.methods import load_method, matching
from distill_bench.methods.matching import PAYS_FLOPS, Passes
from distill_bench.methods.mean_matching.distribution_matching import embedding
from distill_bench.methods.synthesis import new_run
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
    run = new_run(source, chosen, config, 1, 0)
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


def test_a_network_with_batch_norm_is_not():
    source, chosen = shaped("cifar10"), load_method("dm")
    run = new_run(source, chosen, chosen.config("cifar10", 1, network="ConvNetD3BN"), 1, 0)
    assert Passes(run, embedding, 10**9)._flops(10**9) == 0.0 and run.checkpoint.compiled is False


def test_what_hooks_into_the_network_is_not(monkeypatch):
    monkeypatch.setattr(matching, "PAYS_FLOPS", 1.0)
    checkpoint = Checkpoint()
    synthesize(shaped("mine", images=12), "datadam", 1, **SMALL, checkpoint=checkpoint)
    assert checkpoint.compiled is False


@pytest.mark.slow
@pytest.mark.parametrize(("method", "fields"), [("dm", {}), ("dsa", {"outer_loop": 2})])
def test_compiled_sets_are_plain_but_for_the_last_bits_and_resume(monkeypatch, tmp_path, request, method, fields):
    source = shaped("mine", images=12)

    def made(**options):
        return synthesize(source, method, 2, **SMALL, **fields, **options)

    plain = made()
    monkeypatch.setattr(matching, "PAYS_FLOPS", 1.0)
    jaxtyping.config.update("jaxtyping_disable", True)  # what is compiled cannot be checked: torch would trace it
    request.addfinalizer(lambda: jaxtyping.config.update("jaxtyping_disable", False))
    checkpoint = Checkpoint(tmp_path / "c.safetensors", 0.0)
    compiled = made(checkpoint=checkpoint)
    assert checkpoint.compiled and not torch.equal(compiled.images, plain.images)
    torch.testing.assert_close(compiled.images, plain.images, rtol=1e-4, atol=1e-4)
    begun = Checkpoint(tmp_path / "begun.safetensors", 0.0)
    with pytest.raises(Interrupted):
        made(checkpoint=begun, monitor=StopsAfter(1))
    monkeypatch.setattr(matching, "PAYS_FLOPS", PAYS_FLOPS)  # which a run that was begun does not ask again
    assert made(checkpoint=begun).to_bytes() == compiled.to_bytes()
