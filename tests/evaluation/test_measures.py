"""Continual learning, architecture search, DD-Ranking's scores and privacy, on hand-worked numbers."""

import importlib
import json
import math

import pytest
import torch
from short_protocol import short_quick_v1
from torch.nn import functional as F

from distill_bench import DistilledSet, Split, evaluate, synthesize
from distill_bench.benchmark.beside import random_beside
from distill_bench.datasets.pixel_space import Transform
from distill_bench.errors import Interrupted, RunFailed, UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol
from distill_bench.evaluation.measures import Estimated, ars, continual, lrs, nas, privacy
from distill_bench.evaluation.measures.continual import class_order, memory_of, seen_after
from distill_bench.evaluation.measures.nas import SPACE
from distill_bench.evaluation.measures.privacy import Nearest, losses, nearest
from distill_bench.evaluation.measures.robust_scores import normalised
from distill_bench.networks import build_network, check_network
from distill_bench.runtime.progress import SilentMonitor
from distill_bench.runtime.seeds import generator


def module(name):  # the package gives its name to the function
    return importlib.import_module(f"distill_bench.evaluation.measures.{name}")


@pytest.fixture(autouse=True)
def _quick(tmp_path, monkeypatch):
    short = PROTOCOLS["full-v1"].model_copy(update={"epochs": 1, "minimum_steps": 0})
    monkeypatch.setitem(PROTOCOLS, "full-v1", short)
    with short_quick_v1(tmp_path / "home", epochs=2):
        yield


@pytest.fixture(scope="module")
def few(digits):
    return synthesize(digits, "random", ipc=1)


@pytest.fixture(scope="module")
def other(digits):
    return synthesize(digits, "random", ipc=1, seed=1)


@pytest.fixture(scope="module")
def score(digits, few, tmp_path_factory):
    with short_quick_v1(tmp_path_factory.mktemp("home"), epochs=1):
        return evaluate(few, digits, "quick-v1", networks=1)


def scored(score, accuracies, **fields):
    return score.model_copy(update={"accuracies": accuracies, "accuracy": sum(accuracies) / len(accuracies)} | fields)


def test_an_estimate_is_cut_and_has_no_interval_without_a_spread():
    two = Estimated.mean([0.4, 0.6], 0, 1)  # ± 0.1 · 12.7062
    assert (two.value, two.ci_low, two.ci_high) == (0.5, 0, 1)
    assert Estimated.mean([0.49, 0.51], 0, 1).half_width == pytest.approx(0.01 * 12.7062, abs=1e-5)
    assert Estimated.mean([0.5, 0.5], 0, 1) == Estimated(value=0.5) == Estimated.mean([0.5], 0, 1)


# class-incremental


def test_classes_arrive_in_orders_of_their_own_in_steps_as_equal_as_can_be():
    orders = [class_order(10, index) for index in range(5)]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5 and orders == [class_order(10, index) for index in range(5)]
    seen = seen_after(orders[0], 4)
    assert [len(labels) for labels in seen] == [3, 6, 8, 10]
    assert all(labels == orders[0][: len(labels)] for labels in seen)


def test_the_memory_is_the_images_of_the_classes_seen_with_classes_for_labels(digits):
    pixels, labels = digits.train.images(torch.arange(30)), digits.train.labels[:30]
    soft = DistilledSet.from_tensors(pixels, labels, digits, soft_labels=torch.randn(30, 10), learning_rate=0.5)
    memory = memory_of(soft, [3, 7])
    assert memory.labels.unique().tolist() == [3, 7] and not memory.has_strict_score
    assert torch.equal(memory.images, pixels[(labels == 3) | (labels == 7)])


def test_what_is_seen_is_trained_on_and_tested_and_means_are_over_orders(digits, few, score, monkeypatch):
    asked = []
    table = iter([[90.0], [60.0], [80.0], [50.0]])

    def noting(memory, data, protocol, network, numbers, **options):
        asked.append((memory.labels.unique().tolist(), data.test.labels.unique().tolist(), [*numbers]))
        assert data.train is digits.train
        return scored(score, next(table), notes=("one",) if len(asked) == 2 else ("another",))

    monkeypatch.setattr(module("continual"), "evaluate", noting)
    found = continual(few, digits, "quick-v1", steps=2, orders=2)
    orders = [class_order(10, 0), class_order(10, 1)]
    assert asked == [
        (sorted(order[:seen]), sorted(order[:seen]), [index]) for index, order in enumerate(orders) for seen in (5, 10)
    ]
    assert found.class_orders == tuple(map(tuple, orders)) and found.classes_seen == (5, 10)
    first, last = found.steps
    assert (first.value, last.value, found.average.value) == (85.0, 55.0, 70.0)  # by order 75 and 65
    assert first.ci_high == 100.0  # 85 ± 5 · 12.7
    assert found.average.half_width == pytest.approx(5 * 12.7062, abs=1e-3)
    assert (found.notes, found.set_sha256) == (("one",), few.sha256)  # of the whole set


