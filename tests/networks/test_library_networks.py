"""Networks of libraries: their own values and outputs, fitted to small images; nothing drawn unseen."""

import math
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from distill_bench import DataError, UsageError, evaluate, stored_teacher, synthesize
from distill_bench.evaluation import load_protocol
from distill_bench.methods import load_method
from distill_bench.networks import build_network, check_own, check_trainable, library, resolve_network
from distill_bench.networks.draws import DrawnFrom
from distill_bench.networks.library import enlarged_sides
from distill_bench.training.memory import training_bytes

DIGITS, CIFAR = (1, 8, 8), (3, 32, 32)
SMALL = "torchvision:mobilenet_v3_small"
POPULAR = [
    "torchvision:resnet50", "torchvision:mobilenet_v2", "torchvision:efficientnet_b0", "torchvision:convnext_tiny",
    "torchvision:swin_t", "timm:vit_small_patch16_224",
]  # fmt: skip


def build(name, shape=CIFAR, classes=10, seed=0):
    return build_network(name, shape, classes, torch.Generator().manual_seed(seed))


def theirs(name, seed=0, **options):
    """torchvision's own network, in the way its users make it."""
    from torchvision import models

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return models.get_model(name.partition(":")[2], weights=None, num_classes=10, **options)


def values_of(network):
    """Parameters and buffers in the order of the library's own network, whose classifier is the last."""
    own = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}
    return [*own.values(), *network.classifier.state_dict().values()]


@pytest.mark.usefixtures("global_rng_untouched")
def test_initial_values_are_the_librarys_under_the_generators_state():
    ours = build(SMALL, seed=3)
    pairs = zip(values_of(ours), theirs(SMALL, seed=3).state_dict().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(ours.classifier.weight, build(SMALL, seed=4).classifier.weight)


def test_outputs_are_the_librarys_of_the_enlarged_images():
    images = torch.rand(2, *CIFAR, generator=torch.Generator().manual_seed(1))
    large = F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    with torch.no_grad():
        expected = theirs(SMALL).eval()(large)
        torch.testing.assert_close(build(SMALL).eval()(images), expected)
        assert expected.std() > 0
        torch.testing.assert_close(
            build(SMALL, (3, 64, 64)).eval()(large), expected
        )  # as large as need be: as they are


def test_grey_images_see_the_first_kernels_of_the_stem():
    grey, colour = (build(SMALL, shape).features[1].features[0][0] for shape in (DIGITS, CIFAR))
    assert torch.equal(grey.weight, colour.weight[:, :1] * math.sqrt(3)) and grey.in_channels == 1
    with pytest.raises(UsageError, match=r"mobilenet_v3_small: it takes images of 1 to 3 channels, not 4: timm's take"):
        build(SMALL, (4, 64, 64))


@pytest.mark.parametrize(
    ("shape", "sides"),
    [(DIGITS, (64, 64)), ((1, 28, 28), (64, 64)), ((3, 64, 64), (64, 64)), ((3, 65, 224), (96, 224))],
)
def test_sides(shape, sides):
    assert enlarged_sides(shape) == sides


@pytest.mark.usefixtures("global_rng_untouched")
def test_training_draws_nothing():
    network = build(SMALL).train()
    assert any(isinstance(module, nn.Dropout) for module in theirs(SMALL).modules())
    first, again = (network(torch.ones(2, *CIFAR)) for _ in range(2))
    assert torch.equal(first, again)


@pytest.mark.usefixtures("global_rng_untouched")
def test_draws_come_from_the_generator_or_are_refused():
    state = torch.Generator().manual_seed(5)
    with DrawnFrom(state):
        drawn = torch.randn(3), torch.empty(2).uniform_(), torch.rand(2), torch.randperm(4)
        assert torch.empty(3).isnan().all() and torch.empty(3, dtype=torch.int64).shape == (3,)
        with pytest.raises(UsageError, match="draws random numbers"):
            torch.native_dropout(torch.ones(4), 0.5, True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = torch.randn(3), torch.empty(2).uniform_(), torch.rand(2), torch.randperm(4)
    assert all(map(torch.equal, drawn, expected))
    heads = [torch.ones(1, 1, 2, 4)] * 3
    with DrawnFrom(None):
        F.scaled_dot_product_attention(*heads)
        for draws in (
            lambda: F.scaled_dot_product_attention(*heads, dropout_p=0.5),
            lambda: F.dropout(torch.ones(4)),
            lambda: torch.rand(2),
        ):
            with pytest.raises(UsageError, match="draws random numbers"):
                draws()


def test_a_network_that_draws_is_refused_before_any_work(monkeypatch):
    monkeypatch.setattr(library, "_turn_off_dropout", lambda model: None)
    with pytest.raises(UsageError, match=r"mobilenet_v3_small: it draws random numbers \(aten\."):
        check_trainable(SMALL, CIFAR, 10)


def test_a_parameter_without_a_value_is_named(monkeypatch):
    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale, self.head = nn.Parameter(torch.empty(2)), nn.Linear(3, 10)

    monkeypatch.setattr(library, "_torchvision", lambda *_: Forgetful())
    with pytest.raises(UsageError, match=r"its library leaves features\.1\.scale without finite values"):
        build(SMALL)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("torchvision:ResNet50", r"has no 'ResNet50' among its \d+ networks.* Did you mean torchvision:resnet50"),
        ("MobileNet-V2", r"unknown network 'MobileNet-V2'\. torchvision has it: torchvision:mobilenet_v2\."),
        ("torchvision:", "unknown network"),
        ("torchvision:squeezenet1_1", r"ends in a Conv2d, not in a linear layer"),
        pytest.param(
            "torchvision:inception_v3",
            r"cannot be run for images of 3×32×32 \(are they too small\?\)",
            marks=pytest.mark.slow,
        ),
        ("torchvision:maxvit_t", r"cannot be built for images of 3×32×32 .*partition size"),
        ("torchvison:resnet50", r"cannot load the network .*\. Did you mean torchvision\?"),
    ],
)
def test_a_wrong_name_says_what_is_wrong(name, complaint):
    with pytest.raises(UsageError, match=complaint):
        build(name)


