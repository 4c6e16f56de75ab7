"""Encoders: the loss of Barlow Twins against loops and closed forms, and training that reads no label."""

import dataclasses

import pytest
import torch

from distill_bench.datasets import Dataset, Split
from distill_bench.datasets.pixel_space import pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import RunFailed, UsageError
from distill_bench.pretrained import barlow_twins
from distill_bench.pretrained.barlow_twins import (
    EncoderRecipe,
    barlow_twins_loss,
    get_or_train_encoder,
    two_views,
)
from distill_bench.runtime.seeds import generator

QUICK = EncoderRecipe(network="ConvNetD1W4BN", epochs=2, learning_rate=0.01, projector=(8, 6))


def outputs(count=40, width=5, index=0):
    # so large that the eps of batch norm says nothing
    return 1e4 * torch.randn(count, width, generator=generator("barlow", index), dtype=torch.float64)


def in_loops(first, second, redundancy, ddof):
    """The paper's two equations, one number at a time."""
    first, second = (
        ((each - each.mean(axis=0)) / each.std(axis=0, ddof=ddof)) for each in (first.numpy(), second.numpy())
    )
    batch, width = first.shape
    total = 0.0
    for i in range(width):
        for j in range(width):
            c = sum(first[b, i] * second[b, j] for b in range(batch)) / batch
            total += (1 - c) ** 2 if i == j else redundancy * c**2
    return total


@pytest.mark.parametrize("unbiased", [False, True])
def test_the_loss_is_that_of_loops_over_its_equations(unbiased):
    first, second = outputs(index=1), outputs(index=2) + outputs(index=1)
    found = barlow_twins_loss(first, second, 0.02, unbiased)
    assert found.item() == pytest.approx(in_loops(first, second, 0.02, int(unbiased)), rel=1e-9)


def orthogonal(count=8):
    """Columns of mean 0 and variance 1, each orthogonal to the others."""
    rows = torch.tensor([[1.0]], dtype=torch.float64)
    while len(rows) < count:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    return 1e4 * rows[:, 1:]


def test_equal_orthogonal_outputs_have_no_loss_and_opposite_ones_four_a_dimension():
    z = orthogonal()
    assert barlow_twins_loss(z, z, 0.5).item() == pytest.approx(0, abs=1e-12)
    assert barlow_twins_loss(z, -z, 0.5).item() == pytest.approx(4 * z.shape[1], rel=1e-12)
    # with B − 1 in the deviation the diagonal cannot be more than (B − 1)/B
    assert barlow_twins_loss(z, z, 0.5, unbiased=True).item() == pytest.approx(z.shape[1] / 64, rel=1e-9)


def test_the_opposite_view_changes_the_diagonal_alone():
    z = outputs(index=3)
    plain, opposite = (barlow_twins_loss(z, sign * z, 0.3).item() for sign in (1, -1))
    assert opposite == pytest.approx(plain + 4 * z.shape[1], rel=1e-9)


def test_outputs_of_noise_correlate_by_one_over_the_images_less_one():
    count, width = 30, 40
    squares = []
    for index in range(20):
        first, second = outputs(count, width, 100 + index), outputs(count, width, 200 + index)
        others = barlow_twins_loss(first, second, 1.0) - barlow_twins_loss(first, second, 0.0)
        squares.append(others / (width * (width - 1)))
    assert torch.stack(squares).mean().item() == pytest.approx(1 / (count - 1), rel=0.03)


def test_views_of_an_image_are_drawn_apart_and_contrast_keeps_the_mean():
    images = torch.rand(6, 1, 8, 8, generator=generator("views"))
    still = EncoderRecipe(crop=(1.0, 1.0), contrast=0.0)
    both = two_views(still.model_copy(update={"contrast": 0.5}), images, False, generator("a"))
    exact = two_views(still, images, False, generator("a"))
    assert both.shape == (12, 1, 8, 8)
    assert not torch.equal(both[:6], both[6:])
    torch.testing.assert_close(both.mean(dim=(1, 2, 3)), exact.mean(dim=(1, 2, 3)))
    factors = both.std(dim=(1, 2, 3)) / exact.std(dim=(1, 2, 3))
    assert ((factors > 0.5 - 1e-5) & (factors < 1.5 + 1e-5)).all() and factors.std() > 0.1
    noisy = two_views(still.model_copy(update={"noise": 0.2}), torch.zeros(400, 1, 8, 8), False, generator("a"))
    assert noisy.std().item() == pytest.approx(0.2, rel=0.02)


def data_of(dataset: Dataset) -> TrainingData:
    return TrainingData(dataset, pixel_space_of(dataset, "normalized"), torch.device("cpu"))


def first_images(digits: Dataset, count: int, other_labels: bool = False) -> Dataset:
    labels = digits.train.labels[:count]
    part = Split(digits.train.images(torch.arange(count)), labels.flip(0) if other_labels else labels)
    return dataclasses.replace(digits, load_train=lambda: part, _cache={})


@pytest.mark.usefixtures("global_rng_untouched")
def test_an_encoder_is_trained_once_is_in_evaluation_mode_and_reads_no_label(digits, monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    few = first_images(digits, 60)
    one = get_or_train_encoder(data_of(few), QUICK, 0)
    monkeypatch.setattr(barlow_twins, "_train", None)  # it is there
    again = get_or_train_encoder(data_of(few), QUICK, 0)
    monkeypatch.undo()
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    other = get_or_train_encoder(data_of(first_images(digits, 60, other_labels=True)), QUICK, 0)
    images = data_of(few).images(torch.arange(20))
    assert not one.network.training and not any(p.requires_grad for p in one.network.parameters())
    assert torch.equal(one.features(images), again.features(images))
    assert other.pretrained.path != one.pretrained.path
    assert torch.equal(other.features(images), one.features(images))
    assert torch.equal(one.features(images[:7]), one.network.embed(images[:7]))


def test_views_of_one_image_come_to_agree(digits):
    data = data_of(digits)
    short, long = (get_or_train_encoder(data, QUICK.model_copy(update={"epochs": n}), 0) for n in (1, 6))
    assert long.pretrained.facts["loss"] < short.pretrained.facts["loss"] < 6 + 6  # that of noise is about its width
    assert long.pretrained.facts["spread"] > 0.01


def test_an_image_alone_in_a_batch_is_refused(digits):
    with pytest.raises(UsageError, match=r"batch_size=59 leaves a batch of one image of 60"):
        get_or_train_encoder(data_of(first_images(digits, 60)), QUICK.model_copy(update={"batch_size": 59}), 0)


def test_an_encoder_that_tells_no_images_apart_is_an_error(digits, monkeypatch, tmp_path):
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))
    black = dataclasses.replace(digits, _cache={}, load_train=lambda: Split(
        torch.zeros(20, 1, 8, 8, dtype=torch.uint8), torch.arange(20) % 10
    ))  # fmt: skip
    with pytest.raises(RunFailed, match="all images have the same features"):
        get_or_train_encoder(data_of(black), QUICK.model_copy(update={"noise": 0.1}), 0)