def test_the_last_step_is_the_strict_evaluation_of_the_whole_set(digits, few, tmp_path):
    found = continual(few, digits, "quick-v1", networks=2, steps=2, orders=1, cache=tmp_path)
    whole = evaluate(few, digits, "quick-v1", networks=2, cache=tmp_path)
    assert found.accuracies[0][-1] == whole.accuracy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 11}, "there are 10 classes; give 1 to 10 steps"),
        ({"orders": 0}, "one class order at least"),
        ({"networks": 0}, "at least one network"),
        ({"orders": 2**40}, "of 1 networks each are too many"),
    ],
)
def test_classes_that_cannot_arrive_so(digits, few, options, said):
    with pytest.raises(UsageError, match=said):
        continual(few, digits, "quick-v1", **options)


def test_every_class_needs_an_image(digits, few):
    with pytest.raises(UsageError, match="the set has no image of the class '4'"):
        continual(memory_of(few, [0, 1, 2, 3, 5, 6, 7, 8, 9]), digits, "quick-v1")


# architecture search


def test_the_space_is_four_dozen_networks_that_take_8_px():
    assert len(set(SPACE)) == 48
    assert [check_network(name, (1, 8, 8)) for name in SPACE] == list(SPACE)


def test_two_orders_and_their_correlation_worked_by_hand(digits, few, score, monkeypatch):
    names = ["MLP", "ConvNetD1W4", "ConvNetD1W8", "ConvNetD2W4", "ConvNetD2W8", "ConvNetD3W4"]
    on_set, on_whole = ([10, 20, 30, 40, 50, 0], [81, 80, 82, 84, 83, 0])

    def ours(distilled, data, protocol, name, networks, labels, **options):
        return scored(score, [on_set[names.index(name)]] * networks, network=name)

    def theirs(data, protocol, name, networks, **options):
        if name == "ConvNetD3W4":
            raise RunFailed("it diverged")
        return scored(score, [on_whole[names.index(name)]] * networks, network=name)

    monkeypatch.setattr(module("nas"), "evaluate", ours)
    monkeypatch.setattr(module("nas"), "evaluate_full", theirs)
    found = nas(few, digits, "quick-v1", tuple(names))
    assert found.correlation.value == pytest.approx(0.8)  # see test_rank_statistics.py
    assert found.correlation.ci_low == pytest.approx(-0.457, abs=1e-3)
    assert (found.chosen.network, found.best.network) == ("ConvNetD2W8", "ConvNetD2W4")
    assert found.left_out == {"ConvNetD3W4": "it diverged"}
    with pytest.raises(RunFailed, match="fewer than two"):
        nas(few, digits, "quick-v1", ("MLP", "ConvNetD3W4"))


def test_accuracies_are_those_of_the_evaluator(digits, few, tmp_path):
    found = nas(few, digits, "quick-v1", ("MLP", "ConvNetD1W4"), cache=tmp_path)
    assert [each.on_set for each in found.candidates] == [
        evaluate(few, digits, "quick-v1", name, 1, cache=tmp_path).accuracy for name in ("MLP", "ConvNetD1W4")
    ]
    assert found.correlation.ci_low is None  # of two


def test_an_order_needs_two_networks(digits, few):
    with pytest.raises(UsageError, match="two networks at least; got MLP"):
        nas(few, digits, "quick-v1", ("MLP", "MLP"))
    with pytest.raises(UsageError, match="LeNet needs images of 16 px"):
        nas(few, digits, "quick-v1", ("MLP", "LeNet"))


# DD-Ranking


