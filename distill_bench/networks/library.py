"""Networks of torchvision and timm, ``torchvision:NAME`` and ``timm:NAME``, fitted to a dataset by one rule.

- Classes: the last linear layer has as many outputs.
- Channels: timm's own argument; torchvision's first convolution keeps the kernels of its first channels, times √(3/c),
  so that its outputs have the variance they would have of three channels.
- Small images: enlarged (bilinear) until both sides are multiples of 32 px, 64 at least, since these networks shrink an
  image to a 32nd. What is built for images of one size (vision transformers) is built for that.
- Initial values: the library's own, with all their draws from the generator. No pretrained weights, never.
- Dropout and stochastic depth are off, so that training draws nothing.
"""

import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import Any, cast

import torch
from torch import nn

from distill_bench.errors import UsageError, did_you_mean
from distill_bench.networks.draws import DrawnFrom
from distill_bench.networks.network import Architecture, Network, Shape
from distill_bench.networks.outside import LIBRARIES, refusal, without_values

LEAST_SIDE, MULTIPLE = 64, 32
_COLOURS = 3
_WITHOUT_AUXILIARY: Mapping[str, Any] = {"aux_logits": False, "init_weights": True}
"""GoogLeNet and Inception give further logits in training otherwise, and warn of a coming default."""
_AUXILIARY = ("googlenet", "inception_v3")
_RATES = ("drop_prob", "drop_rate", "dropout", "attention_dropout", "attn_drop_rate")
"""Attributes by which modules that are no dropout themselves know how much to drop."""


def is_library(name: str) -> bool:
    """Whether a network's name is ``torchvision:NAME`` or ``timm:NAME``."""
    return isinstance(name, str) and name.startswith(tuple(f"{library}:" for library in LIBRARIES))


def library_note(name: str) -> str:
    """What a reader must know of a library's network, with the version that decides what it is.

    Raises:
        UsageError: as ``check_library``.
    """
    library = check_library(name).partition(":")[0]
    return f"the network {name} is that of {library} {version(library)}, without dropout and stochastic depth"


def check_library(name: str) -> str:
    """The name, if the library has such a network.

    Raises:
        UsageError: it has none, or is not installed.
    """
    library, _, wanted = name.partition(":")
    known = _known(library)
    if wanted in known:
        return name
    bare = wanted.partition(".")[0]
    if library == "timm" and bare in known:
        raise UsageError(f"{name} names pretrained weights, and none are loaded: give timm:{bare}.")
    close = did_you_mean(f"{library}:{wanted.casefold()}", [f"{library}:{each}" for each in known])
    raise UsageError(
        f"unknown network {name!r}: {library} {version(library)} has no {wanted!r} among its {len(known):,} networks "
        f"that classify.{close}"
    )


def library_hint(name: str) -> str:
    """`` torchvision has it: torchvision:resnet50.`` of a name that is no network's here; nothing where it has not."""
    known = {_plain(each): each for each in _known("torchvision")}
    meant = known.get(_plain(name))
    return f" torchvision has it: torchvision:{meant}." if meant else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


@cache
def _known(library: str) -> tuple[str, ...]:
    if library == "torchvision":
        from torchvision import models  # here, because importing torchvision takes a second

        return tuple(models.list_models(module=models))
    try:
        timm = importlib.import_module("timm")
    except ImportError:
        raise UsageError("networks of timm need it: pip install 'distill_bench[timm]'.") from None
    return tuple(timm.list_models())


@dataclass(frozen=True)
class LibraryArchitecture(Architecture):
    """How a library's network is built: the library gives its initial values itself, while it builds."""

    name: str = ""

    def fresh(self, shape: Shape, classes: int, generator: torch.Generator) -> Network:
        with DrawnFrom(generator):
            network = self.build(shape, classes)
        if without := without_values(network):
            raise UsageError(f"{self.name}: its library leaves {without} without finite values: give another network.")
        return network


