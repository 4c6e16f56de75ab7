"""Coresets: each choice against a slow one that is obviously right, and against the features of the teacher itself."""

import dataclasses
import itertools
import math

import pytest
import torch
from pretraining import StopsAfter, data

from distill_bench import Interrupted, UsageError, synthesize
from distill_bench.methods import Checkpoint, load_method
from distill_bench.methods.recipe import load_recipe
from distill_bench.methods.selection.selection import herding, k_center, k_means, nearest, nearest_distinct
from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher, list_teachers
from distill_bench.runtime.seeds import generator

METHODS = ("herding", "k-center", "k-means")
QUICK = {"teacher": {"network": "ConvNetD1W4", "epochs": 3, "learning_rate": 0.05}}


def lattice(seed, count=16, width=3):
    """Small whole numbers, so that there are ties and duplicates; of a power of 2, so that even their mean is exact."""
    return torch.randint(-2, 3, (count, width), generator=generator("lattice", seed)).double()


def cloud(seed, count=11, width=4):
    return torch.randn(count, width, generator=generator("cloud", seed), dtype=torch.float64)


SETS = [*(lattice(seed) for seed in range(20)), *(cloud(seed) for seed in range(20))]


def distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def slow_herding(rows, count):
    """Whichever row brings the mean of the chosen nearest to the mean of all."""
    chosen = []
    for step in range(count):
        best = None
        for index in range(len(rows)):
            if index not in chosen:
                total = [sum(column) for column in zip(*(rows[i] for i in [*chosen, index]), strict=True)]
                # times (step + 1)², which keeps whole numbers whole
                off = distance(total, [(step + 1) * m for m in mean(rows)])
                if best is None or off < best[0]:
                    best = (off, index)
        chosen.append(best[1])
    return chosen


def slow_k_center(rows, count, first):
    chosen = [first]
    while len(chosen) < count:
        farthest = None
        for index in range(len(rows)):
            if index not in chosen:
                reach = min(distance(rows[index], rows[c]) for c in chosen)
                if farthest is None or reach > farthest[0]:
                    farthest = (reach, index)
        chosen.append(farthest[1])
    return chosen


def slow_nearest_distinct(rows, points):
    chosen = []
    for point in points:
        free = [index for index in range(len(rows)) if index not in chosen]
        chosen.append(min(free, key=lambda index: (distance(rows[index], point), index)))
    return chosen


@pytest.mark.parametrize("features", SETS)
@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_herding_is_the_greedy_choice(features, count):
    assert herding(features, count).tolist() == slow_herding(features.tolist(), count)


@pytest.mark.parametrize("features", SETS)
@pytest.mark.parametrize("count", [1, 2, 5, 11])
def test_k_center_takes_the_farthest(features, count):
    for first in (0, 7):
        assert k_center(features, count, first).tolist() == slow_k_center(features.tolist(), count, first)


def radius(rows, centres):
    return max(min(math.sqrt(distance(row, rows[c])) for c in centres) for row in rows)


@pytest.mark.parametrize("features", [*SETS[:3], *SETS[20:26]])
@pytest.mark.parametrize("count", [2, 3])
def test_k_center_is_within_twice_the_best_radius_whatever_the_start(features, count):
    rows = features.tolist()
    best = min(radius(rows, centres) for centres in itertools.combinations(range(len(rows)), count))
    for first in range(len(rows)):
        assert radius(rows, k_center(features, count, first).tolist()) <= 2 * best + 1e-12


@pytest.mark.parametrize("features", SETS)
def test_nearest_rows_are_taken_once_and_ties_by_index(features):
    rows = features.tolist()
    for count in (1, 4, 11):
        points = torch.cat([features[:2], features.mean(dim=0, keepdim=True), lattice(99, 8, features.shape[1])])[
            :count
        ]
        assert nearest_distinct(features, points).tolist() == slow_nearest_distinct(rows, points.tolist())
    middle = mean(rows)
    assert nearest(features, torch.tensor(middle).double()) == min(
        range(len(rows)), key=lambda index: (distance(rows[index], middle), index)
    )


def inertia(rows, centres):
    return sum(min(distance(row, centre) for centre in centres) for row in rows)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("size", "count"), [(8, 1), (8, 2), (8, 3), (8, 8), (200, 6)])
def test_k_means_ends_at_a_fixed_point_that_is_no_worse_than_a_start(seed, size, count):
    features = cloud(seed, count=size, width=2)
    rows, centres = features.tolist(), k_means(features, count, generator("k-means", seed)).tolist()
    owners = [min(range(count), key=lambda c: distance(row, centres[c])) for row in rows]
    for c, centre in enumerate(centres):
        assert centre == pytest.approx(mean([row for row, owner in zip(rows, owners, strict=True) if owner == c]))
    assert inertia(rows, centres) <= inertia(rows, rows[:count]) + 1e-12


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_k_means_finds_the_best_of_all_divisions_of_a_set_in_groups(seed, count):
    groups = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 9.0]]).double()
    features = 0.5 * cloud(seed, count=8, width=2) + groups[torch.arange(8) % 3]
    rows, centres = features.tolist(), k_means(features, count, generator("k-means", seed)).tolist()
    best = min(
        inertia(rows, [mean([rows[i] for i in range(8) if owner[i] == c]) for c in range(count)])
        for owner in itertools.product(range(count), repeat=8)
        if set(owner) == set(range(count))
    )
    assert inertia(rows, centres) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("features", [torch.zeros(6, 2).double(), lattice(0, 6), cloud(0, 6)], ids=["equal", "l", "c"])
def test_a_whole_class_is_every_image_once_though_they_be_equal(features):
    everything = list(range(6))
    assert sorted(herding(features, 6).tolist()) == everything
    assert sorted(k_center(features, 6, 3).tolist()) == everything
    assert sorted(nearest_distinct(features, k_means(features, 6, generator("k"))).tolist()) == everything


