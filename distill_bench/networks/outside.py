"""Networks of a user's own, ``module:function``, and what is asked of every network that is not this project's."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.random import fork_rng

from distill_bench.errors import UsageError, first_line, is_out_of_memory
from distill_bench.networks.initialise import NORMS, initialise
from distill_bench.networks.network import Architecture, Network, Shape
from distill_bench.runtime.outside import import_function

LIBRARIES = ("torchvision", "timm")
"""Whose networks go by ``LIBRARY:NAME``."""


def outside_network(name: str) -> Architecture:
    """The network that ``module:function`` names.

    The function takes (channels, height, width) and the number of classes, and returns a ``Network``. It is called with
    tensors on the meta device; then convolutions, linear and norm layers get PyTorch's usual initial values from the
    generator, unless the network has a method ``initialise(generator)``, which then gives all of them.

    Raises:
        UsageError: it cannot be imported.
    """
    function = import_function(name, "network", LIBRARIES)

    def build(shape: Shape, classes: int) -> Network:
        with fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # what a constructor draws is the same every time
            try:
                network = function(shape, classes)
            except Exception as error:  # a stranger's code may raise anything
                raise refusal(name, "cannot be built", shape, error) from error
        if not isinstance(network, Network):
            raise UsageError(
                f"{name} returned a {type(network).__name__}: return "
                "distill_bench.networks.Network(features, classifier)."
            )
        return network

    return Architecture(build, initialise=partial(_initialise, name))


def _initialise(name: str, network: Network, generator: torch.Generator) -> Network:
    """Values for a network of uninitialised memory; UsageError where some get none."""
    advice = "give the network a method initialise(generator) for all its values"
    for value in _values(network).values():
        value.detach().fill_(math.nan if value.is_floating_point() else 0)
    own = getattr(network, "initialise", None)
    try:
        own(generator) if own is not None else initialise(network, generator)
    except Exception as error:
        raise UsageError(f"{name}: {first_line(error)}: {advice}.") from error
    for module in network.modules() if own is None else ():
        if not isinstance(module, NORMS) and any(True for _ in module.buffers(recurse=False)):
            raise UsageError(
                f"{name}: no initialisation is known for {type(module).__name__}, it has buffers: {advice}."
            )
    if without := without_values(network):
        raise UsageError(f"{name}: initialise leaves {without} without finite values: {advice}.")
    return network


def without_values(network: Network) -> str | None:
    """The first parameter or buffer of a network that holds a number that is not finite; None if there is none."""
    return next((key for key, value in _values(network).items() if not bool(value.isfinite().all())), None)


def _values(network: Network) -> dict[str, Tensor]:
    return dict([*network.named_parameters(), *network.named_buffers()])


def check_output(name: str, network: Network, shape: Shape, classes: int) -> None:
    """Raises UsageError unless an untrained network takes images of this shape and gives them logits."""
    with fork_rng(devices=[]), torch.no_grad():
        try:
            logits = network.eval()(torch.zeros(2, *shape))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise refusal(name, "cannot be run", shape, error) from error
    network.train()
    came = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if came != (2, classes):
        raise UsageError(f"{name} must return logits [images, {classes}]; of 2 images came {came}.")


def check_training(name: str, network: Network, shape: Shape) -> None:
    """Raises UsageError unless gradients of a network in training mode can be had; its buffers may change."""
    with fork_rng(devices=[]):
        try:
            network.train()(torch.zeros(2, *shape)).sum().backward()
        except UsageError as error:
            raise UsageError(f"{name}: {error}.") from error
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise refusal(name, "cannot be trained", shape, error) from error


def refusal(name: str, what: str, shape: Shape, error: Exception) -> UsageError:
    """The error of a network of somebody else's that raised another one, for images of ``shape``."""
    channels, height, width = shape
    return UsageError(
        f"{name} {what} for images of {channels}×{height}×{width} (are they too small?): {type(error).__name__}: "
        f"{first_line(error)}."
    )