def library_network(name: str) -> Architecture:
    """The network of a checked name, see ``check_library``; how it is fitted to the images, see this module."""
    return LibraryArchitecture(partial(_build, name), name=name)


def enlarged_sides(shape: Shape) -> tuple[int, int]:
    """Height and width that images are brought to: the next multiples of 32, 64 at least.

    >>> enlarged_sides((1, 28, 28)), enlarged_sides((3, 100, 224))
    ((64, 64), (128, 224))
    """
    height, width = (max(LEAST_SIDE, math.ceil(side / MULTIPLE) * MULTIPLE) for side in shape[1:])
    return height, width


def _build(name: str, shape: Shape, classes: int) -> Network:
    library, _, wanted = name.partition(":")
    sides = enlarged_sides(shape)
    try:
        model = (_torchvision if library == "torchvision" else _timm)(wanted, shape[0], sides, classes)
    except UsageError as error:
        raise UsageError(f"{name}: {error}.") from error
    except Exception as error:  # of many types, where a network does not take such images
        raise refusal(name, "cannot be built", shape, error) from error
    _turn_off_dropout(model)
    last: Any = cast(Any, model).get_classifier() if library == "timm" else _last_layer(model)
    if not isinstance(last, nn.Linear):
        raise UsageError(
            f"{name} ends in a {type(last).__name__}, not in a linear layer, as every network does here. Give another."
        )
    _take_out(last, model)
    enlarge = nn.Upsample(sides, mode="bilinear") if sides != shape[1:] else nn.Identity()
    return Network(nn.Sequential(enlarge, model), last)


def _torchvision(name: str, channels: int, sides: tuple[int, int], classes: int) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = dict(_WITHOUT_AUXILIARY) if name in _AUXILIARY else {}
    if name.startswith(("vit_", "maxvit_")):
        if sides[0] != sides[1]:
            raise UsageError(f"it needs square images, not {sides[0]}×{sides[1]}: give `size`")
        options = {"image_size": sides[0]} if name.startswith("vit_") else {"input_size": sides}
    model: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    if channels != _COLOURS:
        _narrow_stem(model, channels)
    return model


def _timm(name: str, channels: int, sides: tuple[int, int], classes: int) -> nn.Module:
    import timm

    fixed = timm.models.get_pretrained_cfg_value(name, "fixed_input_size")
    options: dict[str, Any] = {"img_size": sides} if fixed else {}
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **options)
    return model


def _narrow_stem(model: nn.Module, channels: int) -> None:
    """Give the first convolution, in place, fewer input channels than three."""
    stem = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if channels > _COLOURS or stem.in_channels != _COLOURS:
        raise UsageError(f"it takes images of 1 to {_COLOURS} channels, not {channels}: timm's take any number")
    stem.weight = nn.Parameter(stem.weight.detach()[:, :channels] * math.sqrt(_COLOURS / channels))
    stem.in_channels = channels


def _turn_off_dropout(model: nn.Module) -> None:
    """Set every probability of dropping something to 0."""
    from torch.nn.modules.dropout import _DropoutNd
    from torchvision.ops import StochasticDepth

    for module in model.modules():
        if isinstance(module, (_DropoutNd, StochasticDepth)):
            module.p = 0.0
        for rate in _RATES:
            if isinstance(getattr(module, rate, None), float):
                setattr(module, rate, 0.0)


def _last_layer(model: nn.Module) -> nn.Module:
    """Of those with parameters, in the order in which they are registered."""
    layers = [module for module in model.modules() if not list(module.children())]
    return [layer for layer in layers if any(True for _ in layer.parameters())][-1]


def _take_out(layer: nn.Module, model: nn.Module) -> None:
    """Put an identity in the place of a layer of a model."""
    path = next(path for path, module in model.named_modules() if module is layer)
    parent, _, own = path.rpartition(".")
    setattr(model.get_submodule(parent), own, nn.Identity())
