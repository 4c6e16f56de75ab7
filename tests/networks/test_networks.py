"""The ConvNet against torch's own constructors and formulas written out, and the names it is asked for by."""

import math

import pytest
import torch
from torch import nn

from distill_bench.errors import UsageError
from distill_bench.networks import ConvNet, build_network, initialise, resolve_network, usual_convnet
from distill_bench.runtime.seeds import generator

CIFAR, MNIST, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)


def build(name, shape=CIFAR, classes=10, seed=0):
    return build_network(name, shape, classes, torch.Generator().manual_seed(seed))


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_cifar10_network_has_320010_parameters():
    assert parameters(build("ConvNetD3")) == parameters(build("ConvNet")) == 320_010


def test_parameters_by_arithmetic():
    # two blocks of width 64 at 8 px, one channel: convolution and bias, scale and shift; then 64 · 2 · 2 features
    assert parameters(build("ConvNet", DIGITS)) == (9 * 64 + 64 + 128) + (9 * 64 * 64 + 64 + 128) + (256 * 10 + 10)


@pytest.mark.parametrize(
    ("name", "shape", "size"),
    [
        ("ConvNetD3", CIFAR, 128 * 4 * 4),
        ("ConvNetD3", MNIST, 128 * 4 * 4),  # padded to 32
        ("ConvNetD3", (3, 28, 28), 128 * 4 * 4),
        ("ConvNetD3", (1, 32, 32), 128 * 4 * 4),  # not padded for having one channel
        ("ConvNetD3", (1, 27, 27), 128 * 3 * 3),
        ("ConvNetD4", (3, 64, 64), 128 * 4 * 4),
        ("ConvNetD3", (3, 64, 64), 128 * 8 * 8),
        ("ConvNetD2W64", DIGITS, 64 * 2 * 2),
        ("ConvNetD2W8NP", DIGITS, 8 * 8 * 8),
        ("ConvNetD1W4", (1, 9, 13), 4 * 4 * 6),
    ],
)
def test_embedding_sizes(name, shape, size):
    network = build(name, shape).eval()
    images = torch.randn(2, *shape)
    assert network.embed(images).shape == (2, size)
    assert network.classifier.in_features == size
    torch.testing.assert_close(
        network(images), network.embed(images) @ network.classifier.weight.mT + network.classifier.bias
    )


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        (DIGITS, "ConvNetD2W64"),
        ((1, 16, 16), "ConvNetD3"),
        (MNIST, "ConvNetD3"),
        (CIFAR, "ConvNetD3"),
        ((3, 64, 64), "ConvNetD4"),
        ((3, 48, 96), "ConvNetD4"),
        ((3, 128, 128), "ConvNetD5"),
    ],
)
def test_the_usual_network_of_a_resolution(shape, name):
    assert usual_convnet(shape) == name == resolve_network("ConvNet", shape)


@pytest.mark.parametrize(
    ("name", "shape", "full"),
    [
        ("ConvNetBN", CIFAR, "ConvNetD3BN"),
        ("ConvNetW32", CIFAR, "ConvNetD3W32"),
        ("ConvNetASwishBN", CIFAR, None),  # the order is fixed: norm, activation, pooling
        ("ConvNetBNASwishMP", CIFAR, "ConvNetD3BNASwishMP"),
        ("ConvNetBN", DIGITS, "ConvNetD2W64BN"),
        ("ConvNetW16", DIGITS, "ConvNetD2W16"),
        ("ConvNetD3", DIGITS, "ConvNetD3"),
        ("ConvNetNP", CIFAR, "ConvNetD3NP"),
        ("ConvNetD0", CIFAR, None),
        ("ConvNetW0", CIFAR, None),
        ("convnet", CIFAR, None),
        ("ConvNetD3 ", CIFAR, None),
        ("ResNet", CIFAR, None),
        ("", CIFAR, None),
    ],
)
def test_names_resolve_or_are_refused_with_what_is_allowed(name, shape, full):
    if full is not None:
        assert resolve_network(name, shape) == full
        assert resolve_network(full, shape) == full
        return
    with pytest.raises(UsageError) as error:
        resolve_network(name, shape)
    for part in (repr(name), "D1–D9", "W…", "NN|BN|IN|LN|GN", "AR|AL|AS|ASwish", "NP|MP|AP", "ConvNetD3"):
        assert part in str(error.value)


