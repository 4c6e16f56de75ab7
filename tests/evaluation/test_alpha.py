"""The two terms of distillation: their slopes by hand, their limits, and classes beside every kind of labels."""

from dataclasses import replace

import pytest
import torch
from short_protocol import short_quick_v1
from torch.nn import functional as F

from distill_bench import evaluate, synthesize
from distill_bench.augmentations import views
from distill_bench.augmentations.views import AugmentPolicy
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation import load_protocol
from distill_bench.evaluation.inputs import train_inputs
from distill_bench.evaluation.scoring import train_network
from distill_bench.evaluation.setup import setup_evaluation
from distill_bench.methods.recipe import TEST
from distill_bench.runtime.seeds import generator
from distill_bench.training.compilation import distillation_loss

RECORD = {"epochs": 2, "batch_size": 16, "views": {"crop": "padded", "mix": "cutmix"}}
OPTIONS = {"preset": TEST, "fraction": 0.02, "teacher": {"epochs": 1}, "record": RECORD, "temperature": 4.0}


def draws(count=5, classes=4):
    numbers = generator("alpha")
    z, t = (torch.randn(count, classes, generator=numbers, dtype=torch.float64) for _ in range(2))
    return z.requires_grad_(), t, F.one_hot(torch.arange(count) % classes, classes).double()


def loss(z, p, y, temperature, alpha):
    return distillation_loss(lambda images: images, z, torch.stack([p, y], dim=1), temperature, alpha)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_slope_is_the_one_written_out(alpha, temperature):
    z, t, y = draws()
    p = (t / temperature).softmax(dim=1)
    (found,) = torch.autograd.grad(loss(z, p, y, temperature, alpha), z)
    of_classes = z.softmax(dim=1) - y
    of_teacher = temperature * ((z / temperature).softmax(dim=1) - p)
    torch.testing.assert_close(found, ((1 - alpha) * of_classes + alpha * of_teacher) / len(z), rtol=0, atol=1e-16)


def test_at_temperature_one_it_is_the_cross_entropy_of_mixed_targets():
    z, t, y = draws()
    p = t.softmax(dim=1)
    torch.testing.assert_close(loss(z, p, y, 1.0, 0.3), F.cross_entropy(z, 0.7 * y + 0.3 * p), rtol=0, atol=1e-15)


def test_it_is_hintons_two_terms_but_for_what_no_network_changes():
    z, t, y = draws()
    p, log_q = (t / 4).softmax(dim=1), (z / 4).log_softmax(dim=1)
    divergence = (p * (p.log() - log_q)).sum(dim=1).mean()
    entropy = -(p * p.log()).sum(dim=1).mean()
    wanted = 0.7 * F.cross_entropy(z, y) + 0.3 * 16 * (divergence + entropy)
    torch.testing.assert_close(loss(z, p, y, 4.0, 0.3), wanted, rtol=0, atol=1e-14)


@pytest.fixture(autouse=True, scope="module")
def short(tmp_path_factory):
    """Three epochs a network, and scores apart from those of whole protocols."""
    with short_quick_v1(tmp_path_factory.mktemp("home"), 3):
        yield


def made(digits, alpha=0.5, labels="soft"):
    return synthesize(digits, "random-soft", labels=labels, alpha=alpha, **OPTIONS)


def inputs(digits, distilled, protocol="quick-v1", labels="stored"):
    return train_inputs(
        distilled, setup_evaluation(digits, load_protocol(protocol), distilled.card.pixel_space), labels
    )


@pytest.mark.parametrize("labels", ["soft", "teacher", "recorded"])
def test_a_weight_of_nothing_gives_the_networks_of_classes_bit_for_bit(digits, labels):
    none = made(digits, 0.0, labels)
    hard = DistilledSet(none.images, none.labels, none.card.model_copy(update={"label_kind": "hard", "teacher": None}))
    assert not none.has_strict_score
    found = [evaluate(each, digits, "quick-v1", networks=1).model_dump() for each in (none, hard)]
    assert [found[0][name] for name in ("accuracies", "labels")] == [
        found[1][name] for name in ("accuracies", "labels")
    ]
    assert inputs(digits, none).plan == inputs(digits, hard).plan


def test_a_weight_of_one_is_what_it_was(digits):
    whole, half = made(digits, 1.0), made(digits)
    before, after = (inputs(digits, each).batches(0, torch.arange(4), generator("order")) for each in (whole, half))
    assert torch.equal(before[0], after[0]) and torch.equal(before[1], after[1][:, 0]) and before[1].ndim == 2
    assert inputs(digits, whole).plan == replace(inputs(digits, half).plan, alpha=1.0)


@pytest.mark.parametrize("labels", ["soft", "teacher"])
@pytest.mark.parametrize("protocol", ["quick-v1", "sre2l-v1", "ncfm-v1"])
def test_classes_stand_beside_what_the_teacher_says_mixed_as_the_images_are(digits, protocol, labels):
    half = made(digits, labels=labels)
    hard = inputs(digits, half, protocol, "hard")
    images, classes = hard.batches(0, torch.arange(6), generator("order"))
    seen, targets = inputs(digits, half, protocol).batches(0, torch.arange(6), generator("order"))
    shares = classes if classes.is_floating_point() else F.one_hot(classes, 10).float()
    assert torch.equal(seen, images) and torch.equal(targets[:, 1], shares)
    torch.testing.assert_close(targets.sum(dim=2), torch.ones(6, 2))


def test_classes_beside_recorded_labels_are_mixed_as_the_recorded_views_are(digits):
    half = made(digits, labels="recorded")
    _, targets = inputs(digits, half).batches(1, torch.arange(30), generator("order"))
    boxes, partners = half.stored["relabel.boxes"][1].long(), half.stored["relabel.partners"][1].long()
    own = 1 - boxes[:, 2] * boxes[:, 3] / 64
    assert 0 < own.min() < 1
    for index in range(30):
        wanted = torch.zeros(10)
        wanted[half.labels[index]] += own[index]
        wanted[half.labels[partners[index]]] += 1 - own[index]
        torch.testing.assert_close(targets[index, 1], wanted)


def test_the_weight_changes_what_is_learned(digits):
    weights = []
    for alpha in (0.0, 0.5, 1.0):
        one = made(digits, alpha)
        exam = setup_evaluation(digits, load_protocol("quick-v1"), one.card.pixel_space)
        weights.append(next(train_network(exam, 0, train_inputs(one, exam, "stored"), lambda: None).parameters()))
    assert not any(torch.equal(weights[i], weights[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_views_that_are_not_mixed_leave_classes_whole():
    drawn = views.sample(AugmentPolicy(), 4, (1, 8, 8), False, generator("views"))
    assert torch.equal(views.own_share(drawn, 8, 8), torch.ones(4))
