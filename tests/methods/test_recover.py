"""Recovering: the batch-norm loss against a double loop, the curriculum at its ends, what a curriculum changes."""

import copy
import dataclasses
import math
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from distill_bench import load_dataset, synthesize
from distill_bench.datasets import Dataset, Split
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError
from distill_bench.methods import Run, load_method, make_set, new_run
from distill_bench.methods.decoupled.recover import (
    Recovery,
    annealed,
    check_crops,
    class_batches,
    least_scale,
    recover_batch,
    statistics_distance,
    watched,
    weighted_sum,
)
from distill_bench.methods.run import parts_of
from distill_bench.networks import build_network
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.progress import SILENT, SilentMonitor
from distill_bench.runtime.seeds import generator

QUICK = {"teacher": {"network": "ConvNetD1W4BN", "epochs": 8, "learning_rate": 0.1, "augment": "none"},
         "iterations": 4, "jitter": 1}  # fmt: skip


@pytest.fixture(scope="module")
def mirrored_source():
    """Digits that may be mirrored."""
    return dataclasses.replace(load_dataset("digits"), flip_invariant=True)


def job_on(source, **fields):
    chosen = load_method("sre2l").config("digits", 1, **QUICK | fields)
    training = TrainingData(source, chosen.pixel_space_on(source), torch.device("cpu"))
    return Run("sre2l", training, Budget(1), chosen, 0, torch.device("cpu"), SILENT, Checkpoint())


def batch_norm_network(side=8):
    network = build_network("ConvNetD2W4BN", (3, side, side), 5, generator("bn")).double()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator("mean", layer.num_features))
            layer.running_var.uniform_(0.5, 2, generator=generator("var", layer.num_features))
    return network.eval().requires_grad_(False)


def by_hand(maps, mean, variance):
    """Means and biased variances channel by channel and value by value."""
    squares_mean = squares_variance = 0.0
    for channel in range(maps.shape[1]):
        values = [float(maps[b, channel, i, j]) for b in range(maps.shape[0]) for i in range(maps.shape[2])
                  for j in range(maps.shape[3])]  # fmt: skip
        centre = sum(values) / len(values)
        spread = sum((value - centre) ** 2 for value in values) / len(values)
        squares_mean += (centre - float(mean[channel])) ** 2
        squares_variance += (spread - float(variance[channel])) ** 2
    return math.sqrt(squares_mean) + math.sqrt(squares_variance)


def test_the_batch_norm_loss_is_a_double_loops():
    network = batch_norm_network()
    images = torch.randn(6, 3, 8, 8, generator=generator("images"), dtype=torch.float64)
    inputs, expected, maps = [], 0.0, images
    for layer in network.features:
        if isinstance(layer, nn.BatchNorm2d):
            inputs.append((maps.clone(), layer))
        maps = layer(maps)
    observed = watched(network)
    observed.network(images)
    distances = observed.notes
    for number, (seen, layer) in enumerate(inputs):
        own = by_hand(seen, layer.running_mean, layer.running_var)
        assert float(distances[number]) == pytest.approx(own, rel=1e-12)
        expected += own * (7.0 if number == 0 else 1.0)
    assert float(weighted_sum(distances, 7.0)) == pytest.approx(expected, rel=1e-12)


def test_its_gradient_is_that_of_finite_differences():
    mean, variance = torch.tensor([0.3, -0.2]).double(), torch.tensor([1.5, 0.7]).double()
    maps = torch.randn(3, 2, 2, 2, generator=generator("maps"), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: statistics_distance(each, mean, variance), maps)


def test_the_teacher_itself_stays_without_hooks_and_shares_its_values():
    network = batch_norm_network()
    observed = watched(network)
    assert not any(layer._forward_hooks or hasattr(layer, "notes") for layer in network.modules())
    pairs = zip(
        network.state_dict(keep_vars=True).values(), observed.network.state_dict(keep_vars=True).values(), strict=True
    )
    assert all(ours is theirs for ours, theirs in pairs)


def test_a_copy_of_a_watched_network_notes_into_its_own_list():
    observed = watched(batch_norm_network())
    other = copy.deepcopy(observed)
    other.network(torch.zeros(2, 3, 8, 8, dtype=torch.float64))
    assert len(other.notes) == sum(isinstance(each, nn.BatchNorm2d) for each in other.modules()) and not observed.notes


