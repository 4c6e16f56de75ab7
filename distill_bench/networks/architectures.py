"""Networks by the field's names: the ConvNet's variants (``ConvNetD3``, ``ConvNetW64BN`` …), ``ResNet18BN_AP`` …"""

import re
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from distill_bench.errors import UsageError, did_you_mean
from distill_bench.networks.classic import ALEXNET, VGG11, convolutions, lenet, mlp
from distill_bench.networks.convnet import GROUPS, ConvNet, extra_padding
from distill_bench.networks.draws import DrawnFrom
from distill_bench.networks.library import check_library, is_library, library_hint, library_network
from distill_bench.networks.network import Architecture, Network, Shape
from distill_bench.networks.outside import check_output, check_training, outside_network, refusal
from distill_bench.networks.resnet import resnet18
from distill_bench.networks.vit import initialise_vit, vit

_CONVNET = re.compile(
    r"ConvNet(?:D(?P<depth>[1-9]))?(?:W(?P<width>[1-9]\d{0,4}))?(?P<norm>NN|BN|IN|LN|GN)?"
    r"(?P<activation>AR|AL|ASwish|AS)?(?P<pooling>NP|MP|AP)?"
)
_CODES = {
    "norm": {"NN": "none", "BN": "batch", "IN": "instance", "LN": "layer", "GN": "group"},
    "activation": {"AR": "relu", "AL": "leaky-relu", "AS": "sigmoid", "ASwish": "swish"},
    "pooling": {"NP": "none", "MP": "max", "AP": "average"},
}
_TINY_SIDE = 8
_USUAL_CONVNETS = ("ConvNet", "ConvNetBN", "ConvNetD3", "ConvNetD3BN")
_POOLS_THREE_TIMES = (8, "it halves the image three times")
_POOLS_FIVE_TIMES = (32, "it halves the image five times (28 px are padded to 32)")
_CONSTANT = (
    "instance norm makes a map of one pixel constant, and its last maps would be no larger; with batch norm it is"
)
ARCHITECTURES = {
    "MLP": Architecture(mlp),
    "LeNet": Architecture(lenet, (16, "its 5×5 convolutions are not padded (at 28 px the first one is)")),
    "AlexNet": Architecture(partial(convolutions, ALEXNET), _POOLS_THREE_TIMES),
    "AlexNetBN": Architecture(partial(convolutions, ALEXNET, norm="batch"), _POOLS_THREE_TIMES),
    "VGG11": Architecture(partial(convolutions, VGG11, norm="instance"), _POOLS_FIVE_TIMES),
    "VGG11BN": Architecture(partial(convolutions, VGG11, norm="batch"), _POOLS_FIVE_TIMES),
    "ResNet18": Architecture(resnet18, (9, f"{_CONSTANT} ResNet18BN and takes any size")),
    "ResNet18BN": Architecture(partial(resnet18, norm="batch")),
    "ResNet18BN_ImageNet": Architecture(
        partial(resnet18, norm="batch", small=False),
        (64, "it halves the image five times; ResNet18BN is for small images"),
    ),
    "ResNet18_AP": Architecture(
        partial(resnet18, average_pooling=True), (16, f"{_CONSTANT} ResNet18BN_AP and takes 8 px")
    ),
    "ResNet18BN_AP": Architecture(partial(resnet18, norm="batch", average_pooling=True), _POOLS_THREE_TIMES),
    "ViT": Architecture(vit, initialise=initialise_vit),
}


def is_ours(name: str) -> bool:
    """Whether a network's name is neither that of a library's nor ``module:function``."""
    return isinstance(name, str) and ":" not in name


def is_named_by_us(name: str) -> bool:
    """Whether a name is that of a network of this project, at some resolution."""
    return name in ARCHITECTURES or _CONVNET.fullmatch(name) is not None


def is_outside(name: str) -> bool:
    """Whether a network's name is a ``module:function`` from outside this package."""
    return isinstance(name, str) and not is_ours(name) and not is_library(name)


def usual_convnet(shape: Shape) -> str:
    """The ConvNet the field uses at a resolution: depth 3 to 32 px, 4 to 64, 5 above; depth 2, width 64 at 8 px."""
    side = min(shape[1:])
    if side <= _TINY_SIDE:
        return "ConvNetD2W64"
    return "ConvNetD3" if side <= 32 else "ConvNetD4" if side <= 64 else "ConvNetD5"


def resolve_network(name: str, shape: Shape) -> str:
    """The full name of a network: a ConvNet without depth or width gets those usual at this resolution.

    >>> resolve_network("ConvNetBN", (3, 32, 32))
    'ConvNetD3BN'

    Raises:
        UsageError: the name is unknown, or no name.
    """
    is_text = isinstance(name, str)
    if is_library(name):
        return check_library(name)
    if is_text and (name in ARCHITECTURES or is_outside(name)):
        return name
    match = _CONVNET.fullmatch(name) if is_text else None
    if match is None:
        asked = f"{type(name).__name__}: networks are given by name."
        if is_text:
            hint = library_hint(name) or did_you_mean(name, [*_USUAL_CONVNETS, *ARCHITECTURES])
            asked = f"{name!r}.{hint}"
        raise UsageError(
            f"unknown network {asked} Known: ConvNet, with optional depth D1–D9, width W…, norm NN|BN|IN|LN|GN, "
            "activation AR|AL|AS|ASwish and pooling NP|MP|AP in that order, such as ConvNetD3 or ConvNetD4W64BN; "
            f"{', '.join(ARCHITECTURES)}; a library's: torchvision:resnet50, timm:NAME; your own: module:function."
        )
    usual = _CONVNET.fullmatch(usual_convnet(shape))
    assert usual is not None
    depth = match["depth"] or usual["depth"]
    width = match["width"] or (usual["width"] if not match["depth"] else None)
    rest = (match["norm"] or "") + (match["activation"] or "") + (match["pooling"] or "")
    return f"ConvNetD{depth}" + (f"W{width}" if width else "") + rest


