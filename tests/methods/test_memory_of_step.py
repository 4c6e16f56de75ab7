"""Memory does not grow with the classes; what a step takes is said before work, and refused beyond the limit."""

import json
import re
import subprocess
import sys

import pytest
import torch

from distill_bench import Dataset, Split, synthesize
from distill_bench.errors import UsageError
from distill_bench.methods import limits, list_methods, load_method, memory_of_step
from distill_bench.methods.gradient_matching.gradient_matching import gradients_in_chunks, parameter_gradients
from distill_bench.networks import activation_values, build_network
from distill_bench.runtime.memory import VARIABLE, MemoryLimit
from distill_bench.runtime.seeds import generator
from distill_bench.training.memory import training_bytes
from distill_bench.training.train import Plan, train

GROWS = {"network": "ConvNetD3BN"}


def many_classes(classes, side=32, images=20):
    labels = torch.arange(classes).repeat_interleave(images)
    pixels = torch.zeros(len(labels), 3, side, side, dtype=torch.uint8)
    return Dataset("mine", tuple(map(str, range(classes))), lambda: Split(pixels, labels), None, True)


def bytes_of(method, source, ipc=1, **fields):
    return load_method(method).config(source.name, ipc, **fields).step_bytes(source, ipc)


def test_a_networks_values_are_those_of_its_layers_counted_by_hand():
    # 32 × 32, width 128: convolution, norm and ReLU of 128 × side², pooling to a quarter, three times; 10 logits
    layers = [128 * side**2 for side in (32, 16, 8) for _ in range(3)] + [128 * side**2 for side in (16, 8, 4)]
    assert activation_values("ConvNetD3", (3, 32, 32), 10) == (2 * 128 * 32**2, sum(layers) + 10)


@pytest.mark.parametrize("method", ["dm", "datadam", "fyi-dm", "dsa", "dc", "fyi-dsa"])
def test_a_step_takes_no_more_for_more_classes_but_their_pixels(method):
    few, many = (bytes_of(method, many_classes(classes, images=30), 20) for classes in (20, 60))
    assert few > 0
    assert many - few <= 40 * 20 * 2 * 4 * 4 * 3 * 32**2 + 1e6  # up to four copies of a synthetic image, mirrored


@pytest.mark.parametrize(("method", "share"), [("dm", 1.8), ("datadam", 2.7)])
def test_with_batch_norm_it_grows_with_the_classes_and_says_so(method, share):
    for classes in (10, 30):
        source = many_classes(classes)
        real = 4 * classes * 20 * 2 * 128 * 32**2  # float32, 20 real images of a class are all there are
        assert bytes_of(method, source, **GROWS) == pytest.approx(share * real, rel=0.1)
    assert "grows with the classes: batch norm" in load_method(method).config(source.name, 1, **GROWS).memory_note
    assert load_method(method).config(source.name, 1).memory_note == ""


def test_the_committed_presets_go_through_the_network_at_once():
    """So that sets made before chunks were usual are the same to the bit: 320 real images, 200 synthetic ones."""
    for side in (28, 32):
        fields = load_method("dm").config("mnist", 10, "cpu")
        assert fields.chunks((3, side, side), 10, 320, 200) == (320, 200)


def test_a_limit_makes_chunks_smaller(monkeypatch):
    fields, shape = load_method("dm").config("cifar10", 1), (3, 32, 32)
    usual = fields.chunks(shape, 10, 2560, 1000)
    monkeypatch.setenv(VARIABLE, "4GB")
    assert fields.chunks(shape, 10, 2560, 1000) == usual
    monkeypatch.setenv(VARIABLE, "500MB")
    real, synthetic = fields.chunks(shape, 10, 2560, 1000)
    assert usual.real / 5 < real < usual.real / 4 and usual.synthetic / 5 < synthetic < usual.synthetic / 4


def test_what_the_limit_does_not_leave_is_refused_before_the_first_step(monkeypatch):
    for has, classes, said in ((3e9, 100, "3.8"), (1e9, 50, "1.9")):
        monkeypatch.setattr(limits, "memory_limit", lambda has=has: MemoryLimit(has, "this machine has", 0.4e9))
        wanted = rf"{said} GB a step, and this process holds 0.4 GB; this machine has {has / 1e9:.1f} GB\. It grows"
        with pytest.raises(UsageError, match=wanted):
            synthesize(many_classes(classes), "dm", 1, **GROWS)


def test_the_message_names_the_limit_and_the_fields(monkeypatch):
    monkeypatch.setenv(VARIABLE, "50MB")
    with pytest.raises(UsageError, match=rf"{VARIABLE} allows 0.1 GB\. Bound it with `real_batch=…` \(now 256\), or"):
        synthesize(many_classes(10), "dsa", 1)
    monkeypatch.setenv(VARIABLE, "much")
    with pytest.raises(UsageError, match="'much' is no amount of memory: give one such as 2GB"):
        synthesize(many_classes(10), "dsa", 1)