@pytest.mark.parametrize("curriculum", ["none", "step", "linear", "cosine"])
@pytest.mark.parametrize("milestone", [0.0, 0.5, 1.0])
def test_the_curriculum_at_its_ends(curriculum, milestone):
    scales = [least_scale(curriculum, step, 100, milestone, 0.08) for step in range(100)]
    whole = curriculum != "none" and milestone > 0
    assert scales[0] == (1.0 if whole else 0.08)
    end = int(100 * milestone)
    assert all(scale == 0.08 for scale in (scales[end:] if whole else scales))
    assert scales == sorted(scales, reverse=True)


def test_the_curriculum_in_its_middle():
    assert least_scale("step", 49, 100, 0.5, 0.08) == 1.0
    assert least_scale("linear", 25, 100, 0.5, 0.08) == pytest.approx(0.54)
    assert least_scale("cosine", 25, 100, 0.5, 0.08) == pytest.approx(0.54)
    assert least_scale("linear", 25, 100, 1.0, 0.08) == pytest.approx(0.08 + 0.92 * 0.75)
    assert least_scale("cosine", 25, 100, 1.0, 0.08) == pytest.approx(0.08 + 0.92 * (1 + math.sqrt(0.5)) / 2)


def test_the_rate_falls_from_whole_to_nothing():
    assert annealed(0.4, 0, 1000) == 0.4
    assert annealed(0.4, 500, 1000) == pytest.approx(0.2)
    assert annealed(0.4, 999, 1000) == pytest.approx(0.0, abs=1e-5)


def test_a_batch_has_one_image_each_of_different_classes():
    batches = class_batches(7, 3, 2)
    assert [batch.tolist() for batch in batches] == [[0, 2, 4], [6, 8, 10], [12], [1, 3, 5], [7, 9, 11], [13]]
    assert [len(batch) for batch in class_batches(1000, 100, 3)] == [100] * 30


def recoveries(source, **fields):
    """A job and its recovery with a network whose batch norms have seen something."""
    job = job_on(source, **fields)
    network = build_network("ConvNetD1W4BN", job.training.shape, 10, generator("net")).eval().requires_grad_(False)
    images = torch.randn(10, 1, 8, 8, generator=generator("start"))
    return Recovery(job, network, torch.arange(10), images, torch.optim.Adam([images]), 0), images


def test_none_and_cosine_differ_in_nothing_but_the_crops(mirrored_source, monkeypatch):
    from distill_bench.augmentations import views

    mirrors, regions, shifts, real_crop, real_mirror = {}, {}, {}, views.crop, views.mirror
    for curriculum in ("none", "cosine"):
        recovery, images = recoveries(mirrored_source, crop=True, curriculum=curriculum)
        seen = {"crop": [], "mirror": [], "roll": []}
        monkeypatch.setattr(views, "crop", lambda r, x, s=seen: (s["crop"].append(r.tolist()), real_crop(r, x))[1])
        monkeypatch.setattr(
            views, "mirror", lambda m, x, s=seen: (s["mirror"].append(m.tolist()), real_mirror(m, x))[1]
        )
        roll = torch.Tensor.roll
        monkeypatch.setattr(torch.Tensor, "roll", lambda x, d, a, s=seen, r=roll: (s["roll"].append(d), r(x, d, a))[1])
        for step in range(4):
            recovery.view(images, step)
        monkeypatch.undo()
        regions[curriculum], mirrors[curriculum], shifts[curriculum] = seen["crop"], seen["mirror"], seen["roll"]
    assert regions["none"] != regions["cosine"]
    assert mirrors["none"] == mirrors["cosine"] and shifts["none"] == shifts["cosine"]
    assert any(m[0] for m in mirrors["none"]) and len({tuple(s) for s in shifts["none"]}) > 1


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("sre2l", {"curriculum": "cosine"}, "curriculum would do nothing.*: `curriculum=none`"),
        ("sre2l", {"milestone": 0.5}, "milestone would do nothing.*: `milestone=1.0`"),
        ("sre2l", {"least_scale": 0.5, "curriculum": "step"}, "curriculum and least_scale would do nothing"),
        ("cda", {}, "curriculum would do nothing.*Set `crop=true`"),
        ("nrr-dd", {"least_scale": 0.5}, "least_scale would do nothing"),
        ("infer", {"least_scale": 0.5}, "least_scale would do nothing"),
    ],
)
def test_without_crops_values_of_crops_are_refused_before_work(digits, method, fields, message):
    with pytest.raises(UsageError, match=message):
        synthesize(digits, method, 2, "test", crop=False, **fields)