def test_label_robust_score_worked_by_hand(digits, few, other, score, monkeypatch):
    """IOR 0.2 and 0.3, HLR 0.3 and 0.2: α = -0.05 and 0.05."""
    soft = DistilledSet.from_tensors(few.images, few.labels, digits, soft_labels=torch.randn(10, 10))
    accuracies = {("set", "stored"): (70.0, 70.0), ("set", "hard"): (60.0, 65.0), ("random", "stored"): (50.0, 40.0)}

    def found(distilled, data, protocol, network, networks, labels="stored", **options):
        return scored(score, accuracies["set" if distilled is soft else "random", labels])

    monkeypatch.setattr(module("robust_scores"), "evaluate", found)
    monkeypatch.setattr(module("robust_scores"), "evaluate_full", lambda *_, **__: scored(score, (90.0, 85.0)))
    labelled = DistilledSet.from_tensors(other.images, other.labels, digits, soft_labels=torch.randn(10, 10))
    result = lrs(soft, labelled, digits, "quick-v1")
    assert result.gains == pytest.approx((-0.05, 0.05))
    assert (result.parts["IOR"].value, result.parts["HLR"].value) == (pytest.approx(0.25), pytest.approx(0.25))
    assert result.score.value == pytest.approx((1 - math.exp(-1)) / (math.e - math.exp(-1)))
    half = 0.05 * 12.7062
    assert result.score.ci_high == pytest.approx((math.exp(half) - math.exp(-1)) / (math.e - math.exp(-1)), abs=1e-5)
    assert result.random_sha256 == labelled.sha256 and result.notes == score.notes
    same = lrs(soft, soft, digits, "quick-v1")
    assert same.notes[-1].startswith("the random images are the set's own")


