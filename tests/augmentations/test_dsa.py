"""Differentiable siamese augmentation against NumPy image by image, SciPy's sampler and kornia's geometry."""

import math
from collections import Counter

import kornia.geometry.transform as kornia_transform
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torch.autograd import gradcheck
from torch.nn import functional as F

from distill_bench.augmentations.dsa import (
    OPERATIONS,
    Sample,
    apply,
    augmentation,
    sample,
    sample_several,
    usual_operations,
)
from distill_bench.runtime.seeds import generator


def batch(count=6, shape=(3, 8, 8), name="images"):
    return torch.randn(count, *shape, generator=generator(name), dtype=torch.float64)


def draw(operation, count, shape=(3, 8, 8), seed=0):
    return sample((operation,), count, shape, generator("draw", seed))


# ---- each operation by hand: image [c, h, w] float64, parameters of that image


def color(image, brightness, saturation, contrast):
    image = image + (brightness - 0.5) * 1.0
    grey = sum(image) / len(image)
    image = np.stack([(plane - grey) * (2.0 * saturation) + grey for plane in image])
    level = image.sum() / image.size
    return (image - level) * (contrast + 0.5) + level


def crop(image, down, right):
    result = np.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row + down < height and 0 <= column + right < width:
                result[:, row, column] = image[:, row + down, column + right]
    return result


