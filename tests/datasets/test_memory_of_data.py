"""Selecting and reading stay within the uint8 split and one batch; what is encoded is the same to the bit."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from distill_bench import Dataset, Split, evaluate, synthesize
from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.pixel_diagnostics import COMPARED
from distill_bench.evaluation import PROTOCOLS

COUNT, SHAPE = 3000, (3, 16, 16)
FLOATS = COUNT * 3 * 16 * 16 * 4
"""Bytes of the split in float32."""


class Largest(TorchDispatchMode):
    """Keeps the bytes of the largest tensor of floating-point numbers that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, torch.Tensor) and each.is_floating_point():
                self.bytes = max(self.bytes, each.numel() * each.element_size())
        return out


class Counting(Split):
    """Keeps how many images were asked for at once."""

    most = 0

    def images(self, indices):
        Counting.most = max(Counting.most, len(indices))
        return super().images(indices)


@pytest.fixture
def source(monkeypatch) -> Dataset:
    monkeypatch.setattr("distill_bench.datasets.dataset.CHUNK_BYTES", 100 * 3 * 16 * 16)
    monkeypatch.setattr(Counting, "most", 0)
    draws = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (COUNT, *SHAPE), generator=draws, dtype=torch.uint8)
    split = Counting(pixels, torch.arange(COUNT) % 10)
    test = Counting(pixels[:1000], torch.arange(1000) % 10)
    return Dataset("mine", tuple("0123456789"), lambda: split, lambda: test, True)


@pytest.mark.parametrize("space", ["normalized", "unit"])
def test_random_images_are_selected_without_encoding_the_others(source, space):
    with Largest() as largest:
        made = synthesize(source, "random", 2, pixel_space=space)
    assert largest.bytes <= 20 * 3 * 16 * 16 * 8
    assert Counting.most <= 100
    chosen = (Transform(made.card.pixel_space, None).decode(made.images) * 255).round().to(torch.uint8)
    everything = {image.numpy().tobytes() for image in source.train._pixels}
    assert all(image.numpy().tobytes() in everything for image in chosen)


def test_training_and_testing_take_batches(source, monkeypatch):
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    made = synthesize(source, "random", 1)
    monkeypatch.setattr(Counting, "most", 0)
    evaluate(made, source, "quick-v1")
    assert 0 < Counting.most <= COMPARED


def test_matching_takes_batches(source):
    synthesize(source, "dm", 1, iterations=2, network="ConvNetD1W4", real_batch=16)
    assert Counting.most <= 100


@pytest.mark.parametrize("zca_input", [None, "unit", "normalized"])
@pytest.mark.parametrize("kind", ["unit", "normalized"])
def test_what_is_encoded_is_the_same_to_the_bit(source, kind, zca_input):
    """Against the whole split encoded at once, as the words of the space say."""
    split = source.train
    space = pixel_space_of(source, "zca", zca_input=zca_input) if zca_input else pixel_space_of(source, kind)
    data = TrainingData(source, space, torch.device("cpu"))
    whole = split._pixels.float() / 255
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (space.mean, space.std))
    if "normalized" in (space.kind, space.zca_input):
        whole = (whole - mean) / std
    if zca_input:
        whitening = data._transform._whitening
        whole = ((whole.flatten(1) - whitening.mean) @ whitening.transform).view_as(whole)
    for indices in (torch.tensor([5]), torch.tensor([7, 7, 2999, 0]), torch.arange(0, COUNT, 3)):
        assert torch.equal(data.images(indices), whole[indices])
    before = split._pixels.clone()
    data.images(torch.arange(9)).add_(1)  # what is given out is the caller's
    assert torch.equal(split._pixels, before)
