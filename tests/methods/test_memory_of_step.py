"""What a step takes in memory is said before work begins, and refused where the machine does not have it."""

import pytest
import torch

from distill_bench import Dataset, Split, synthesize
from distill_bench.errors import UsageError
from distill_bench.methods import limits, load_method, memory_of_step
from distill_bench.networks import activation_values


def many_classes(classes, side=32, images=20):
    labels = torch.arange(classes).repeat_interleave(images)
    pixels = torch.zeros(len(labels), 3, side, side, dtype=torch.uint8)
    return Dataset("mine", tuple(map(str, range(classes))), lambda: Split(pixels, labels), None, True)


def test_a_networks_values_are_those_of_its_layers_counted_by_hand():
    # 32 × 32, width 128: convolution, norm and ReLU of 128 × side², pooling to a quarter, three times; 10 logits
    layers = [128 * side**2 for side in (32, 16, 8) for _ in range(3)] + [128 * side**2 for side in (16, 8, 4)]
    assert activation_values("ConvNetD3", (3, 32, 32), 10) == (2 * 128 * 32**2, sum(layers) + 10)


@pytest.mark.parametrize("method", ["dm", "datadam", "fyi-dm"])
@pytest.mark.parametrize("classes", [10, 30])
def test_memory_that_grows_with_the_classes_is_predicted(method, classes):
    source = many_classes(classes)
    fields = load_method(method).config(source.name, 1)
    real = 4 * classes * 20 * 2 * 128 * 32**2  # float32, 20 real images of a class are all there are
    assert fields.step_bytes(source, 1) >= real
    assert fields.step_bytes(source, 1) == pytest.approx(real, rel=0.2)


def test_chunks_bound_it_and_other_methods_do_not_grow():
    source = many_classes(100)
    assert load_method("dm").config(source.name, 1, chunk=256).step_bytes(source, 1) < 6e8
    assert load_method("dsa").config(source.name, 1).step_bytes(source, 1) == 0


def test_what_the_machine_does_not_have_is_refused_before_the_first_step(monkeypatch):
    for has, classes, said in ((1e9, 100, "2.1"), (0.5e9, 50, "1.0")):
        monkeypatch.setattr(limits, "physical_memory", lambda has=has: has)
        wanted = rf"{said} GB a step; this machine has {has / 1e9:.1f} GB.*`chunk=…` \(now all\)"
        with pytest.raises(UsageError, match=wanted):
            synthesize(many_classes(classes), "dm", 1)


def test_a_line_says_it_before_work_begins_where_it_is_much_and_nothing_where_it_is_little(digits):
    dm = load_method("dm")
    source = many_classes(100)
    assert "2.1 GB a step" in memory_of_step("dm", source, dm.config(source.name, 1), 1)
    assert memory_of_step("dm", digits, dm.config("digits", 1, "cpu"), 1) == ""
