"""Networks by name, with the field's names for the ConvNet's variants (``ConvNetD3``, ``ConvNetW64BN`` …)."""

import re

import torch

from distill_bench.errors import UsageError
from distill_bench.networks.convnet import GROUPS, WIDE_PADDING_SIDE, ConvNet
from distill_bench.networks.initialise import initialise

CONVNET = re.compile(
    r"ConvNet(?:D(?P<depth>[1-9]))?(?:W(?P<width>[1-9]\d*))?(?P<norm>NN|BN|IN|LN|GN)?"
    r"(?P<activation>AR|AL|ASwish|AS)?(?P<pooling>NP|MP|AP)?"
)
CODES = {
    "norm": {"NN": "none", "BN": "batch", "IN": "instance", "LN": "layer", "GN": "group"},
    "activation": {"AR": "relu", "AL": "leaky-relu", "AS": "sigmoid", "ASwish": "swish"},
    "pooling": {"NP": "none", "MP": "max", "AP": "average"},
}
TINY_SIDE = 8


def usual_convnet(shape: tuple[int, int, int]) -> str:
    """The ConvNet the field uses at a resolution: depth 3 to 32 px, 4 to 64, 5 above; depth 2, width 64 at 8 px."""
    side = min(shape[1:])
    if side <= TINY_SIDE:
        return "ConvNetD2W64"
    return "ConvNetD3" if side <= 32 else "ConvNetD4" if side <= 64 else "ConvNetD5"


def resolve_network(name: str, shape: tuple[int, int, int]) -> str:
    """The full name of a network: a ConvNet without depth or width gets those usual at this resolution.

    >>> resolve_network("ConvNetBN", (3, 32, 32))
    'ConvNetD3BN'

    Raises:
        UsageError: the name is unknown.
    """
    match = CONVNET.fullmatch(name)
    if match is None:
        raise UsageError(
            f"unknown network {name!r}. Known: ConvNet, with optional depth D1–D9, width W…, norm NN|BN|IN|LN|GN, "
            "activation AR|AL|AS|ASwish and pooling NP|MP|AP in that order, such as ConvNetD3 or ConvNetD4W64BN."
        )
    usual = CONVNET.fullmatch(usual_convnet(shape))
    assert usual is not None
    depth = match["depth"] or usual["depth"]
    width = match["width"] or (usual["width"] if not match["depth"] else None)
    rest = (match["norm"] or "") + (match["activation"] or "") + (match["pooling"] or "")
    return f"ConvNetD{depth}" + (f"W{width}" if width else "") + rest


def build_network(name: str, shape: tuple[int, int, int], classes: int, generator: torch.Generator) -> ConvNet:
    """A freshly initialised network for images of ``shape`` (channels, height, width).

    Raises:
        UsageError: the name is unknown, or the images are too small for its depth.
    """
    match = CONVNET.fullmatch(resolve_network(name, shape))
    assert match is not None
    options = {key: CODES[key][code] for key in CODES if (code := match[key])}
    depth = int(match["depth"])
    width = int(match["width"] or 128)
    side = min(shape[1:]) + (4 if shape[1:] == (WIDE_PADDING_SIDE, WIDE_PADDING_SIDE) else 0)
    if options.get("pooling") != "none" and side < 2**depth:
        raise UsageError(f"{name} halves the image {depth} times; {shape[1]}×{shape[2]} px is too small for that.")
    if options.get("norm") == "group" and width % GROUPS:
        raise UsageError(f"{name}: group norm has {GROUPS} groups; a width of {width} cannot be divided into them.")
    # made on the meta device: the constructors would draw from torch's global generator
    with torch.device("meta"):
        network = ConvNet(shape, classes, depth=depth, width=width, **options)  # type: ignore[arg-type]
    return initialise(network.to_empty(device="cpu"), generator)  # type: ignore[return-value]


__all__ = ["ConvNet", "build_network", "initialise", "resolve_network", "usual_convnet"]
