"""MLP to ViT: against their formulas written out with the same weights, torch's initial values, sizes and refusals."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill_bench.errors import UsageError
from distill_bench.networks import ARCHITECTURES, build_network, resolve_network
from distill_bench.networks.vit import initialise_vit, patch_side, vit

DIGITS, MNIST, CIFAR, TINY = (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)


def build(name, shape=CIFAR, classes=10, seed=0):
    return build_network(name, shape, classes, torch.Generator().manual_seed(seed))


def randomised(name, shape=CIFAR):
    """The network in double precision with every parameter drawn, so that no scale of 1 or shift of 0 hides a fault."""
    network = build(name, shape).double()
    draws = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        scale = 3 / math.sqrt(parameter[0].numel()) if parameter.ndim > 1 else 0.5
        parameter.data = torch.randn(parameter.shape, generator=draws, dtype=torch.float64) * scale
    for key, buffer in network.named_buffers():
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand(buffer.shape, generator=draws) + 0.5)
    return network.eval()


def images(shape, count=2):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# ---- the formulas


def normal(x, weights, key):
    """Batch norm with running statistics where there are any, else every map of every image by itself."""
    scale, shift = (weights[f"{key}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
    if f"{key}.running_mean" in weights:
        mean, variance = (weights[f"{key}.running_{part}"].view(1, -1, 1, 1) for part in ("mean", "var"))
    else:
        mean, variance = x.mean(dim=(2, 3), keepdim=True), x.var(dim=(2, 3), unbiased=False, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift


def linear(x, weights, key):
    return x @ weights[f"{key}.weight"].mT + weights[f"{key}.bias"]


def reference_mlp(x, weights):
    for key in ("features.1", "features.3"):
        x = linear(x.flatten(1), weights, key).relu()
    return x


def reference_lenet(x, weights):
    padding = 2 if x.shape[-1] == 28 else 0
    for key in ("features.0", "features.3"):
        x = F.conv2d(x, weights[f"{key}.weight"], weights[f"{key}.bias"], padding=padding)
        x, padding = F.max_pool2d(x.relu(), 2), 0
    for key in ("features.7", "features.9"):
        x = linear(x.flatten(1), weights, key).relu()
    return x


def reference_convolutions(x, weights, pooled):
    """``pooled``: the numbers of the convolutions that max pooling follows."""
    padding = 2 if x.shape[-1] == 28 else 0
    keys = [key.removesuffix(".weight") for key in weights if key.endswith(".weight") and weights[key].ndim == 4]
    for number, key in enumerate(keys):
        kernel = weights[f"{key}.weight"]
        x = F.conv2d(x, kernel, weights[f"{key}.bias"], padding=kernel.shape[-1] // 2 + padding)
        prefix, _, position = key.rpartition(".")
        norm = f"{prefix}.{int(position) + 1}"
        x = (normal(x, weights, norm) if f"{norm}.weight" in weights else x).relu()
        x = F.max_pool2d(x, 2) if number in pooled else x
        padding = 0
    return x.flatten(1)


def reference_alexnet(x, weights):
    return reference_convolutions(x, weights, {0, 1, 4})


def reference_vgg(x, weights):
    return reference_convolutions(x, weights, {0, 1, 3, 5, 7})


def reference_resnet(x, weights):
    x = normal(F.conv2d(x, weights["features.conv1.weight"], padding=1), weights, "features.bn1").relu()
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            key = f"features.layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            main = F.conv2d(x, weights[f"{key}.conv1.weight"], stride=stride, padding=1)
            main = normal(main, weights, f"{key}.bn1").relu()
            main = normal(F.conv2d(main, weights[f"{key}.conv2.weight"], padding=1), weights, f"{key}.bn2")
            if stride == 2:
                shortcut = F.conv2d(x, weights[f"{key}.downsample.0.weight"], stride=2)
                x = normal(shortcut, weights, f"{key}.downsample.1")
            x = (main + x).relu()
    return x.mean(dim=(2, 3))


def halved(x):
    """2×2 average pooling that drops an odd last row and column."""
    height, width = (side // 2 * 2 for side in x.shape[2:])
    x = x[:, :, :height, :width]
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def reference_resnet_ap(x, weights):
    x = normal(F.conv2d(x, weights["features.conv1.weight"], padding=1), weights, "features.bn1").relu()
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            key = f"features.layer{stage}.{block}"
            pools = stage > 1 and block == 0
            main = normal(F.conv2d(x, weights[f"{key}.conv1.weight"], padding=1), weights, f"{key}.bn1").relu()
            main = halved(main) if pools else main
            second = weights[f"{key}.conv2.1.weight" if pools else f"{key}.conv2.weight"]
            main = normal(F.conv2d(main, second, padding=1), weights, f"{key}.bn2")
            if pools:
                shortcut = halved(F.conv2d(x, weights[f"{key}.downsample.0.weight"]))
                x = normal(shortcut, weights, f"{key}.downsample.2")
            x = (main + x).relu()
    return x.flatten(1)


def reference_vit(x, weights):
    def layer_norm(x, key):
        centred = x - x.mean(dim=-1, keepdim=True)
        scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
        return scaled * weights[f"{key}.weight"] + weights[f"{key}.bias"]

    kernel = weights["features.conv_proj.weight"]
    patch, count = kernel.shape[-1], len(x)
    cut = x.unfold(2, patch, patch).unfold(3, patch, patch).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    x = cut @ kernel.flatten(1).mT + weights["features.conv_proj.bias"]
    x = torch.cat([weights["features.class_token"].expand(count, 1, -1), x], dim=1)
    x = x + weights["features.encoder.pos_embedding"]
    for block in range(4):
        key = f"features.encoder.layers.encoder_layer_{block}"
        y = layer_norm(x, f"{key}.ln_1")
        y = y @ weights[f"{key}.self_attention.in_proj_weight"].mT + weights[f"{key}.self_attention.in_proj_bias"]
        query, keys, values = (part.unflatten(2, (3, 64)).transpose(1, 2) for part in y.split(192, dim=2))
        attended = (query @ keys.mT / math.sqrt(64)).softmax(dim=-1) @ values
        x = x + linear(attended.transpose(1, 2).flatten(2), weights, f"{key}.self_attention.out_proj")
        y = linear(layer_norm(x, f"{key}.ln_2"), weights, f"{key}.mlp.0")
        y = y * (1 + torch.erf(y / math.sqrt(2))) / 2  # GELU
        x = x + linear(y, weights, f"{key}.mlp.3")
    return layer_norm(x, "features.encoder.ln")[:, 0]


REFERENCES = {
    "MLP": reference_mlp,
    "LeNet": reference_lenet,
    "AlexNet": reference_alexnet,
    "AlexNetBN": reference_alexnet,
    "VGG11": reference_vgg,
    "VGG11BN": reference_vgg,
    "ResNet18": reference_resnet,
    "ResNet18BN": reference_resnet,
    "ResNet18_AP": reference_resnet_ap,
    "ResNet18BN_AP": reference_resnet_ap,
    "ViT": reference_vit,
}


def test_every_network_has_a_reference():
    assert REFERENCES.keys() == ARCHITECTURES.keys() - {
        "ResNet18BN_ImageNet"
    }  # which is compared with torchvision's itself


@pytest.mark.parametrize("shape", [MNIST, CIFAR], ids=["28 px", "32 px"])
@pytest.mark.parametrize("name", REFERENCES)
def test_outputs_by_formula(name, shape):
    network, x = randomised(name, shape), images(shape)
    weights = network.state_dict()
    with torch.no_grad():
        expected = REFERENCES[name](x, weights)
        torch.testing.assert_close(network.embed(x), expected)
        torch.testing.assert_close(network(x), linear(expected, weights, "classifier"))
        assert expected.std(dim=0).max() > 1e-3  # the images make a difference


def test_vgg11_with_batch_norm_has_torchvisions_features():
    from torchvision.models.vgg import cfgs, make_layers

    ours, theirs = randomised("VGG11BN"), make_layers(cfgs["A"], batch_norm=True).double().eval()
    parts = [value for key, value in ours.state_dict().items() if key.startswith("features.")]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), parts, strict=True)))
    torch.testing.assert_close(ours.embed(images(CIFAR)), theirs(images(CIFAR)).flatten(1))


def test_the_teacher_is_torchvisions_resnet18_but_for_its_stem():
    from torchvision.models import resnet18

    ours, theirs = randomised("ResNet18BN"), resnet18(num_classes=10).double().eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False).double(), nn.Identity()
    weights = {key.replace("classifier", "fc").removeprefix("features."): v for key, v in ours.state_dict().items()}
    theirs.load_state_dict(weights)
    torch.testing.assert_close(ours(images(CIFAR)), theirs(images(CIFAR)))


def test_the_imagenet_stem_is_torchvisions_for_any_number_of_channels():
    from torchvision.models import resnet18

    ours, theirs = randomised("ResNet18BN_ImageNet", TINY), resnet18(num_classes=10).double().eval()
    theirs.load_state_dict({key.replace("classifier", "fc").removeprefix("features."): v for key, v in
                            ours.state_dict().items()})  # fmt: skip
    torch.testing.assert_close(ours(images(TINY)), theirs(images(TINY)))
    assert sum(parameter.numel() for parameter in build("ResNet18BN_ImageNet", TINY, 1000).parameters()) == 11_689_512
    assert build("ResNet18BN_ImageNet", (1, 64, 64))(torch.zeros(2, 1, 64, 64)).shape == (2, 10)


# ---- sizes


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("MLP", 3072 * 128 + 128 + 128 * 128 + 128 + 1290),
        ("LeNet", 62_006),
        ("AlexNet", 9_728 + 614_592 + 442_624 + 442_560 + 331_968 + 30_730),
        ("VGG11", 9_231_114),
        ("VGG11BN", 9_231_114),
        ("ResNet18", 11_173_962),
        ("ResNet18BN", 11_173_962),
        ("ResNet18_AP", 11_173_962 + (8192 - 512) * 10),
        ("ViT", 48 * 192 + 192 + 192 + 65 * 192 + 4 * (4 * 192 * 193 + 192 * 384 * 2 + 576 + 768) + 384 + 1930),
    ],
)
def test_parameters_on_cifar10(name, count):
    assert sum(parameter.numel() for parameter in build(name).parameters()) == count


EMBEDDINGS = {
    "MLP": (128, 128, 128, 128),
    "LeNet": (None, 84, 84, 84),
    "AlexNet": (192, 3072, 3072, 12288),
    "AlexNetBN": (192, 3072, 3072, 12288),
    "VGG11": (None, 512, 512, 2048),
    "VGG11BN": (None, 512, 512, 2048),
    "ResNet18": (None, 512, 512, 512),
    "ResNet18BN": (512, 512, 512, 512),
    "ResNet18BN_ImageNet": (None, None, None, 512),
    "ResNet18_AP": (None, 4608, 8192, 32768),
    "ResNet18BN_AP": (512, 4608, 8192, 32768),
    "ViT": (192, 192, 192, 192),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("column", range(4))
def test_every_resolution_works_or_is_refused(name, column):
    shape, width = (DIGITS, MNIST, CIFAR, TINY)[column], EMBEDDINGS[name][column]
    if width is None:
        size = f"{shape[1]}×{shape[2]}"
        with pytest.raises(UsageError, match=rf"{name} needs images of (16|32|64|9) px or more, not {size}: \w+"):
            build(name, shape)
        return
    network = build(name, shape, classes=7)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(3))
    assert network.embed(x).shape == (2, width)
    assert network(x).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "side"), [("LeNet", 16), ("AlexNet", 8), ("VGG11", 32), ("ResNet18", 9), ("ResNet18_AP", 16)]
)
def test_the_smallest_size_is_the_smallest_that_works(name, side):
    network = build(name, (1, side, side)).eval()
    x = torch.randn(4, 1, side, side, generator=torch.Generator().manual_seed(3))
    assert network.embed(x).std(dim=0).max() > 1e-3  # instance norm of single pixels would say nothing of the image
    with pytest.raises(UsageError, match=f"{name} needs images of {side} px"):
        build(name, (1, side - 1, side + 3))


def test_instance_norm_of_one_pixel_says_nothing():
    """Why ResNet18 refuses 8 px."""
    network = ARCHITECTURES["ResNet18"].build(DIGITS, 10)
    embedded = network.embed(torch.randn(4, *DIGITS, generator=torch.Generator().manual_seed(3)))
    assert embedded.std(dim=0).max() < 1e-3  # rounding


def test_rectangles():
    assert build("ResNet18", (3, 16, 24)).embed(torch.zeros(2, 3, 16, 24)).shape == (2, 512)
    assert build("AlexNet", (3, 16, 24)).embed(torch.zeros(2, 3, 16, 24)).shape == (2, 192 * 2 * 3)
    with pytest.raises(UsageError, match=r"square images, not 16×24: give `size`"):
        build("ViT", (3, 16, 24))


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (28, 4), (32, 4), (64, 8), (224, 28), (30, 3), (31, 1), (1, 1)])
def test_patches(side, patch):
    assert patch_side(side) == patch


# ---- names


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_name_stands_for_itself(name):
    assert resolve_network(name, CIFAR) == name


@pytest.mark.parametrize("name", ["resnet18", "ResNet18_APBN", "ResNet34", "VGG11_AP", "LeNetBN", "ViTBN", "MLP "])
def test_other_names_are_refused_with_all_that_are_known(name):
    with pytest.raises(
        UsageError,
        match=r"Known: ConvNet.*; MLP, LeNet, .*ResNet18BN_AP, ViT; a library's: .*; your own: module:function\.",
    ):
        build(name)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_name_says_which_norm(name):
    norms = (nn.BatchNorm2d, nn.GroupNorm, nn.LayerNorm)
    found = [module for module in build(name, TINY).modules() if isinstance(module, norms)]
    if name in ("MLP", "LeNet", "AlexNet"):
        assert found == []
        return
    expected = nn.LayerNorm if name == "ViT" else nn.BatchNorm2d if "BN" in name else nn.GroupNorm
    assert {type(module) for module in found} == {expected}
    assert len(found) == {"Ale": 5, "VGG": 8, "Res": 20, "ViT": 9}[name[:3]]
    if expected is nn.GroupNorm:
        assert all(module.num_groups == module.num_channels for module in found)


# ---- initial values


@pytest.mark.parametrize("name", ["MLP", "LeNet", "AlexNet", "AlexNetBN", "VGG11", "VGG11BN"])
def test_initial_values_are_those_of_torchs_own_constructors(name):
    ours = build(name, MNIST, seed=7).state_dict()
    torch.manual_seed(7)
    theirs = ARCHITECTURES[name].build(MNIST, 10).state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(ours[key], value), key


@pytest.mark.parametrize("name", ["ResNet18", "ResNet18BN", "ResNet18_AP", "ResNet18BN_AP"])
def test_resnets_begin_with_torchs_defaults(name):
    modules = list(build(name, DIGITS if "BN" in name else MNIST).modules())
    assert sum(isinstance(module, (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.BatchNorm2d)) for module in modules) == 41
    for module in modules:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert 0.97 * bound < module.weight.abs().max() <= bound
            assert module.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
        elif isinstance(module, (nn.GroupNorm, nn.BatchNorm2d)):
            assert torch.equal(module.weight, torch.ones_like(module.weight)) and not module.bias.any()
        if isinstance(module, nn.BatchNorm2d):
            assert torch.equal(module.running_var, torch.ones_like(module.running_var))
            assert not module.running_mean.any() and module.num_batches_tracked == 0


def test_a_vit_begins_as_torchvisions():
    network = vit(CIFAR, 10)
    for parameter in network.parameters():
        nn.init.constant_(parameter, math.nan)  # every one of them must be drawn or set
    ours = initialise_vit(network, torch.Generator().manual_seed(0)).features.state_dict()
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(32, 4, 4, 3, 192, 384).state_dict()
    assert ours.keys() == {key for key in theirs if not key.startswith("heads")}
    for key, value in ours.items():
        assert value.isfinite().all(), key
        if theirs[key].any() and value.numel() > 1000:
            assert value.std().item() == pytest.approx(theirs[key].std().item(), rel=0.05), key
            assert value.abs().max().item() == pytest.approx(theirs[key].abs().max().item(), rel=0.25), key
            assert kurtosis(value) == pytest.approx(kurtosis(theirs[key]), rel=0.1), key  # uniform 1.8, normal 3
        elif value.ndim == 1 and "mlp" in key:
            assert value.std().item() == pytest.approx(1e-6, rel=0.2), key
        else:
            assert torch.equal(value, theirs[key]), key
    assert not network.classifier.weight.any() and not network.classifier.bias.any()


def kurtosis(values):
    centred = values.flatten() - values.mean()
    return (centred.pow(4).mean() / centred.square().mean().square()).item()


@pytest.mark.usefixtures("global_rng_untouched")
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_building_leaves_the_global_generator_alone(name):
    first, again, other = (build(name, TINY, seed=seed) for seed in (1, 1, 2))
    pairs = zip(first.parameters(), again.parameters(), other.parameters(), strict=True)
    found = [(torch.equal(one, two), torch.equal(one, three)) for one, two, three in pairs]
    assert all(same for same, _ in found)
    assert not all(same for _, same in found)
