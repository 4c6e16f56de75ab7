"""Images that hold smaller ones: taken apart as by hand, stored once, shown f² times, refused where they cannot be."""

import pytest
import torch
from matching_oracles import COMMON, IPC, check_slopes, dm_objective, draws_of, network_of, run_of, signals_of, start
from torch.nn import functional as F

from distill_bench import DistilledSet, evaluate, load_distilled, synthesize
from distill_bench.augmentations import dsa
from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.distilled.card import INDICES, TARGETS
from distill_bench.distilled.formation import composed, decoded, formation_trouble, grey
from distill_bench.errors import DataError, UsageError
from distill_bench.evaluation import PROTOCOLS, load_protocol
from distill_bench.evaluation.evaluate import prepare
from distill_bench.hub import export
from distill_bench.methods.mean_matching.mean_matching import MeanMatchingConfig, class_means, mean_distance
from distill_bench.runtime.seeds import generator

QUICK = {"iterations": 2, "real_batch": 4, "network": "ConvNetD1W4"}


def images(count=8, height=8, width=8, channels=2):
    return torch.randn(count, channels, height, width, generator=generator("formation"), dtype=torch.float64)


def enlarged_by_hand(part, height, width):
    """Bilinear, pixels at the middles of their squares, the border repeated: value by value."""
    tall, wide = part.shape
    large = torch.zeros(height, width, dtype=part.dtype)

    def between(place, length, side):
        at = min(max((place + 0.5) * length / side - 0.5, 0), length - 1)
        low = min(int(at), length - 1)
        return low, min(low + 1, length - 1), at - low

    for y in range(height):
        for x in range(width):
            (top, bottom, down), (left, right, across) = between(y, tall, height), between(x, wide, width)
            upper = (1 - across) * part[top, left] + across * part[top, right]
            lower = (1 - across) * part[bottom, left] + across * part[bottom, right]
            large[y, x] = (1 - down) * upper + down * lower
    return large