def kinds(name):
    return [type(layer) for layer in build(name, DIGITS).features]


@pytest.mark.parametrize(
    ("code", "norm"),
    [("NN", nn.Identity), ("BN", nn.BatchNorm2d), ("IN", nn.GroupNorm), ("LN", nn.LayerNorm), ("GN", nn.GroupNorm)],
)
@pytest.mark.parametrize(
    ("act_code", "activation"), [("AR", nn.ReLU), ("AL", nn.LeakyReLU), ("AS", nn.Sigmoid), ("ASwish", nn.SiLU)]
)
@pytest.mark.parametrize(("pool_code", "pooling"), [("NP", nn.Identity), ("MP", nn.MaxPool2d), ("AP", nn.AvgPool2d)])
def test_every_modifier_is_heeded(code, norm, act_code, activation, pool_code, pooling):
    assert kinds(f"ConvNetD1W4{code}{act_code}{pool_code}") == [nn.Conv2d, norm, activation, pooling]


def test_what_is_unsaid_is_instance_norm_relu_and_average_pooling():
    assert kinds("ConvNetD2W4") == [nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.AvgPool2d] * 2
    assert [layer.num_groups for layer in build("ConvNetD2W8", DIGITS).features if isinstance(layer, nn.GroupNorm)] == [
        8,
        8,
    ]


def test_images_too_small_for_the_depth_are_refused_unless_nothing_is_pooled():
    with pytest.raises(UsageError, match=r"ConvNetD4 halves the image 4 times; 8×8 px"):
        build("ConvNetD4", DIGITS)
    assert build("ConvNetD3W4", DIGITS).embed(torch.zeros(1, *DIGITS)).shape == (1, 4)
    assert build("ConvNetD4W4NP", DIGITS).embed(torch.zeros(1, *DIGITS)).shape == (1, 4 * 64)


def test_a_depth_that_the_padded_image_allows_is_built():
    assert build("ConvNetD5W4", MNIST).embed(torch.zeros(1, *MNIST)).shape == (1, 4)  # 28 px become 32


def test_a_width_that_four_groups_do_not_divide_is_refused():
    with pytest.raises(UsageError, match="ConvNetD1W10GN"):
        build("ConvNetD1W10GN")


def block(norm, code="", shape=(3, 6, 6), width=8):
    """(network of one block with a shift and scale of its own, its convolution's output, its embedding)."""
    network = build(f"ConvNetD1W{width}{norm}{code}", shape).double()
    scale_and_shift = [p for layer in network.features[1:2] for p in layer.parameters()]
    for number, parameter in enumerate(scale_and_shift):
        parameter.data = torch.randn(parameter.shape, generator=generator("affine", number), dtype=torch.float64)
    images = torch.randn(5, *shape, generator=generator("images"), dtype=torch.float64)
    return network, network.features[0](images), network.embed(images), scale_and_shift


def relu_and_average(images):
    images = images.clamp(min=0)
    return torch.stack([images[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)]).mean(dim=0).flatten(1)


