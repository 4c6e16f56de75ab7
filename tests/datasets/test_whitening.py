"""Whitening against an eigendecomposition in float64, its cache, and the way into each pixel space and back."""

import numpy as np
import pytest
import torch

from distill_bench.datasets import Dataset, Split, whitening
from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.datasets.whitening import fit_whitening, whitening_of
from distill_bench.runtime.seeds import generator

SHAPE = (2, 4, 3)
STATISTICS = ((0.4, 0.6), (0.2, 0.3))


def split(count=60, seed=0):
    # neighbouring pixels alike, so that there is something to whiten
    pixels = torch.randn(count, *SHAPE, generator=generator("pixels", seed)).cumsum(dim=2) * 30 + 128
    return Split(pixels.clamp(0, 255).to(torch.uint8), torch.arange(count) % 3)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    return Dataset("made", ("a", "b", "c"), split, lambda: split(20, 1), flip_invariant=True, constants=STATISTICS)


def explicit(images, eps):
    """(mean, W, its inverse) by methods.md: S = XᵀX/(n − 1) = U diag(s) Uᵀ, W = U diag(1/√(s + eps)) Uᵀ."""
    rows = images.double().flatten(1).numpy()
    mean = rows.sum(axis=0) / len(rows)
    values, vectors = np.linalg.eigh((rows - mean).T @ (rows - mean) / (len(rows) - 1))
    return mean, vectors / np.sqrt(values + eps) @ vectors.T, vectors * np.sqrt(values + eps) @ vectors.T


@pytest.mark.parametrize("eps", [0.1, 0.01])
def test_the_fit_is_that_of_an_eigendecomposition_in_float64(eps, digits):
    for images in (split().images(torch.arange(60)), digits.train.images(torch.arange(300))):
        unit = images.float() / 255
        mean, transform, inverse = explicit(images.double() / 255, eps)
        fitted = fit_whitening(unit, eps)
        for found, expected in ((fitted.mean[0], mean), (fitted.transform, transform), (fitted.inverse, inverse)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 if eps < 0.1 else 3e-5)
        whitened = (unit.double().flatten(1).numpy() - mean) @ transform
        np.testing.assert_allclose(fitted.whiten(unit).flatten(1), whitened, rtol=0, atol=2e-4)


def test_restoring_undoes_whitening():
    images = split().images(torch.arange(60)).float() / 255
    fitted = fit_whitening(images, 0.1)
    whitened = fitted.whiten(images)
    assert whitened.shape == images.shape and not torch.allclose(whitened, images, atol=0.1)
    torch.testing.assert_close(fitted.restore(whitened), images, rtol=0, atol=1e-5)
    torch.testing.assert_close(fitted.whiten(fitted.restore(images)), images, rtol=0, atol=1e-5)


def test_the_whitening_is_of_the_unit_pixels_or_of_the_normalised_ones(source):
    images = source.train.images(torch.arange(60)).double() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in STATISTICS)
    for scale, stage in ((None, images), ((mean, std), (images - mean) / std)):
        expected = explicit(stage, 0.1)
        found = whitening_of(source.train, 0.1, scale)
        np.testing.assert_allclose(found.mean[0], expected[0], rtol=0, atol=1e-5)
        np.testing.assert_allclose(found.transform, expected[1], rtol=0, atol=3e-5)


def cached(tmp_path):
    return sorted((tmp_path / "zca").glob("*.safetensors"))


def test_a_second_call_reads_the_first_ones_file(source, tmp_path, monkeypatch):
    first = whitening_of(source.train, 0.1)
    assert len(cached(tmp_path)) == 1
    monkeypatch.setattr(whitening, "fit_whitening", lambda images, eps: pytest.fail("fitted a second time"))
    again = whitening_of(source.train, 0.1)
    for name in ("mean", "transform", "inverse"):
        assert torch.equal(getattr(first, name), getattr(again, name))


def test_every_split_eps_and_scale_has_an_entry_of_its_own(source, tmp_path):
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in STATISTICS)
    arguments = [(source.train, 0.1), (source.train, 0.01), (source.test, 0.1)]
    arguments += [(source.train, 0.1, (mean, std)), (source.train, 0.1, (mean, 2 * std))]
    found = [whitening_of(*given) for given in arguments]
    assert len(cached(tmp_path)) == len(arguments)
    for index, one in enumerate(found):
        assert all(not torch.allclose(one.transform, other.transform, rtol=0, atol=1e-3) for other in found[:index])
        assert torch.equal(whitening_of(*arguments[index]).transform, one.transform)


DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"garbage" * 20,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_fitted_anew(source, tmp_path, damage):
    first = whitening_of(source.train, 0.1)
    (path,) = cached(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(whitening_of(source.train, 0.1).transform, first.transform)


def test_a_deleted_entry_is_fitted_anew(source, tmp_path):
    first = whitening_of(source.train, 0.1)
    cached(tmp_path)[0].unlink()
    assert torch.equal(whitening_of(source.train, 0.1).transform, first.transform)
    assert len(cached(tmp_path)) == 1


SPACES = [("unit", {}), ("normalized", {}), ("zca", {"zca_input": "unit"}), ("zca", {"zca_input": "normalized"})]
space_ids = ["unit", "normalized", "zca of unit", "zca of normalized"]


@pytest.mark.parametrize(("kind", "options"), SPACES, ids=space_ids)
def test_every_space_is_entered_by_its_formula_and_left_without_loss(source, kind, options):
    transform = Transform(pixel_space_of(source, kind, **options), source.train)
    pixels = source.test.images(torch.arange(20))
    stage, train = pixels.double() / 255, source.train.images(torch.arange(60)).double() / 255
    if "normalized" in (kind, options.get("zca_input")):
        mean, std = (torch.tensor(values).double().view(1, -1, 1, 1) for values in STATISTICS)
        stage, train = (stage - mean) / std, (train - mean) / std
    if kind == "zca":
        mean, whitener, _ = explicit(train, 0.1)
        stage = torch.from_numpy((stage.flatten(1).numpy() - mean) @ whitener).view_as(stage)
    encoded = transform.encode(pixels)
    assert encoded.dtype == torch.float32
    torch.testing.assert_close(encoded.double(), stage, rtol=0, atol=2e-4)
    torch.testing.assert_close(transform.decode(encoded), pixels.float() / 255, rtol=0, atol=1e-5)
    torch.testing.assert_close(transform.decode(encoded.half()), pixels.float() / 255, rtol=0, atol=5e-3)


@pytest.mark.parametrize(("kind", "options"), SPACES, ids=space_ids)
def test_what_lies_beyond_black_and_white_is_kept(source, kind, options):
    transform = Transform(pixel_space_of(source, kind, **options), source.train)
    extremes = transform.encode(torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, *SHAPE))
    beyond = transform.decode(extremes[1:] + (extremes[1:] - extremes[:1]))  # every space is affine
    torch.testing.assert_close(beyond, torch.full((1, *SHAPE), 2.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kind", "options"), SPACES, ids=space_ids)
def test_images_are_fetched_alike_resident_or_batch_by_batch(source, kind, options, monkeypatch):
    transform = Transform(pixel_space_of(source, kind, **options), source.train)
    indices = torch.tensor([3, 0, 17, 3])
    resident = transform.fetch(source.test, torch.device("cpu"))(indices)
    torch.testing.assert_close(resident, transform.encode(source.test.images(indices)), rtol=0, atol=1e-6)
    monkeypatch.setattr("distill_bench.datasets.pixel_space.RESIDENT_BYTES", 0)
    reads = []
    test = Split(source.test.images(torch.arange(20)), source.test.labels)
    monkeypatch.setattr(test, "images", lambda i: reads.append(len(i)) or source.test.images(i))
    fetch = transform.fetch(test, torch.device("cpu"))
    assert reads == []
    torch.testing.assert_close(fetch(indices), resident, rtol=0, atol=1e-6)
    assert reads == [4]


def test_a_space_of_a_source_has_its_statistics_and_whitening_options_only_where_they_mean_something(source):
    plain, white = pixel_space_of(source, "normalized"), pixel_space_of(source, "zca", 0.2, "normalized")
    assert (plain.mean, plain.std, plain.eps, plain.zca_input) == (*STATISTICS, None, None)
    assert (white.mean, white.std, white.eps, white.zca_input) == (*STATISTICS, 0.2, "normalized")


# ---- of standardised images


def standardised(rows):
    """Rows of mean 0 and length 1, one by one, and what they had."""
    levels = np.array([row.mean() for row in rows])
    lengths = np.array([np.sqrt(((row - level) ** 2).sum()) for row, level in zip(rows, levels, strict=True)])
    return (rows - levels[:, None]) / lengths[:, None], levels, lengths


@pytest.mark.parametrize("eps", [0.1, 0.5])
def test_kips_whitening_is_of_single_standardised_images_and_their_second_moments(source, eps):
    rows = source.train.images(torch.arange(60)).double().flatten(1).numpy() / 255
    images, levels, lengths = standardised(rows)
    moments = sum(np.outer(row, row) for row in images) / 60  # of images that are not centred over the split
    values, vectors = np.linalg.eigh(moments)
    values = values + eps * values.mean()
    transform = Transform(pixel_space_of(source, "zca", eps, "standardized"), source.train)
    tested = source.test.images(torch.arange(20))
    stage, *_ = standardised(tested.double().flatten(1).numpy() / 255)
    encoded = transform.encode(tested)
    assert encoded.dtype == torch.float32 and encoded.shape == tested.shape
    np.testing.assert_allclose(encoded.flatten(1), stage @ (vectors / np.sqrt(values)) @ vectors.T, atol=2e-4)
    # back: the same picture with the mean and the contrast of a usual one
    expected = stage * lengths.mean() + levels.mean()
    np.testing.assert_allclose(transform.decode(encoded).flatten(1), expected, atol=1e-4)
    again = Transform(pixel_space_of(source, "zca", eps, "standardized"), source.train).encode(tested)
    assert torch.equal(again, encoded)  # out of the cache


def test_an_image_of_one_colour_is_0_where_images_are_standardised(source):
    transform = Transform(pixel_space_of(source, "zca", 0.1, "standardized"), source.train)
    flat = torch.arange(256, dtype=torch.uint8)[:, None, None, None].expand(256, *SHAPE)
    assert not transform.encode(flat).any()
