"""INFER: the budget's table, slope and steps of compensators written out, what sets are made of, what is refused."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill_bench import load_dataset, synthesize
from distill_bench.datasets import list_datasets
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.compensators import IMAGES
from distill_bench.errors import UsageError
from distill_bench.methods import load_method, new_run
from distill_bench.methods.decoupled.compensate import Compensation
from distill_bench.methods.decoupled.recover import recovery_loss, watched
from distill_bench.methods.decoupled.relabel import teacher_of
from distill_bench.methods.recipe import PAPER, TEST
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator

STEPS, RATE = 4, 0.25


def run_of(ipc=2, **fields):
    digits = load_dataset("digits")
    config = load_method("infer").config("digits", ipc, TEST, **{"image_lr": RATE, "iterations": STEPS} | fields)
    return new_run(digits, load_method("infer"), config, Budget(ipc), device="cpu")


def network():
    """A teacher in float64 whose batch norms have seen something."""
    made = build_network("ConvNetD2W4BN", (1, 8, 8), 10, generator("teacher")).double()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator("mean"))
            layer.running_var.uniform_(0.5, 2, generator=generator("variance"))
    return made.eval().requires_grad_(False)


REAL = torch.randn(10, 1, 8, 8, generator=generator("real"), dtype=torch.float64)


def with_start(**fields):
    added = torch.randn(1, 1, 8, 8, generator=generator("added"), dtype=torch.float64)
    return Compensation(run_of(**fields), network(), REAL, added, 0), added


# C, M: images a class by IPC (notes to the paper: n = ⌊ipc / (1 + M/C)⌋, and n (M + 1) are shown)
TABLE = {
    (10, 1): {2: 1, 5: 4, 10: 9, 50: 45},
    (10, 2): {2: 1, 5: 4, 10: 8, 50: 41},
    (10, 4): {2: 1, 5: 3, 10: 7, 50: 35},
    (100, 4): {2: 1, 5: 4, 10: 9, 50: 48},
    (1000, 3): {2: 1, 5: 4, 10: 9, 50: 49},
}


def with_teachers(count):
    further = tuple({"network": f"ConvNetD1W{width}BN"} for width in range(8, 7 + count))
    return run_of(further_teachers=further).config


@pytest.mark.parametrize(("classes", "teachers"), TABLE)
def test_images_and_compensators_fill_the_budget(classes, teachers):
    config = with_teachers(teachers)
    for ipc, images in TABLE[classes, teachers].items():
        assert config.images_a_class(ipc, classes) == images
        assert images * (classes + teachers) <= ipc * classes < (images + 1) * (classes + teachers)
    with pytest.raises(UsageError, match=r"Give `ipc=2` or more"):
        config.images_a_class(1, classes)


def test_of_few_classes_even_two_images_may_not_be_enough():
    config = with_teachers(4)
    with pytest.raises(
        UsageError, match="an image of each of 3 classes and 4 compensators are 7 images, more than the"
    ):
        config.images_a_class(2, 3)
    assert config.images_a_class(3, 3) == 1


@pytest.mark.parametrize("jitter", [0, 3])
def test_the_slope_of_a_compensator_is_the_sum_of_the_images(jitter):
    objective, added = with_start(jitter=jitter)
    loss, slopes = objective.loss_and_grads(1)
    images = (REAL + added).requires_grad_()
    teacher = watched(network())
    whole = recovery_loss(teacher, rolled(objective, images), torch.arange(10), 1.0, 10.0)
    (each,) = torch.autograd.grad(whole, images)
    torch.testing.assert_close(slopes["compensator"], each.sum(dim=0, keepdim=True), rtol=0, atol=1e-12)
    torch.testing.assert_close(loss, whole.detach(), rtol=0, atol=1e-12)


def rolled(objective, images):
    """The images rolled as the objective rolls them at step 1: found from where a single pixel goes."""
    pixel = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    pixel[0, 0, 0, 0] = 1e6
    seen = objective.view(pixel, 1)[0, 0]
    down, right = divmod(int(seen.argmax()), 8)
    return images.roll((down, right), (2, 3))


def test_images_are_rolled_down_and_right_alone_and_all_alike():
    objective, _ = with_start(jitter=3)
    pixel = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    pixel[0, 0, 0, 0] = 1e6
    places = set()
    for step in range(60):
        where = objective.view(pixel, step).flatten(1).argmax(dim=1)
        assert len(where.unique()) == 1
        places.add(divmod(int(where[0]), 8))
    assert {row for row, _ in places} == {column for _, column in places} == {0, 1, 2, 3}


def test_the_first_step_moves_every_pixel_by_the_rate():
    objective, added = with_start(iterations=1, bn_weight=0.0, image_betas=(0.3, 0.6))
    before, (_, slopes) = added.clone(), objective.loss_and_grads(0)
    after = objective.last_iterate()
    assert float(slopes["compensator"].abs().min()) > 1e-6
    torch.testing.assert_close(after, before - RATE * slopes["compensator"].sign(), rtol=0, atol=RATE * 0.02)


def test_the_steps_are_those_of_a_loop_in_float64():
    objective, added = with_start(jitter=0, bn_weight=0.7, first_bn_multiplier=5.0)
    u, (m, v) = added.clone(), (torch.zeros_like(added), torch.zeros_like(added))
    for step in range(STEPS):
        leaf = u.clone().requires_grad_()
        inputs, maps, teacher = [], REAL + leaf, network()
        for layer in teacher.features:
            if isinstance(layer, nn.BatchNorm2d):
                inputs.append((layer, maps))
            maps = layer(maps)
        loss = F.cross_entropy(teacher(REAL + leaf), torch.arange(10))
        for number, (layer, seen) in enumerate(inputs):
            mean, variance = seen.mean(dim=(0, 2, 3)), seen.var(dim=(0, 2, 3), unbiased=False)
            apart = (mean - layer.running_mean).norm() + (variance - layer.running_var).norm()
            loss = loss + 0.7 * (5.0 if number == 0 else 1.0) * apart
        (g,) = torch.autograd.grad(loss, leaf)
        m, v = 0.5 * m + 0.5 * g, 0.9 * v + 0.1 * g * g
        unbiased = m / (1 - 0.5 ** (step + 1)), v / (1 - 0.9 ** (step + 1))
        rate = RATE * (1 + torch.cos(torch.tensor(torch.pi * step / STEPS, dtype=torch.float64))) / 2
        u = u - rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
    torch.testing.assert_close(objective.last_iterate(), u, rtol=0, atol=1e-9)


class WithIdleNorm(nn.Module):
    """A teacher that has a batch norm it never runs."""

    def __init__(self, inner):
        super().__init__()
        self.idle, self.inner = nn.BatchNorm2d(3), inner

    def forward(self, images):
        return self.inner(images)


def test_a_batch_norm_that_is_never_run_counts_nothing():
    losses = [
        recovery_loss(watched(each), REAL, torch.arange(10), 1.0, 10.0)
        for each in (network(), WithIdleNorm(network()).eval())
    ]
    assert torch.equal(*losses)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_a_set_is_of_randoms_first_images_their_compensators_and_the_mean_of_all_teachers(digits):
    made = synthesize(digits, "infer", 4, TEST, seed=5, iterations=STEPS)  # 3 images a class, 2 teachers
    random = synthesize(digits, "random", 4, seed=5)
    assert torch.equal(made.images, random.images.unflatten(0, (10, 4))[:, :3].flatten(0, 1))
    assert (made.card.ipc, made.card.label_kind, made.card.protocol) == (4, "logits", "infer-v1")
    assert made.stored[IMAGES].shape == (3, 2, 1, 8, 8)
    run = run_of(4)
    run.seed = 5
    teachers = [teacher_of(run, recipe=recipe).network for recipe in run.config.teachers]
    for number in (1, 3):  # teacher by teacher
        block, teacher = number % 3, number // 3
        real = made.images.unflatten(0, (10, 3))[:, block]
        alone = Compensation(run, teachers[teacher], real, torch.zeros(1, 1, 8, 8), number).last_iterate()
        torch.testing.assert_close(made.stored[IMAGES][block, teacher], alone[0], rtol=0, atol=1e-5)
        run.history.clear()
    shown = made.shown().images
    said = sum(teacher(shown) for teacher in teachers) / 2
    torch.testing.assert_close(made.soft_labels, said, rtol=1e-4, atol=1e-4)
    assert made.nbytes <= synthesize(digits, "random", 4).nbytes + made.soft_labels.numel() * 4


def test_without_iterations_nothing_is_added(digits):
    made = synthesize(digits, "infer", 2, TEST, iterations=0)
    assert not made.stored[IMAGES].any()
    assert torch.equal(made.shown().images, made.images.repeat_interleave(3, dim=0))


def test_the_line_beside_it_has_the_labels_of_the_same_teachers(digits):
    line = synthesize(digits, "random-ensemble", 2, TEST, seed=5)
    assert torch.equal(line.images, synthesize(digits, "random", 2, seed=5).images)
    one = synthesize(digits, "infer", 2, TEST, seed=5, iterations=0)
    torch.testing.assert_close(line.soft_labels[::2], one.soft_labels[::3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["infer", "random-ensemble"])
@pytest.mark.parametrize("preset", [PAPER, "cpu"])
def test_on_every_dataset_all_teachers_are_trained_as_sre2ls(method, preset):
    for name in list_datasets():
        config, sre2l = load_method(method).config(name, 10, preset), load_method("sre2l").config(name, 10, preset)
        assert config.teacher == sre2l.teacher
        assert len({each.epochs for each in config.teachers}) == 1, name
    assert load_method(method).config("tiny_imagenet", 10).teachers[-1].epochs == 50


@pytest.mark.parametrize("labels", ["hard", "teacher", "recorded"])
def test_several_teachers_give_soft_labels_alone(digits, labels):
    with pytest.raises(UsageError, match="further_teachers give soft labels with the teacher, and no others"):
        synthesize(digits, "random-ensemble", 2, TEST, labels=labels)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": "recorded"}, "every image that is shown has a soft label of its own"),
        ({"labels": "teacher", "further_teachers": ()}, "every image that is shown has a soft label of its own"),
        ({"labels": "hard"}, "every image that is shown has a soft label of its own"),
        ({"pixel_space": "zca"}, "which whitened ones have not"),
        ({"further_teachers": [{"network": "ConvNetD1W4"}]}, "and ConvNetD1W4 has none"),
        ({"further_teachers": [{"network": "ConvNetBN"}, {"network": "ConvNetBN"}]}, "two of the teachers are trained"),
        ({"jitter": 9}, "jitter 9 shifts images"),
    ],
)
def test_what_cannot_be_is_refused_before_work(digits, fields, words):
    with pytest.raises(UsageError, match=words):
        synthesize(digits, "infer", 2, TEST, **fields)


def test_too_small_a_budget_and_fractions_are_refused_before_work(digits):
    with pytest.raises(UsageError, match=r"infer at ipc 1: an image of each of 10 classes and 2 compensators are 12"):
        synthesize(digits, "infer", 1, TEST)
    with pytest.raises(UsageError, match="cannot be asked for a fraction"):
        synthesize(digits, "infer", preset=TEST, fraction=0.1)