@pytest.mark.parametrize("method", ["sre2l", "cda", "nrr-dd", "nrr-dd-distances", "infer"])
def test_no_recipe_has_values_of_crops_without_crops(digits, method):
    recipe = load_method(method).recipe
    for preset, (name, ipc) in [(each, cell) for each in recipe.presets for cell in recipe.tabulated(each)]:
        for side in (8, 32, 64, 224):
            found = load_method(method).config(name or "cifar10", ipc, preset, side)
            of_crops = {"curriculum", "milestone", "least_scale"} & type(found).model_fields.keys()
            check_crops(found.crop, **{field: getattr(found, field) for field in of_crops})


def test_curricula_of_crops_give_different_sets(digits):
    made = [synthesize(digits, "sre2l", 1, crop=True, curriculum=c, **QUICK) for c in ("none", "cosine")]
    assert not torch.equal(made[0].images, made[1].images)


def test_a_real_start_is_the_set_of_random(digits):
    """At no rate to speak of nothing moves: what is recovered are the images of ``random``, in its order."""
    still = QUICK | {"image_lr": 1e-12, "classes_per_batch": 4}
    made = synthesize(digits, "sre2l", 2, seed=3, init="real", **still)
    assert torch.allclose(made.images, synthesize(digits, "random", 2, seed=3).images, atol=1e-6)
    noise = synthesize(digits, "sre2l", 2, seed=3, **still)
    assert "init" not in noise.card.recipe and made.card.recipe["init"] == "real"
    assert not torch.allclose(noise.images, made.images, atol=0.1)


def test_digits_are_not_mirrored(digits):
    recovery, images = recoveries(digits, least_scale=1.0, jitter=0)
    assert all(torch.equal(recovery.view(images, step), images) for step in range(8))


def test_shifts_go_one_way_or_both(digits):
    def shifts(both):
        recovery, _ = recoveries(digits, crop=False, jitter=2, jitter_both_ways=both)
        mark = torch.zeros(1, 1, 8, 8)
        mark[0, 0, 0, 0] = 1
        return {tuple(recovery.view(mark, step)[0, 0].nonzero()[0].tolist()) for step in range(200)}

    assert shifts(False) == {(r, c) for r in range(3) for c in range(3)}
    assert shifts(True) == {(r % 8, c % 8) for r in range(-2, 3) for c in range(-2, 3)}


def test_one_step_is_adam_on_the_loss_by_hand_then_clipped(digits):
    recovery, images = recoveries(digits, crop=False, jitter=0, bn_weight=0.3, first_bn_multiplier=2.0)
    loss, gradients = recovery.loss_and_grads(0)
    leaf = images.clone().requires_grad_()
    logits = recovery._watched.network(leaf)
    first = recovery._watched.network.features[0](leaf)
    norm = recovery._watched.network.features[1]
    mine = nn.functional.cross_entropy(logits, torch.arange(10))
    mine = mine + 0.3 * 2.0 * statistics_distance(first, norm.running_mean, norm.running_var)
    assert loss == pytest.approx(float(mine.detach()), rel=1e-6)
    torch.testing.assert_close(gradients["images"], torch.autograd.grad(mine, leaf)[0])


def test_adams_rate_follows_the_cosine(digits):
    recovery, _ = recoveries(digits, image_lr=0.4, iterations=4)
    rates = []
    for step in range(4):
        recovery.loss_and_grads(step)
        rates.append(recovery._optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.4, 0.2 * (1 + math.sqrt(0.5)), 0.2, 0.2 * (1 - math.sqrt(0.5))])


@pytest.mark.parametrize(
    "field", [{"least_scale": 1.1}, {"milestone": 1.5}, {"record": {"views": {"scale": [0.5, 2.0]}}}], ids=str
)
def test_shares_beyond_the_whole_are_refused(digits, field):
    with pytest.raises(UsageError, match="less than or equal to 1"):
        synthesize(digits, "cda", 1, **QUICK | field)


def test_images_stay_within_valid_pixels(digits):
    made = synthesize(digits, "sre2l", 1, **QUICK | {"image_lr": 100.0})
    mean, std = made.card.pixel_space.mean[0], made.card.pixel_space.std[0]
    assert made.images.min() == pytest.approx(-mean / std) and made.images.max() == pytest.approx((1 - mean) / std)


def test_a_batch_depends_on_no_other(digits):
    """Recovered alone, or as one of several, or of a larger set."""
    whole = synthesize(digits, "sre2l", 2, **QUICK | {"classes_per_batch": 4}).images
    job = job_on(digits, classes_per_batch=4)
    from distill_bench.methods.decoupled.relabel import teacher_of

    alone = recover_batch(job, teacher_of(job).network, torch.tensor([4, 5, 6, 7]), 1)
    assert torch.equal(alone, whole[[8, 10, 12, 14]])