def test_augmentation_robust_score_worked_by_hand(digits, few, other, score, monkeypatch):
    """β = ½ · (0.7 - 0.5) + ½ · (0.6 - 0.55) = 0.125."""
    accuracies = {"quick-v1": (70.0, 50.0), "quick-v1+no-augmentation": (60.0, 55.0)}

    def found(distilled, data, protocol, *others, **options):
        return scored(score, [accuracies[protocol][distilled is other]])

    monkeypatch.setattr(module("robust_scores"), "evaluate", found)
    result = ars(few, other, digits, "quick-v1", networks=1)
    assert result.gains == pytest.approx((0.125,))
    assert result.score.value == pytest.approx((math.exp(0.125) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert result.score.ci_low is None
    assert result.parts["augmented"].value == pytest.approx(0.2) and result.parts["plain"].value == pytest.approx(0.05)
    assert (normalised(-1), normalised(1)) == (0, 1)


def test_scores_are_of_the_evaluators_accuracies(digits, few, other, tmp_path):
    shared = {"cache": tmp_path}
    ours, theirs = (evaluate(each, digits, "quick-v1", **shared).accuracies for each in (few, other))
    label = lrs(few, other, digits, "quick-v1", **shared)
    assert (label.accuracies["set"], label.accuracies["hard"], label.accuracies["random"]) == (ours, ours, theirs)
    assert label.gains == pytest.approx(
        [((a - b) - (w - a)) / 200 for a, b, w in zip(ours, theirs, label.accuracies["whole"], strict=True)]
    )
    plain = evaluate(few, digits, "quick-v1+no-augmentation", **shared)
    assert ars(few, other, digits, "quick-v1", **shared).accuracies["set plain"] == plain.accuracies


def test_scores_that_cannot_be_had(digits, few, other, monkeypatch):
    with pytest.raises(UsageError, match="the set has 10 images, the random one 9"):
        lrs(few, memory_of(other, list(range(9))), digits, "quick-v1")
    with pytest.raises(UsageError, match="dc-v1 does not augment images of digits"):
        ars(few, other, digits, "dc-v1")
    monkeypatch.setattr(few, "card", few.card.model_copy(update={"label_kind": "recorded"}))
    with pytest.raises(UsageError, match=r"labels are recorded.*`labels=hard`"):
        ars(few, other, digits, "quick-v1")


@pytest.mark.parametrize("measured", [lrs, ars])
def test_random_images_that_differ_in_more_than_what_they_show_are_refused(digits, few, measured):
    about = {"images": few.images, "labels": few.labels, "dataset": digits}
    unlike = {
        "labels": DistilledSet.from_tensors(**about, soft_labels=torch.randn(10, 10)),
        "pixels": DistilledSet.from_tensors(**about, pixel_space="unit"),
        "smaller images": DistilledSet.from_tensors(**about, formation=2),
    }
    for what, other in unlike.items():
        for pair in ((few, other), (other, few)):
            with pytest.raises(UsageError, match=f"the set's {what}"):
                measured(*pair, digits, "quick-v1", networks=1)


def test_random_images_beside_smaller_ones_hold_as_many(digits):
    made = synthesize(digits, "random", 1, seed=3, formation=2)
    assert random_beside(made, digits).to_bytes() == made.to_bytes()
    soft = DistilledSet.from_tensors(made.images, made.labels, digits, soft_labels=torch.randn(10, 10), formation=2)
    with pytest.raises(UsageError, match="holds 2×2 smaller ones"):
        random_beside(soft, digits)
    assert random_beside(soft, digits, "hard").card.formation == 2


def test_random_images_beside_labels_of_several_teachers_have_them_of_as_many(digits):
    """Random images beside themselves are themselves: the same labels."""
    teachers = {"further_teachers": [{"network": "ConvNetD1W4BN"}]}
    made = synthesize(digits, "random-soft", 1, preset="test", labels="soft", **teachers)
    assert torch.equal(random_beside(made, digits).soft_labels, made.soft_labels)


def test_targets_have_no_losses_to_tell_members_by(digits):
    made = synthesize(digits, "random-targets", 1, preset="test")
    with pytest.raises(UsageError, match=r"probe-v1-linear-1 trains networks on targets.*`labels=hard`"):
        privacy(made, digits, "probe-v1-linear-1", "ConvNetD1W4BN", 1)


def test_a_protocol_without_augmentation_is_else_the_same():
    plain = load_protocol("quick-v1+no-augmentation")
    same = plain.model_copy(update={"id": "quick-v1", "augmentation": PROTOCOLS["quick-v1"].augmentation})
    assert same == PROTOCOLS["quick-v1"] != plain and plain.augmentation == "none"
    mnist = load_protocol("dc-v1+no-augmentation").for_dataset("mnist")
    assert (mnist.augmentation, mnist.epochs) == ("none", 1001)
    with pytest.raises(UsageError, match="unknown protocol 'quick-v0'"):
        load_protocol("quick-v0+no-augmentation")


@pytest.mark.parametrize(("method", "kind"), [("dm", "hard"), ("sre2l", "teacher"), ("rded", "recorded")])
def test_random_images_beside_a_set_are_labelled_as_it_is(digits, method, kind):
    made = synthesize(digits, method, 1, preset="test", seed=3, pixel_space="unit")
    beside = random_beside(made, digits)
    drawn = synthesize(digits, "random", 1, seed=3, pixel_space="unit")
    assert made.card.label_kind == beside.card.label_kind == kind
    assert torch.equal(beside.images, drawn.images) and beside.card.pixel_space == made.card.pixel_space
    assert beside.card.temperature == made.card.temperature
    assert all(torch.equal(made.stored[name], beside.stored[name]) for name in made.stored if name.startswith("teach"))
    assert random_beside(made, digits, "hard").to_bytes() == drawn.to_bytes()


def test_random_images_beside_a_fraction_are_as_many(digits):
    beside = random_beside(synthesize(digits, "random", fraction=0.01, seed=4), digits)
    assert beside.to_bytes() == synthesize(digits, "random", fraction=0.01, seed=4).to_bytes()


# privacy


def test_nearest_images_are_those_of_all_distances(monkeypatch):
    monkeypatch.setattr("distill_bench.datasets.dataset.CHUNK_BYTES", 300 * 48)
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (700, 3, 4, 4), dtype=torch.uint8, generator=draws)
    images = torch.rand(300, 3, 4, 4, generator=draws)
    images[7] = pixels[411].float() / 255
    distances, indices = nearest(images, Split(pixels, torch.zeros(700, dtype=torch.int64)))
    slow = torch.cdist(images.flatten(1).double(), pixels.flatten(1).double() / 255) / math.sqrt(48)
    assert torch.equal(indices, slow.argmin(dim=1)) and distances[7] < 1e-7
    assert torch.allclose(distances, slow.amin(dim=1), atol=1e-7)


def test_a_distance_worked_by_hand():
    """From grey 0.5 to black in one pixel of four: √(0.25 / 4)."""
    split = Split(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64))
    distances, _ = nearest(torch.tensor([0.5, 0, 0, 0]).view(1, 1, 2, 2), split)
    assert distances.tolist() == [0.25]