@pytest.mark.parametrize(("factor", "height", "width"), [(2, 8, 6), (2, 5, 7), (3, 7, 6)])
def test_an_image_is_cut_row_by_row_and_every_part_enlarged_as_by_hand(factor, height, width):
    stored, fill = images(2, height, width), torch.tensor([0.25, -3.0])
    found = decoded(stored, factor, fill)
    tall, wide = -(-height // factor), -(-width // factor)
    filled = fill.double().view(1, 2, 1, 1).repeat(2, 1, factor * tall, factor * wide)
    filled[:, :, :height, :width] = stored
    assert found.shape == (2 * factor**2, 2, height, width)
    for index, image in enumerate(found):
        row, column = divmod(index % factor**2, factor)
        part = filled[index // factor**2, :, row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
        by_hand = torch.stack([enlarged_by_hand(channel, height, width) for channel in part])
        torch.testing.assert_close(image, by_hand, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_what_is_put_together_comes_apart_as_its_resized_parts(factor):
    parts = images(3 * factor**2)
    small = F.interpolate(parts, size=8 // factor, mode="bilinear", antialias=True)
    stored = composed(parts, factor)
    assert stored.shape == (3, 2, 8, 8)
    assert torch.equal(decoded(stored, factor, torch.zeros(2)), F.interpolate(small, size=8, mode="bilinear"))
    if factor == 1:
        assert stored is parts and decoded(parts, 1, torch.zeros(2)) is parts


def test_parts_of_a_side_that_the_factor_does_not_divide_are_cut_at_the_edge():
    parts = images(4, 5, 5)
    small = F.interpolate(parts, size=3, mode="bilinear", antialias=True)
    whole = torch.cat([torch.cat([*small[:2]], dim=2), torch.cat([*small[2:]], dim=2)], dim=1)
    assert torch.equal(composed(parts, 2)[0], whole[:, :5, :5])


def test_grey_is_half_of_white_in_every_space(digits):
    assert grey(PixelSpace(kind="unit", mean=(0.2, 0.3), std=(1.0, 0.5))).tolist() == [0.5, 0.5]
    normalized = PixelSpace(kind="normalized", mean=(0.25, 0.0), std=(0.5, 0.25))
    assert grey(normalized).tolist() == [0.5, 2.0]


# --- sets


def made(digits, pixels=None, **more):
    pixels = images(20, channels=1).float() if pixels is None else pixels
    return DistilledSet.from_tensors(pixels, torch.arange(10).repeat_interleave(2), digits, formation=2, **more)


def test_a_set_stores_and_counts_its_images_and_shows_what_they_hold(digits, tmp_path):
    soft = torch.randn(20, 10, generator=generator("soft"))
    one = made(digits, soft_labels=soft)
    one.save(tmp_path / "set.safetensors")
    again = load_distilled(tmp_path / "set.safetensors")
    assert (again.card.formation, again.card.ipc, again.sha256) == (2, 2, one.sha256)
    assert again.nbytes == 20 * (64 * 4 + 8 + 10 * 4)
    shown = again.shown()
    assert torch.equal(shown.images, decoded(one.images, 2, torch.zeros(1)))
    assert torch.equal(shown.labels, torch.arange(10).repeat_interleave(8))
    assert torch.equal(shown.soft_labels, soft.repeat_interleave(4, dim=0))
    table = again.to_dataset()
    assert all(torch.equal(*pair) for pair in zip(table.tensors, (shown.images, shown.soft_labels), strict=True))
    assert b"formation" not in DistilledSet(one.images, one.labels, digits_card(one, 1), soft_labels=soft).to_bytes()


def digits_card(one, formation):
    return one.card.model_copy(update={"formation": formation})


def test_pictures_are_encoded_and_then_taken_apart(digits):
    pictures = torch.randint(256, (20, 1, 8, 8), generator=generator("pictures"), dtype=torch.uint8)
    encoded = (pictures.float() / 255 - torch.tensor(digits.mean)) / torch.tensor(digits.std)
    shown = made(digits, pictures, pixel_space="normalized").shown()
    torch.testing.assert_close(shown.images, decoded(encoded, 2, torch.zeros(1)))


def test_a_set_of_one_image_each_is_shown_as_it_is_stored(digits):
    one = DistilledSet(*[(plain := made(digits)).images, plain.labels, digits_card(plain, 1)])
    assert one.shown().images is one.images and torch.equal(one.shown().labels, one.labels)


@pytest.mark.parametrize("labels", ["stored", "hard"])
def test_networks_are_trained_on_what_is_shown(digits, labels):
    one = made(digits, soft_labels=torch.randn(20, 10, generator=generator("soft")))
    _, inputs, _ = prepare(one, digits, "datm-v1+no-augmentation", labels=labels)
    seen, targets = inputs.batches(0, torch.arange(80), generator("unused"))
    assert inputs.count == 80
    assert torch.equal(seen, one.shown().images)
    wanted = one.shown().labels if labels == "hard" else one.shown().soft_labels.softmax(dim=1)
    assert torch.equal(targets, wanted)


@pytest.mark.parametrize("name", ["quick-v1", "standard-v1", "dsa-v1", "datm-v1"])
@pytest.mark.parametrize("ipc", [1, 10, 50])
def test_steps_are_those_of_the_stored_images_and_the_rate_falls_at_the_same_part_of_them(name, ipc):
    rules, images = load_protocol(name), 10 * ipc
    plain, four = rules.plan(images, classes=10), rules.plan(images, classes=10, shown=4 * images)

    def steps(count, plan):
        return -(-count // plan.batch_size) * plan.epochs

    assert four.batch_size == plain.batch_size
    assert steps(images, plain) <= steps(4 * images, four) < steps(images, plain) + -(-4 * images // four.batch_size)
    assert abs(four.decay_after / four.epochs - plain.decay_after / plain.epochs) < 1 / four.epochs


def test_a_result_has_both_numbers_and_one_of_whole_images_has_one(digits, monkeypatch):
    short = {"epochs": 1, "networks": 1, "network": "MLP"}
    monkeypatch.setitem(PROTOCOLS, "quick-v1", load_protocol("quick-v1").model_copy(update=short))
    result = evaluate(one := made(digits), digits, "quick-v1")
    assert (result.ipc, result.images, result.shown, result.bytes) == (2, 20, 80, one.nbytes)
    plain = evaluate(DistilledSet(one.images, one.labels, digits_card(one, 1)), digits, "quick-v1")
    assert "shown" not in plain.model_dump()


def test_what_cannot_hold_smaller_images_is_refused(digits, tmp_path):
    with pytest.raises(
        DataError, match="do not hold 9×9 smaller ones of which each has pixels: give one of 1, 2, 3, 4, 8"
    ):
        DistilledSet((one := made(digits)).images, one.labels, digits_card(one, 9))
    with pytest.raises(DataError, match="whole images are whitened"):
        made(digits, pixel_space="zca")
    for kind, name, values in (
        ("hard", INDICES, torch.arange(20, dtype=torch.int32)),
        ("targets", TARGETS, one.images[:, 0, 0]),
    ):
        card = one.card.model_copy(update={"label_kind": kind})
        with pytest.raises(DataError, match=f"{name} belong to whole images"):
            DistilledSet(one.images, one.labels, card, stored={name: values})
    with pytest.raises(UsageError, match="to_dataset gives the images"):
        one.to_hf()
    with pytest.raises(UsageError, match="each image holds 2×2 smaller ones"):
        export([one], "res", tmp_path / "x.pt")


@pytest.mark.parametrize(("height", "width"), [(8, 8), (8, 6), (32, 32), (5, 7)])
def test_just_those_factors_are_refused_at_which_a_shown_image_would_be_filler_alone(height, width):
    stored, space = torch.zeros(1, 1, height, width), PixelSpace(kind="unit", mean=(0.0,), std=(1.0,))
    for factor in range(1, max(height, width) + 2):
        shown = decoded(stored, factor, torch.ones(1))
        empty = bool((shown.amin(dim=(1, 2, 3)) > 0).any())
        assert (formation_trouble(factor, height, width, space) is not None) == empty, factor


def test_a_factor_that_leaves_shown_images_empty_is_refused_before_work_with_those_that_do_not(digits):
    with pytest.raises(UsageError, match=r"`formation=5`: images of 8×8 pixels .*: give one of 1, 2, 3, 4, 8"):
        synthesize(digits, "random", ipc=1, formation=5)


# --- methods


@pytest.mark.parametrize("method", ["random", "dm", "datadam"])
@pytest.mark.usefixtures("global_rng_untouched")
def test_methods_make_stored_images_of_four_real_ones_each(digits, method):
    fields = {} if method == "random" else QUICK | {"network": "ConvNetD2W4"}
    one = synthesize(digits, method, ipc=3, formation=2, **fields)
    assert (one.images.shape, one.card.ipc, one.card.formation) == ((30, 1, 8, 8), 3, 2)
    assert one.card.recipe["formation"] == 2
    assert "formation" not in synthesize(digits, method, ipc=3, **fields).card.recipe
    assert one.sha256 == synthesize(digits, method, ipc=3, formation=2, **fields).sha256


def test_random_puts_together_the_first_of_the_images_that_it_would_draw(digits):
    four = synthesize(digits, "random", ipc=1, formation=2)
    whole = synthesize(digits, "random", ipc=4)
    assert torch.equal(four.images, composed(whole.images, 2))


def test_too_few_real_images_a_whitened_space_and_a_fraction_are_refused_before_work(digits):
    with pytest.raises(UsageError, match=r"takes 140 of a class at ipc 35; digits has a class of 139\. Give `ipc=34`"):
        synthesize(digits, "random", ipc=35, formation=2)
    with pytest.raises(UsageError, match="whole images are whitened"):
        synthesize(digits, "random", ipc=1, formation=2, pixel_space="zca")
    with pytest.raises(UsageError, match="leave `formation` out"):
        synthesize(digits, "random", fraction=0.1, formation=2)
    assert len(synthesize(digits, "dm", ipc=35, formation=2, init="noise", **QUICK | {"iterations": 1}).images) == 350


def test_synthesis_goes_on_from_a_set_of_the_same_formation_alone(digits, tmp_path):
    path = tmp_path / "begun.safetensors"
    synthesize(digits, "random", ipc=1, formation=2).save(path)
    assert synthesize(digits, "dm", ipc=1, formation=2, init=str(path), **QUICK).card.formation == 2
    with pytest.raises(UsageError, match="Different are its formation"):
        synthesize(digits, "dm", ipc=1, init=str(path), **QUICK)


@pytest.mark.parametrize("chunk", [0, 3])
def test_the_gradient_of_stored_images_is_that_of_the_means_of_what_they_show(chunk):
    job = run_of(MeanMatchingConfig(**COMMON, network="ConvNetD1W4ASwish", augment="dsa", formation=2, chunk=chunk))
    stored = start()
    objective = dm_objective(job, stored)
    objective._passes.take(0)
    objective._passes.network = network = network_of("ConvNetD1W4ASwish")
    objective._passes.take = lambda step: signals_of(objective, network)

    def loss(pixels):
        means, target = [], []
        for own, (real, drawn) in zip(pixels.split(IPC), draws_of(job, 0), strict=True):
            small = [image[:, y : y + 3, x : x + 3] for image in own for y in (0, 3) for x in (0, 3)]
            large = F.interpolate(torch.stack(small), size=6, mode="bilinear", align_corners=False)
            means.append(class_means(network.embed(dsa.apply(drawn, large)), [4 * IPC])[0])
            target.append(network.embed(dsa.apply(drawn, real)).mean(dim=0))
        return mean_distance(torch.stack(means), torch.stack(target))

    value, gradients = objective.loss_and_grads(0)
    torch.testing.assert_close(value, loss(stored), rtol=1e-10, atol=0)
    check_slopes(loss, stored, gradients["images"])