def test_of_equal_images_the_first_is_taken():
    features = torch.zeros(4, 2).double()
    assert herding(features, 3).tolist() == [0, 1, 2]
    assert k_center(features, 3, 2).tolist() == [2, 0, 1]
    assert nearest_distinct(features, torch.zeros(3, 2).double()).tolist() == [0, 1, 2]


# on digits


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))


def by_hand(digits, ipc, choose, seed=0):
    """Images chosen class by class from what goes into the classifier of the teacher."""
    training = data(digits)
    recipe = TeacherRecipe(**QUICK["teacher"])
    network, images = get_or_train_teacher(training, recipe, seed).network, []
    for label in range(10):
        own = training.images((training.labels == label).nonzero().flatten())
        seen = []
        hook = network.classifier.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[0]))
        network(own)
        hook.remove()
        rows = seen[0].double().tolist()
        images.append(own[choose(rows, label)])
    return torch.cat(images)


def test_herding_and_k_center_choose_by_what_the_teachers_classifier_sees(digits):
    def center(rows, label):
        first = min(range(len(rows)), key=lambda index: distance(rows[index], mean(rows)))
        return slow_k_center(rows, 3, first)

    made = synthesize(digits, "herding", 3, **QUICK)
    assert torch.equal(made.images, by_hand(digits, 3, lambda rows, label: slow_herding(rows, 3)))
    assert torch.equal(synthesize(digits, "k-center", 3, **QUICK).images, by_hand(digits, 3, center))


def test_a_random_start_of_k_center_is_the_jobs_own_draw(digits):
    def first(rows, label):
        return [int(torch.randint(len(rows), (), generator=generator(4, "synthesis", "start", label)))]

    made = synthesize(digits, "k-center", 1, seed=4, start="random", **QUICK)
    assert torch.equal(made.images, by_hand(digits, 1, first, seed=4))


def test_one_image_a_class_is_the_one_nearest_the_mean_for_all_three(digits):
    sets = [synthesize(digits, method, 1, **QUICK).images for method in METHODS]
    assert torch.equal(sets[0], sets[1]) and torch.equal(sets[0], sets[2])


@pytest.mark.parametrize("method", METHODS)
def test_images_are_real_ones_of_their_class_and_different(digits, method):
    made, training = synthesize(digits, method, 4, **QUICK), data(digits)
    for label in range(10):
        own = training.images((training.labels == label).nonzero().flatten()).flatten(1)
        chosen = made.images[made.labels == label].flatten(1)
        found = {int((own == image).all(dim=1).nonzero()[0]) for image in chosen}
        assert len(found) == 4


def test_methods_and_sizes_share_one_teacher_trained_on_what_the_synthesizer_was_given(digits):
    held = digits.with_holdout(0.2)
    for method in METHODS:
        for ipc in (1, 2):
            synthesize(held, method, ipc, **QUICK)
    (teacher,) = list_teachers()
    assert teacher.identity["train"] == held.train.fingerprint != digits.train.fingerprint


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [2, 3, 8, 13])
def test_stopped_in_the_teachers_training_or_in_the_choice_it_goes_on_to_the_same_bytes(
    digits, method, steps, tmp_path, monkeypatch
):
    whole = synthesize(digits, method, 2, **QUICK).to_bytes()
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "another"))
    kept = Checkpoint(tmp_path / "unfinished.safetensors", every_seconds=0.0)
    with pytest.raises(Interrupted, match="of 3 epochs" if steps <= 3 else f"of {steps - 3} of 10 classes"):
        synthesize(digits, method, 2, monitor=StopsAfter(steps), checkpoint=kept, **QUICK)
    assert len(list_teachers()) == (steps > 3)
    assert synthesize(digits, method, 2, checkpoint=Checkpoint(kept.path), **QUICK).to_bytes() == whole


def test_classes_chosen_before_a_stop_are_not_chosen_again(digits, tmp_path, monkeypatch):
    kept = Checkpoint(tmp_path / "unfinished.safetensors")
    with pytest.raises(Interrupted, match="images of 6 of 10 classes"):
        synthesize(digits, "herding", 2, monitor=StopsAfter(9), checkpoint=kept, **QUICK)
    labels, slow = [], herding
    monkeypatch.setattr(
        "distill_bench.methods.selection.selection.herding", lambda f, k: labels.append(1) or slow(f, k)
    )
    synthesize(digits, "herding", 2, checkpoint=Checkpoint(kept.path), **QUICK)
    assert len(labels) == 4


@pytest.mark.parametrize("method", METHODS)
def test_the_recipes_teacher_is_the_one_that_teachers_train_makes(method):
    assert load_method(method).config("cifar10", 10).teacher == TeacherRecipe()
    quick = load_method(method).config("cifar10", 10, "cpu").teacher
    assert quick == TeacherRecipe(epochs=2, minimum_steps=500)
    assert load_recipe(method).protocol == "dsa-v1"


def test_a_wrong_value_of_the_teacher_is_named(digits):
    with pytest.raises(UsageError, match=r"teacher\.epoch: Extra inputs are not permitted"):
        synthesize(digits, "herding", 1, teacher={"epoch": 3})
    with pytest.raises(UsageError, match="start: Input should be 'mean' or 'random'"):
        synthesize(digits, "k-center", 1, start="middle")


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_test_split_and_the_global_generators_are_left_alone(digits):
    import numpy

    before = numpy.random.get_state()[1].tolist()
    apart = dataclasses.replace(digits, load_test=lambda: pytest.fail("asked for the test split"))
    synthesize(apart, "k-means", 2, **QUICK)
    assert numpy.random.get_state()[1].tolist() == before