def test_what_is_near_is_told_from_test_images():
    """Of a hundred and one from 0 to 1 the fifth part in a hundred lies below 0.05."""
    found = Nearest(distances=(0.04, 0.06, 0.001), indices=(0, 0, 0), reference=tuple(k / 100 for k in range(101)))
    assert (found.nearer, found.copies, found.median, found.reference_median) == (pytest.approx(2 / 3), 1, 0.04, 0.5)


def test_losses_are_cross_entropies_and_must_be_finite(digits):
    network = build_network("MLP", (1, 8, 8), 10, generator("losses"))
    images, labels = torch.randn(600, 1, 8, 8), torch.arange(600) % 10
    wanted = -network.eval()(images).double().log_softmax(dim=1)[torch.arange(600), labels]
    assert torch.allclose(losses(network, images.__getitem__, labels), wanted.detach(), atol=1e-6)
    with pytest.raises(RunFailed, match="losses are not finite"):
        losses(network, (images * torch.nan).__getitem__, labels)


def test_training_images_in_a_set_are_found_in_it_and_by_their_losses(digits, few, monkeypatch):
    """By a network that knows the training images by heart: it is told whether it sees the training split."""
    members = len(digits.train)

    def by_heart(setup, index, inputs, after_epoch, use):
        after_epoch()

        class Network(torch.nn.Module):
            seen = 0

            def forward(self, images):
                Network.seen += len(images)
                labels = digits.train.labels if Network.seen <= members else digits.test.labels
                start = (Network.seen - 1) % members + 1 - len(images) if Network.seen <= members else 0
                right = F.one_hot(labels[start : start + len(images)], 10).float()
                return right * (9.0 if Network.seen <= members else 1.0)

        return use(Network())

    monkeypatch.setattr(module("privacy"), "use_trained", by_heart)
    found = privacy(few, digits, "quick-v1")
    assert (found.nearest.copies, found.nearest.nearer) == (10, 1.0) and found.nearest.median < 1e-7
    assert torch.equal(
        Transform(few.card.pixel_space, None).encode(digits.train.images(torch.tensor(found.nearest.indices))),
        few.images,
    )
    assert (found.membership.area.value, found.membership.members) == (1.0, members)
    assert found.membership.member_loss == pytest.approx(math.log(1 + 9 * math.exp(-9)), rel=1e-3)
    assert found.membership.other_loss == pytest.approx(math.log(1 + 9 * math.exp(-1)), rel=1e-3)


def test_an_images_loss_is_the_mean_over_networks(digits, few):
    both, first = (privacy(few, digits, "quick-v1", "MLP", count) for count in (2, 1))
    assert both.networks == 2 and 0.3 < both.membership.area.value < 0.7
    assert both.membership.member_loss != first.membership.member_loss
    assert both.nearest == first.nearest and len(both.nearest.reference) == len(digits.test)


def test_a_request_to_stop_is_heard(digits, few):
    class Asking(SilentMonitor):
        stop_requested = True

    with pytest.raises(Interrupted, match="train the networks again"):
        privacy(few, digits, "quick-v1", monitor=Asking())


# the command


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["continual", "--steps", 2, "--orders", 2], "| 2 | 10 |"),
        (["nas", "--network", "MLP", "--network", "ConvNetD1W4"], "Spearman's rank correlation over 2 networks"),
        (["lrs", "--random", "other.safetensors"], "| hard label recovery (HLR) |"),
        (["ars"], "| over random, plain |"),
        (["privacy", "--network", "MLP"], "10 are training images in 8 bits; 100% are nearer"),
    ],
)
def test_the_command_prints_a_table_or_json(few, other, command, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    few.save("few.safetensors")
    other.save("other.safetensors")
    words = ["measure", "few.safetensors", *words, "--protocol", "quick-v1", "--quiet"]
    code, text, error = command(*words)
    assert (code, error) == (0, "") and said in text
    assert text.startswith("random on digits, 10 images, protocol quick-v1, labels hard")
    code, text, _ = command(*words, "--json")
    facts = json.loads(text)
    assert (code, facts["kind"], facts["method"]) == (0, words[2], "random")
    assert facts["run"]["seconds"] > 0