def test_a_teacher_without_batch_norm_is_refused_before_it_is_trained(digits):
    with pytest.raises(UsageError, match=r"ConvNetD1W4 has none\. Give a network such as ConvNetBN"):
        synthesize(digits, "sre2l", 1, **QUICK | {"teacher": {"network": "ConvNetD1W4"}})


def test_all_of_a_stopped_works_files_go_with_the_finished_one(digits, tmp_path):
    kept = Checkpoint(tmp_path / "unfinished.safetensors", every_seconds=0.0)
    synthesize(digits, "sre2l", 2, checkpoint=kept, **QUICK)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2  # a finished batch each
    kept.clear()
    assert not list(tmp_path.iterdir())


def test_batches_that_another_process_recovered_are_taken_over(digits, tmp_path, monkeypatch):
    method, path = load_method("sre2l"), tmp_path / "unfinished.safetensors"
    fields = method.config("digits", 2, **QUICK | {"classes_per_batch": 4})
    losses: list[float] = []
    alone = make_set(digits, method, fields, Budget(2), history=losses)
    other = Checkpoint(path)
    pieces = parts_of(method.function)(new_run(digits, method, fields, Budget(2), checkpoint=other))
    assert len(pieces) == 6
    for piece in reversed(pieces[1:]):
        piece.make()
    spent = other.seconds
    made, taken = Recovery.loss_and_grads, []
    monkeypatch.setattr(Recovery, "loss_and_grads", lambda *told: taken.append(1) or made(*told))
    found: list[float] = []
    checkpoint = Checkpoint(path)
    both = make_set(digits, method, fields, Budget(2), checkpoint=checkpoint, history=found)
    assert 0 < checkpoint._earlier <= spent  # counted once, whoever spent it
    assert len(taken) == fields.iterations and both.sha256 == alone.sha256 and found == losses


def test_all_batches_are_one_stage(digits, monkeypatch):
    """So that the time left is that of all of them."""
    stages = []

    class Counts(SilentMonitor):
        @contextmanager
        def stage(self, title, total, done=0):
            stages.append([title, total, done])
            yield self

        def advance(self, steps=1):
            stages[-1][2] += steps

        def note(self, text): ...

    synthesize(digits, "sre2l", 3, monitor=Counts(), **QUICK | {"labels": "hard", "classes_per_batch": 4})
    assert stages[-1] == ["sre2l, ipc 3, seed 0", 9 * 4, 9 * 4]


def test_the_papers_values():
    fields = {name: [load_method(name).config(d, 50) for d in ("tiny_imagenet", "imagenet", "cifar100")]
              for name in ("sre2l", "cda")}  # fmt: skip
    assert [(f.image_lr, f.bn_weight, f.iterations, f.jitter, f.curriculum, f.crop) for f in fields["cda"][:2]] == [
        (0.4, 0.05, 4000, 4, "cosine", True), (0.25, 0.01, 4000, 32, "cosine", True),
    ]  # fmt: skip
    assert [(f.image_lr, f.bn_weight, f.iterations, f.jitter, f.curriculum, f.crop) for f in fields["sre2l"]] == [
        (0.1, 1.0, 4000, 4, "none", True), (0.25, 0.01, 4000, 32, "none", True), (0.25, 0.01, 1000, 4, "none", False),
    ]  # fmt: skip
    assert [f.jitter_both_ways for f in fields["sre2l"]] == [True, False, False]
    assert {(f.image_betas, f.first_bn_multiplier, f.milestone) for each in fields.values() for f in each} == {
        ((0.5, 0.9), 10.0, 1.0)
    }


@pytest.mark.parametrize("method", ["sre2l", "cda"])
def test_a_shift_larger_than_the_images_is_refused_before_any_work(digits, method):
    complaint = r"jitter 9 shifts images of digits by more than their 8×8 px\. .*`jitter=8` or less"
    with pytest.raises(UsageError, match=complaint):
        synthesize(digits, method, 1, **QUICK | {"jitter": 9})
    synthesize(digits, method, 1, **QUICK | {"jitter": 8, "iterations": 1, "labels": "hard"})


def test_the_shorter_side_bounds_the_shift():
    pixels = torch.zeros(2, 1, 8, 12, dtype=torch.uint8)
    wide = Dataset("folder:wide", ("a", "b"), lambda: Split(pixels, torch.arange(2)), None, False)
    with pytest.raises(UsageError, match=r"8×12 px\. .*jitter=8"):
        job_on(wide, jitter=10).config.check(wide)