def test_a_line_says_it_before_work_begins_and_what_bounds_it_where_it_is_much(digits):
    dm, source = load_method("dm"), many_classes(100)
    assert "3.8 GB a step" in memory_of_step("dm", source, dm.config(source.name, 1, **GROWS), 1)
    said = memory_of_step("dm", digits, dm.config("digits", 1, "cpu"), 1)
    assert re.fullmatch(r"dm: about \d\.\d GB of memory at its peak; .+ \d+\.\d GB\.", said)
    assert memory_of_step("random", digits, load_method("random").config("digits", 1), 1) == ""


@pytest.mark.parametrize("method", [name for name in list_methods() if name != "random" and "zca" not in name])
def test_every_method_that_takes_steps_says_what_they_take(method):
    """And no nonsense: more than the images themselves, less than any machine of today has."""
    source, chosen = many_classes(10), load_method(method)
    assert 1e7 < chosen.config("cifar10", 1).step_bytes(source, 1) < 3e10


@pytest.mark.parametrize(("name", "batch", "gigabytes"), [("ConvNetD3", 256, 0.65), ("ResNet18BN", 128, 0.93)])
def test_a_trainings_estimate_is_above_what_was_measured_and_near_it(name, batch, gigabytes):
    """Measured: what a process of one thread held more at its peak than before, three steps at 32 px."""
    assert 1 < training_bytes(name, (3, 32, 32), 10, batch) / 1e9 / gigabytes < 1.5


@pytest.mark.parametrize("chunk", [1, 3, 5, 7, 100])
def test_gradients_in_chunks_are_those_of_the_whole_batch(chunk):
    network = build_network("ConvNetD1W4", (3, 8, 8), 4, generator("chunks")).double()
    images = torch.randn(7, 3, 8, 8, generator=generator("images"), dtype=torch.float64)
    parameters = list(network.parameters())
    whole = parameter_gradients(network, parameters, images, 2, keep_graph=False)
    pieces = gradients_in_chunks(network, parameters, images, 2, chunk)
    for ours, theirs in zip(pieces, whole, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("chunk", [2, 3, 4])
def test_a_training_in_chunks_is_that_of_whole_batches(chunk):
    images = torch.randn(7, 3, 8, 8, generator=generator("images"), dtype=torch.float64)
    labels, most = torch.arange(7) % 4, []

    def trained(chunk):
        network = build_network("ConvNetD1W4", (3, 8, 8), 4, generator("chunks")).double()
        network.features.register_forward_pre_hook(lambda module, given: most.append(len(given[0])))
        plan = Plan(epochs=3, batch_size=5, learning_rate=0.1, momentum=0.5)
        loss = train(network, lambda e, i, d: (images[i], labels[i]), 7, plan, generator("order"), chunk=chunk)
        return loss, torch.cat([parameter.flatten() for parameter in network.parameters()])

    loss, whole = trained(0)
    most.clear()
    chunked_loss, chunked = trained(chunk)
    assert max(most) <= chunk and chunked_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close(chunked, whole, rtol=1e-9, atol=1e-12)


PEAK = """
import json, sys, torch
from distill_bench import Dataset, Split, synthesize
from distill_bench.runtime.run_info import peak_memory_mb
torch.set_num_threads(1)
classes, method = int(sys.argv[1]), sys.argv[2]
labels = torch.arange(classes).repeat_interleave(20)
pixels = torch.zeros(len(labels), 3, 32, 32, dtype=torch.uint8)
data = Dataset("mine", tuple(map(str, range(classes))), lambda: Split(pixels, labels), None, True)
fields = {"outer_loop": 1} if method == "dsa" else {}
before = peak_memory_mb()
synthesize(data, method, 1, iterations=1, network="ConvNetD1W32", **fields)
print(json.dumps([before, peak_memory_mb()]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
def test_the_peak_of_a_process_does_not_grow_with_the_classes(monkeypatch, forked_python):
    monkeypatch.setenv(VARIABLE, "1200MB")  # so that chunks are small

    def grown(classes, method):
        command = [forked_python, "-c", PEAK, str(classes), method]
        before, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return peak - before

    # all real images of 60 classes at once would take 0.3 GB for their first two layers alone
    assert grown(60, "dm") < grown(20, "dm") + 100


def test_of_trajectories_a_batch_counts_and_only_the_unrolled_gradient_grows_with_the_steps():
    """Peaks at CIFAR-10's shape, batch 100, with half a GB of the process: 1.6 GB exact, 4.65 and 10.1 unrolled."""
    source = many_classes(10)

    def of(kind, steps):
        return bytes_of("mtt", source, 10, gradient=kind, student_steps=steps, student_batch=100)

    assert of("exact", 10) == pytest.approx(1.2e9, rel=0.15) and of("exact", 30) < of("exact", 10) * 1.1
    assert of("unrolled", 10) == pytest.approx(4.2e9, rel=0.15)
    assert of("unrolled", 30) == pytest.approx(9.6e9, rel=0.4)