def cutout(image, row, column):
    result = image.copy()
    _, height, width = image.shape
    tall, wide = int(0.5 * height + 0.5), int(0.5 * width + 0.5)
    for y in range(row - tall // 2, row - tall // 2 + tall):
        for x in range(column - wide // 2, column - wide // 2 + wide):
            if 0 <= y < height and 0 <= x < width:
                result[:, y, x] = 0
    return result


def flip(image, flip):
    return image[:, :, ::-1].copy() if flip else image


def warp(image, matrix):
    """Output pixel (x, y) shows input pixel matrix · (x, y), both from -1 to 1 at the outer edges of the image."""
    _, height, width = image.shape
    y, x = np.meshgrid(*((2 * np.arange(side) + 1) / side - 1 for side in (height, width)), indexing="ij")
    x, y = (row[0] * x + row[1] * y for row in matrix)
    places = [((y + 1) * height - 1) / 2, ((x + 1) * width - 1) / 2]
    return np.stack([map_coordinates(plane, places, order=1, mode="grid-constant", cval=0.0) for plane in image])


def scale(image, x, y):
    return warp(image, [[x, 0], [0, y]])


def rotate(image, angle):
    return warp(image, [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


BY_HAND = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}


def by_hand(drawn, images):
    columns = {name: value.tolist() for name, value in drawn.values.items()}
    rows = [
        BY_HAND[drawn.operation](image, **{name: value[i % len(value)] for name, value in columns.items()})
        for i, image in enumerate(images.numpy())
    ]
    return torch.from_numpy(np.stack(rows))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 7), (3, 9, 12)], ids=["8", "7, grey", "9 × 12"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_does_what_it_does_by_hand(operation, shape):
    for seed in range(5):
        images, drawn = batch(shape=shape, name=str(seed)), draw(operation, 6, shape, seed)
        # parameters are drawn in float32
        torch.testing.assert_close(apply(drawn, images), by_hand(drawn, images), rtol=0, atol=2e-6)


def test_every_shift_is_an_exact_slice_of_the_padded_image():
    images = batch(2, (3, 8, 11))
    padded = torch.nn.functional.pad(images, (9, 9, 9, 9))
    for down in range(-9, 10):
        for right in range(-9, 10):
            drawn = Sample("crop", {"down": torch.tensor([down]), "right": torch.tensor([right])})
            expected = padded[:, :, 9 + down : 17 + down, 9 + right : 20 + right]
            assert torch.equal(apply(drawn, images), expected)


@pytest.mark.parametrize("side", [7, 8])
def test_cutout_at_every_centre_borders_included(side):
    images = batch(1, (2, side, side)) + 10  # nowhere zero of itself
    for row in range(side + 1):
        for column in range(side + 1):
            drawn = Sample("cutout", {"row": torch.tensor([row]), "column": torch.tensor([column])})
            assert torch.equal(apply(drawn, images), by_hand(drawn, images))


@pytest.mark.parametrize("side", [8, 32])
def test_scaling_and_rotating_are_kornias(side):
    images = batch(40, (3, side, side))
    by_factors = draw("scale", 40)
    factors = torch.stack([by_factors.values["x"], by_factors.values["y"]], dim=1).double()
    expected = kornia_transform.scale(images, 1 / factors, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(apply(by_factors, images), expected, rtol=0, atol=1e-5)

    by_angle = draw("rotate", 40)
    degrees = torch.rad2deg(by_angle.values["angle"].double())  # anti-clockwise
    expected = kornia_transform.rotate(images, degrees, padding_mode="zeros", align_corners=False)
    torch.testing.assert_close(apply(by_angle, images), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "alike"),
    [((8, 8), True), ((28, 28), True), ((32, 32), True), ((32, 48), False), ((64, 48), False)],
)
def test_aligned_corners_as_torch_1_2_had_them_turn_square_images_alike_and_others_not(shape, alike):
    images, angle = batch(20, (3, *shape)), torch.tensor([math.radians(15.0)])

    def aligned(rows):
        grid = F.affine_grid(torch.tensor([rows]).double().expand(20, 2, 3), list(images.shape), align_corners=True)
        return F.grid_sample(images, grid, align_corners=True)

    then = aligned([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]])
    now = apply(Sample("rotate", {"angle": angle}), images)
    assert (float((now - then).norm() / then.norm()) < 1e-5) == alike
    scaled = apply(Sample("scale", {"x": torch.tensor([1.1]), "y": torch.tensor([0.9])}), images)
    torch.testing.assert_close(scaled, aligned([[1.1, 0, 0], [0, 0.9, 0]]), rtol=0, atol=1e-5)


@pytest.mark.parametrize("side", [8, 28, 32])
def test_neutral_parameters_change_nothing(side):
    images, one, zero = batch(2, (3, side, side)), torch.ones(1), torch.zeros(1, dtype=torch.int64)
    half = torch.full((1,), 0.5)
    for operation, values in {
        "scale": {"x": one, "y": one},
        "rotate": {"angle": torch.zeros(1)},
        "color": {"brightness": half, "saturation": half, "contrast": half},
        "crop": {"down": zero, "right": zero},
        "flip": {"flip": zero.bool()},
    }.items():
        torch.testing.assert_close(apply(Sample(operation, values), images), images, rtol=0, atol=1e-12)


# ---- what is drawn

REACH = {8: 1, 28: 4, 32: 4, 64: 8}
HOLE = {8: 4, 28: 14, 32: 16, 64: 32}


@pytest.mark.parametrize("side", REACH)
def test_shifts_and_holes_reach_as_far_as_in_the_original_and_no_further(side):
    count = 4000
    shifts = draw("crop", count, (3, side, side)).values
    for values in shifts.values():
        assert sorted(set(values.tolist())) == list(range(-REACH[side], REACH[side] + 1))
    assert abs(np.corrcoef(shifts["down"], shifts["right"])[0, 1]) < 0.06
    centres = draw("cutout", count, (3, side, side)).values
    for values in centres.values():
        assert sorted(set(values.tolist())) == list(range(side + 1))  # an even hole's centre may be the far edge
    middle = Sample("cutout", {"row": torch.tensor([side // 2]), "column": torch.tensor([side // 2])})
    assert int((apply(middle, torch.ones(1, 1, side, side)) == 0).sum()) == HOLE[side] ** 2


def test_an_odd_hole_is_centred_on_a_pixel():
    assert set(draw("cutout", 2000, (1, 9, 9)).values["row"].tolist()) == set(range(9))
    assert set(draw("cutout", 2000, (1, 9, 8)).values["column"].tolist()) == set(range(9))


def test_tall_images_are_shifted_and_cut_by_their_own_sides():
    shifts = draw("crop", 2000, (3, 64, 32)).values
    assert (shifts["down"].max(), shifts["right"].max()) == (8, 4)
    centres = draw("cutout", 4000, (3, 64, 32)).values
    assert (centres["row"].max(), centres["column"].max()) == (64, 32)


@pytest.mark.parametrize(
    ("operation", "low", "high"), [("color", 0, 1), ("scale", 1 / 1.2, 1.2), ("rotate", -math.pi / 12, math.pi / 12)]
)
def test_continuous_parameters_are_uniform_over_their_range(operation, low, high):
    count = 5000
    drawn = draw(operation, count)
    assert len(drawn.values) == {"color": 3, "scale": 2, "rotate": 1}[operation]
    for values in drawn.values.values():
        # Kolmogorov-Smirnov at about 0.1 %; the ends are reached to within 0.2 % of the range
        places = (values.double().sort().values - low) / (high - low)
        assert -1e-6 <= places[0] < 0.002 and 0.998 < places[-1] <= 1 + 1e-6
        assert (places - torch.arange(count) / count).abs().max() < 1.95 / math.sqrt(count)
    columns = list(drawn.values.values())
    for i, first in enumerate(columns):
        for second in columns[:i]:
            assert abs(np.corrcoef(first, second)[0, 1]) < 0.06


def test_half_of_the_images_are_flipped():
    assert draw("flip", 4000).values["flip"].float().mean().item() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("flip_invariant", [True, False])
def test_operations_are_drawn_uniformly(flip_invariant):
    operations, draws, count = usual_operations(flip_invariant), generator("operations"), 480
    seen = Counter(sample(operations, 1, (1, 8, 8), draws).operation for _ in range(count))
    expected = count / len(operations)
    assert sum((seen[name] - expected) ** 2 / expected for name in operations) < 20.5  # chi-squared, 0.1 %
    assert set(seen) == set(operations)


def test_the_usual_operations_are_six_or_the_five_without_flip():
    assert usual_operations(True) == ("color", "crop", "cutout", "flip", "scale", "rotate")
    assert usual_operations(False) == ("color", "crop", "cutout", "scale", "rotate")


# ---- several operations a batch


def test_several_are_colour_the_mirror_one_that_moves_pixels_and_cutout():
    drawn = [sample_several(OPERATIONS, 6, (3, 8, 8), generator("several", seed)) for seed in range(300)]
    always = {(each[0].operation, each[1].operation, each[3].operation) for each in drawn}
    assert always == {("color", "flip", "cutout")}
    counts = Counter(each[2].operation for each in drawn)
    assert {len(each) for each in drawn} == {4} and set(counts) == {"crop", "scale", "rotate"}
    assert all(70 < count < 130 for count in counts.values())


def test_only_operations_that_are_asked_for_are_drawn():
    kinds = [tuple(one.operation for one in sample_several(among, 2, (1, 8, 8), generator("x"))) for among in
             (("flip",), ("color", "rotate"), ("scale",))]  # fmt: skip
    assert kinds == [("flip",), ("color", "rotate"), ("scale",)]


def test_networks_are_shown_every_image_after_all_of_them():
    """Against the operations by hand, one after the other, each image with parameters of its own."""
    images = batch()
    shown = augmentation(True, among=("color", "flip", "crop"), several=True)(images, generator("draw"))
    drawn = sample_several(("color", "flip", "crop"), 6, (3, 8, 8), generator("draw"))
    for index, image in enumerate(images.numpy()):
        for one, by_hand in zip(drawn, (color, flip, crop), strict=True):
            image = by_hand(image, **{name: value[index].item() for name, value in one.values.items()})
        np.testing.assert_allclose(shown[index], image, atol=1e-6)
    assert augmentation(False, several=True)(images, generator("draw")).shape == images.shape


# ---- siamese or not


@pytest.mark.parametrize("operation", OPERATIONS)
def test_one_sample_does_the_same_to_batches_of_any_size(operation):
    for seed in range(4):
        drawn = draw(operation, 1, seed=seed)
        real, synthetic = batch(7, name="real"), batch(2, name="synthetic")
        together = torch.cat([apply(drawn, real), apply(drawn, synthetic)])
        alone = [apply(drawn, image[None]) for image in torch.cat([real, synthetic])]
        torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_sample_for_a_batch_treats_every_image_by_itself(operation):
    images, drawn = batch(1).expand(24, -1, -1, -1), draw(operation, 24)
    results = apply(drawn, images)
    # equal images come out different, in as many ways as there are parameters
    assert len({tuple(image.flatten().tolist()) for image in results}) == (
        2 if operation == "flip" else pytest.approx(24, abs=16)
    )
    for index in range(24):
        own = Sample(operation, {name: value[index : index + 1] for name, value in drawn.values.items()})
        torch.testing.assert_close(results[index], apply(own, images[:1])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_gradient_is_that_of_the_operation(operation):
    for count in (1, 2):
        images = batch(2, (2, 5, 5)).requires_grad_()
        drawn = draw(operation, count, (2, 5, 5), seed=3)
        assert gradcheck(lambda x, drawn=drawn: apply(drawn, x), images)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_images_keep_their_type_and_are_not_changed_in_place(operation):
    images = batch().float()
    before = images.clone()
    result = apply(draw(operation, 6), images)
    assert result.dtype == torch.float32 and result.shape == images.shape
    assert torch.equal(images, before)


def test_equal_generators_draw_equal_samples():
    first, second = (sample(OPERATIONS, 5, (3, 32, 32), generator("x", 1)) for _ in range(2))
    assert first.operation == second.operation
    assert all(torch.equal(first.values[name], second.values[name]) for name in first.values)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_global_generator_is_left_alone():
    for operation in OPERATIONS:
        apply(draw(operation, 6), batch())