def test_what_is_built_for_one_square_size_refuses_others():
    with pytest.raises(UsageError, match=r"vit_b_32: it needs square images, not 64×96: give `size`"):
        build("torchvision:vit_b_32", (3, 64, 96))


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    library._known.cache_clear()
    with pytest.raises(UsageError, match=r"timm need it: pip install 'distill_bench\[timm\]'"):
        resolve_network("timm:resnet18", CIFAR)


def test_timms_networks():
    timm = pytest.importorskip("timm")
    with pytest.raises(UsageError, match=r"names pretrained weights, and none are loaded: give timm:test_vit\."):
        build("timm:test_vit.r160_in1k")
    ours = build("timm:test_vit", DIGITS, seed=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = timm.create_model("test_vit", num_classes=10, in_chans=1, img_size=64)
    own = dict(model.state_dict())
    assert {key.removeprefix("features.1.").replace("classifier", "head") for key in ours.state_dict()} == own.keys()
    images = torch.rand(2, *DIGITS, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.eval()(F.interpolate(images, size=(64, 64), mode="bilinear"))
        torch.testing.assert_close(ours.eval()(images), expected)


def test_sets_and_teachers_are_made_with_our_networks_alone(digits):
    with pytest.raises(UsageError, match=f"{SMALL} is not one of this project's: experts are made"):
        check_own(SMALL, "experts")
    with pytest.raises(UsageError, match=f"{SMALL} is not one of this project's"):
        load_method("dm").config("digits", 1, "cpu", network=SMALL)
    made = synthesize(digits, "random", 1)
    made.card = made.card.model_copy(update={"label_kind": "teacher", "teacher": SMALL})
    with pytest.raises(DataError, match=f"{SMALL} is no network of this project"):
        stored_teacher(made)


def test_memory_is_told_before_it_is_needed():
    small, large = (training_bytes(name, CIFAR, 10, 10) for name in (SMALL, "torchvision:mobilenet_v3_large"))
    weights = 4 * 4 * 4_214_842  # float32: values, gradients, momentum, and what is between
    assert weights < small < large


@pytest.fixture
def few(digits):
    """The digits, tested on 20 images."""
    return replace(digits, load_test=lambda: digits.test.subset(torch.arange(20)), _cache={})


def test_an_evaluation_is_the_same_whatever_the_global_generator(few, tmp_path):
    (tmp_path / "short.toml").write_text(
        'id = "short"\nsource = "here"\nepochs = 2\nnetworks = 1\naugmentation = "none"\n'
    )
    short, made = str(tmp_path / "short.toml"), synthesize(few, "random", 1)
    assert load_protocol(short).epochs == 2
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(evaluate(made, few, short, network=SMALL))
        assert torch.equal(torch.get_rng_state(), torch.Generator().manual_seed(seed).get_state())
    assert found[0].accuracies == found[1].accuracies and found[0].network == SMALL
    assert any("mobilenet_v3_small is that of torchvision" in note for note in found[0].notes)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [DIGITS, CIFAR], ids=["8 px", "32 px"])
@pytest.mark.parametrize("name", POPULAR)
def test_networks_people_know_learn(name, shape):
    """Two classes of constant images, bright and dark."""
    pytest.importorskip(name.partition(":")[0])
    check_trainable(name, shape, 2)
    network = build(name, shape, classes=2).train()
    images, labels = torch.cat([torch.zeros(4, *shape), torch.ones(4, *shape)]), torch.arange(2).repeat_interleave(4)
    images += 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    optimizer, losses = torch.optim.AdamW(network.parameters(), 1e-3), []
    for _ in range(15):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