def check_network(name: str, shape: Shape) -> str:
    """The full name of a network that takes images of ``shape`` (channels, height, width).

    Raises:
        UsageError: the name is unknown, or the images are too small for it, or not square where they must be.
    """
    return _checked(name, shape)[0]


def check_own(name: str, what: str, where: str = "") -> None:
    """Raises UsageError for another network than our own, with which alone ``what``, such as sets, are made."""
    if not is_ours(name):
        raise UsageError(f"{where}the network {name} is not one of this project's: {what} are made with these alone.")


def build_network(name: str, shape: Shape, classes: int, generator: torch.Generator) -> Network:
    """A freshly initialised network for images of ``shape`` (channels, height, width).

    Raises:
        UsageError: as ``check_network``.
    """
    name, architecture = _checked(name, shape)
    network = architecture.fresh(shape, classes, generator)
    if not is_ours(name):
        check_output(name, network, shape, classes)
    return network


def check_trainable(name: str, shape: Shape, classes: int) -> None:
    """Take a step of training with a network that is not ours, before any work is done.

    Args:
        name: of a network, see ``resolve_network``.
        shape: (channels, height, width) of the images.
        classes: how many logits.

    Raises:
        UsageError: it cannot be built, run or trained; or it is a library's and draws random numbers in training.
    """
    if is_ours(name):
        return
    network = build_network(name, shape, classes, torch.Generator())
    with DrawnFrom(None) if is_library(name) else nullcontext():
        check_training(name, network, shape)


def blank_network(name: str, shape: Shape, classes: int) -> Network:
    """A network without values, on the meta device: its parameters' shapes, at no cost of memory.

    Raises:
        UsageError: as ``check_network``.
    """
    return _checked(name, shape)[1].blank(shape, classes)


def activation_values(name: str, shape: Shape, classes: int) -> tuple[int, int]:
    """How many numbers a network holds of one image: (at once, without a graph; of all layers, for a gradient).

    Counted on the meta device: the most that one layer takes in and puts out, and what all layers put out.

    Raises:
        UsageError: as ``check_network``.
    """
    return (_counted.__wrapped__ if is_outside(name) else _counted)(name, tuple(shape), classes)


@lru_cache(maxsize=64)  # a suite asks for the same few again and again; a file of somebody's own may change
def _counted(name: str, shape: Shape, classes: int) -> tuple[int, int]:
    network = blank_network(name, shape, classes)
    counts: list[tuple[int, int]] = []

    def numbers(values: Any) -> int:
        return sum(value.numel() for value in tree_leaves(values) if isinstance(value, Tensor))

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        counts.append((numbers(inputs[:1]), numbers(output)))

    for module in network.modules():
        if not list(module.children()):
            module.register_forward_hook(count)
    try:
        network.eval()(torch.empty(1, *shape, device="meta"))
    except Exception as error:
        if is_ours(name):
            raise
        raise refusal(name, "cannot be run", shape, error) from error
    return max(map(sum, counts)), sum(output for _, output in counts)


def _checked(name: str, shape: Shape) -> tuple[str, Architecture]:
    """The full name of a network, and how it is built, if it takes images of this shape."""
    name = resolve_network(name, shape)
    height, width = shape[1:]
    # 28 px count as the 32 that the first convolution makes of them
    shorter = min(height, width) + 2 * extra_padding(shape)
    if not is_ours(name):
        return name, library_network(name) if is_library(name) else outside_network(name)
    if name not in ARCHITECTURES:
        return name, Architecture(partial(ConvNet, **_convnet_options(name, shape, shorter)))
    architecture = ARCHITECTURES[name]
    side, reason = architecture.smallest
    if shorter < side:
        raise UsageError(f"{name} needs images of {side} px or more, not {height}×{width}: {reason}.")
    if name == "ViT" and height != width:
        raise UsageError(f"{name} needs square images, not {height}×{width}: give `size`.")
    return name, architecture


def _convnet_options(name: str, shape: Shape, shorter: int) -> dict[str, Any]:
    """What a full name says of a ConvNet, if that goes with images of this shape."""
    match = _CONVNET.fullmatch(name)
    assert match is not None
    depth, width = int(match["depth"]), int(match["width"] or 128)
    options = {option: codes[match[option]] for option, codes in _CODES.items() if match[option]}
    if options.get("pooling") != "none" and shorter < 2**depth:
        raise UsageError(f"{name} halves the image {depth} times; {shape[1]}×{shape[2]} px is too small for that.")
    if options.get("norm") == "group" and width % GROUPS:
        raise UsageError(f"{name}: group norm has {GROUPS} groups; a width of {width} cannot be divided into them.")
    return {"depth": depth, "width": width, **options}