@pytest.mark.parametrize(
    ("norm", "groups"), [("IN", 8), ("GN", 4), ("", 8)], ids=["a channel a group", "four groups", "default"]
)
def test_instance_and_group_norm_by_formula(norm, groups):
    _, before, after, (scale, shift) = block(norm)
    expected = torch.empty_like(before)
    for sample in range(5):
        for first in range(0, 8, 8 // groups):
            group = before[sample, first : first + 8 // groups]
            normal = (group - group.mean()) / (group.var(unbiased=False) + 1e-5).sqrt()
            for channel, plane in enumerate(normal, first):
                expected[sample, channel] = plane * scale[channel] + shift[channel]
    torch.testing.assert_close(after, relu_and_average(expected))


def test_layer_norm_by_formula():
    _, before, after, (scale, shift) = block("LN")
    assert scale.shape == (8, 6, 6)
    rows = [(x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * scale + shift for x in before]
    torch.testing.assert_close(after, relu_and_average(torch.stack(rows)))


def test_batch_norm_by_formula_in_training_and_in_evaluation():
    network, before, after, (scale, shift) = block("BN")
    mean, variance = before.mean(dim=(0, 2, 3)), before.var(dim=(0, 2, 3), unbiased=False)

    def normal(mean, variance):
        by_channel = [v.view(1, -1, 1, 1) for v in (mean, variance, scale, shift)]
        return relu_and_average(
            (before - by_channel[0]) / (by_channel[1] + 1e-5).sqrt() * by_channel[2] + by_channel[3]
        )

    torch.testing.assert_close(after, normal(mean, variance))
    unbiased = before.var(dim=(0, 2, 3), unbiased=True)
    images = torch.randn(5, 3, 6, 6, generator=generator("images"), dtype=torch.float64)
    # one batch of momentum 0.1 from mean 0 and variance 1
    torch.testing.assert_close(network.eval().embed(images), normal(0.1 * mean, 0.9 + 0.1 * unbiased))


def test_no_norm_leaves_the_convolution_as_it_is():
    _, before, after, parameters = block("NN")
    assert parameters == []
    torch.testing.assert_close(after, relu_and_average(before))


@pytest.mark.parametrize(
    ("code", "formula"),
    [
        ("AR", lambda x: torch.where(x > 0, x, 0.0)),
        ("AL", lambda x: torch.where(x > 0, x, 0.01 * x)),
        ("AS", lambda x: 1 / (1 + (-x).exp())),
        ("ASwish", lambda x: x / (1 + (-x).exp())),
    ],
)
def test_activations_by_formula(code, formula):
    _, before, after, _ = block("NN", code + "NP")
    torch.testing.assert_close(after, formula(before).flatten(1))


def test_poolings_by_formula():
    _, before, after, _ = block("NN", "MP")
    windows = torch.stack([before[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    torch.testing.assert_close(after, windows.amax(dim=0).clamp(min=0).flatten(1))
    _, before, after, _ = block("NN", "AP")
    torch.testing.assert_close(after, relu_and_average(before))


@pytest.mark.parametrize("norm", ["NN", "BN", "IN", "LN", "GN"])
@pytest.mark.parametrize(("depth", "shape"), [(2, DIGITS), (3, MNIST)])
def test_initial_weights_are_those_of_torchs_own_constructors(norm, depth, shape):
    ours = build(f"ConvNetD{depth}W8{norm}", shape, seed=7)
    names = {"NN": "none", "BN": "batch", "IN": "instance", "LN": "layer", "GN": "group"}
    torch.manual_seed(7)
    theirs = ConvNet(shape, 10, depth=depth, width=8, norm=names[norm])
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name


def test_weights_fill_the_kaiming_uniform_interval():
    network = build("ConvNetD3")
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert len(layers) == 4
    for layer in layers:
        bound = 1 / math.sqrt(layer.weight[0].numel())
        for values in (layer.weight, layer.bias):
            assert values.abs().max() <= bound
        assert layer.weight.abs().max() > 0.98 * bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)


@pytest.mark.usefixtures("global_rng_untouched")
def test_building_leaves_the_global_generator_alone():
    build("ConvNetD3BN")


def test_networks_differ_by_seed_alone():
    assert torch.equal(build("ConvNetD3", seed=1).classifier.weight, build("ConvNetD3", seed=1).classifier.weight)
    assert not torch.equal(build("ConvNetD3", seed=1).classifier.weight, build("ConvNetD3", seed=2).classifier.weight)


def test_a_layer_of_unknown_initialisation_is_refused():
    with pytest.raises(TypeError, match="PReLU"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), generator("x"))
