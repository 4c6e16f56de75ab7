"""The augmentation of DC's evaluation: not differentiable, one operation an image."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from distill_bench.augmentations.dc import augment
from distill_bench.runtime.seeds import generator

OPERATIONS = ("crop", "scale", "rotate")


def batch(count=64, shape=(2, 16, 12)):
    """Images whose channels have means far from 0 and from each other."""
    shift = torch.tensor([3.0, -5.0]).view(1, -1, 1, 1)
    return torch.randn(count, *shape, generator=generator("images")) + shift


def filled(images):
    return images.mean(dim=(0, 2, 3)).numpy()


def every_shift(image, fill, reach):
    """By (down, right): the image with so many rows and columns gone from its top and left, filled at the other end."""
    _, height, width = image.shape
    canvas = np.broadcast_to(fill[:, None, None], (len(fill), height + 2 * reach, width + 2 * reach)).copy()
    canvas[:, reach : reach + height, reach : reach + width] = image
    span = range(-reach, reach + 1)
    return {
        (down, right): canvas[:, reach + down : reach + down + height, reach + right : reach + right + width]
        for down in span
        for right in span
    }


def found(image, candidates):
    """The keys of the candidates that equal the image to 1e-4 (a bilinear warp lands on pixels to within rounding)."""
    return [key for key, value in candidates.items() if np.abs(value - image.numpy()).max() < 1e-4]


def test_a_crop_is_a_whole_shift_filled_with_the_channels_mean():
    images = batch(400)
    fill, results = filled(images), augment(images, ("crop",), generator("x"))
    seen = []
    for image, result in zip(images.numpy(), results, strict=True):
        (shift,) = found(result, every_shift(image, fill, 5))
        seen.append(shift)
    # a permutation of 8 places in the original: from -4 to 3, both ways
    for values in zip(*seen, strict=True):
        assert sorted(set(values)) == list(range(-4, 4))
    assert abs(np.corrcoef(np.array(seen).T)[0, 1]) < 0.2


def scaled(image, fill, y, x):
    """``image`` magnified by y and x about its centre, bilinear."""
    places = []
    for factor, side in zip((y, x), image.shape[1:], strict=True):
        places.append((np.arange(side) - (side - 1) / 2) / factor + (side - 1) / 2)
    grid = np.meshgrid(*places, indexing="ij")
    planes = [map_coordinates(p, grid, order=1, mode="grid-constant", cval=f) for p, f in zip(image, fill, strict=True)]
    return np.stack(planes)


def ramps(count, height=17, width=17):
    """The horizontal and the vertical place of every pixel from its image's centre, as two channels: mean 0."""
    y, x = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    return torch.stack([x, y]).float().expand(count, -1, -1, -1)


def test_scaling_is_bilinear_about_the_centre_by_independent_factors_from_0_8_to_1_2():
    images = ramps(1000)
    results = augment(images, ("scale",), generator("x"))
    # beside the centre a ramp shows what 1 pixel was: 1 / factor
    factors = torch.stack([1 / results[:, 1, 9, 8], 1 / results[:, 0, 8, 9]])
    assert 0.8 - 1e-4 < factors.min() < 0.802 and 1.198 < factors.max() < 1.2 + 1e-4
    assert factors.mean(dim=1).tolist() == pytest.approx([1.0, 1.0], abs=0.015)
    assert abs(np.corrcoef(factors)[0, 1]) < 0.1
    fill = np.zeros(2)
    for index in range(20):
        expected = scaled(images[index].numpy(), fill, *factors[:, index].tolist())
        torch.testing.assert_close(results[index], torch.from_numpy(expected).float(), rtol=0, atol=1e-3)


def test_rotation_is_by_angles_up_to_45_degrees_about_the_centre():
    images = ramps(1000)
    results = augment(images, ("rotate",), generator("x"))
    x, y = results[:, 0, 8, 9], results[:, 1, 8, 9]  # where the pixel right of the centre came from
    torch.testing.assert_close(x.square() + y.square(), torch.ones(1000), rtol=0, atol=1e-4)
    angles = torch.rad2deg(torch.atan2(y, x))
    # whole degrees of numpy's randint in the original: the upper end is left out
    torch.testing.assert_close(angles, angles.round(), rtol=0, atol=0.01)
    assert set(angles.round().int().tolist()) == set(range(-45, 45))
    assert angles.std().item() == pytest.approx(90 / math.sqrt(12), rel=0.05)
    for index in range(20):
        angle = math.radians(float(angles[index]))
        down, right = np.meshgrid(np.arange(17) - 8, np.arange(17) - 8, indexing="ij")
        places = [
            8 + math.sin(angle) * right + math.cos(angle) * down,
            8 + math.cos(angle) * right - math.sin(angle) * down,
        ]
        expected = [map_coordinates(p, places, order=1, mode="grid-constant") for p in images[index].numpy()]
        torch.testing.assert_close(results[index], torch.from_numpy(np.stack(expected)), rtol=0, atol=2e-3)


def test_what_scaling_and_rotating_bare_is_zero_and_the_mean_of_the_channels_means():
    images = batch()
    fills = {"scale": 0.0, "rotate": float(filled(images).mean())}
    for operation, fill in fills.items():
        corners = augment(images, (operation,), generator("x"))[:, :, 0, 0]
        bare = (corners - fill).abs().amax(dim=1) < 1e-5
        assert 10 < int(bare.sum()) < 64


def test_every_image_undergoes_one_operation_drawn_uniformly():
    images, count = batch(600, (2, 8, 8)), 600
    fill, results = filled(images), augment(images, ("crop", "scale"), generator("x"))
    cropped = sum(len(found(r, every_shift(i, fill, 4))) > 0 for i, r in zip(images.numpy(), results, strict=True))
    assert abs(cropped - count / 2) < 4 * math.sqrt(count) / 2


def test_an_image_is_not_disturbed_by_the_others_but_by_the_mean_that_fills():
    images = batch(8)
    first = augment(images, ("crop",), generator("x"))
    changed = images.clone()
    changed[0] = images[0].flip(2)  # the same mean
    second = augment(changed, ("crop",), generator("x"))
    torch.testing.assert_close(second[1:], first[1:], rtol=0, atol=1e-5)
    assert not torch.allclose(second[0], first[0])


def test_the_generator_decides_and_the_images_given_are_left_as_they_are():
    images = batch()
    before = images.clone()
    first, again, other = (augment(images, OPERATIONS, generator("x", seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(images, before)


@pytest.mark.usefixtures("global_rng_untouched")
def test_the_global_generator_is_left_alone():
    augment(batch(), OPERATIONS, generator("x"))
