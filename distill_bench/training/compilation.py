"""Networks through ``torch.compile`` where that pays: the work between convolutions becomes a few fused loops.

Whether a stage of work runs compiled is decided once, from facts that are the same on every machine, since compiled and
eager arithmetic differ in the last bits. Compiled code is kept under ``DISTILL_BENCH_HOME``: a shape is compiled once.
"""

import functools
import itertools
import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distill_bench.errors import UsageError
from distill_bench.networks import Observed, sharing_values
from distill_bench.runtime.files import cannot_write
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir

Choice = Literal["auto", "on", "off"]

# of one network: below, compiling takes longer than it saves
PAYS_FLOPS = 3e12
_VARIANTS_HELD = 8


def decide(choice: str, device: torch.device, flops: float, least: float = PAYS_FLOPS) -> bool:
    """Whether a stage runs compiled. ``auto``: on a CPU, where it takes so many operations or more.

    Where there is no compiler for the CPU it does not, and one line of the log says so.

    Raises:
        UsageError: the choice is unknown.
    """
    if choice not in get_args(Choice):
        raise UsageError(f"`compile={choice!r}`: give {', '.join(get_args(Choice))}.")
    wanted = choice == "on" or (choice == "auto" and device.type == "cpu" and flops >= least)
    if wanted and device.type == "cpu" and (reason := unavailable()):
        _say_once(f"not compiled, which takes a little longer: {reason}")
        return False
    return wanted


def resume_mode(was_compiled: bool) -> bool:
    """Whether a stage that was begun runs compiled: as it was begun.

    Raises:
        UsageError: it was begun compiled, and nothing can be compiled here now.
    """
    if was_compiled and (reason := unavailable()):
        raise UsageError(
            f"this work was begun compiled and would end otherwise: {reason} Or delete what was begun, to start again."
        )
    return was_compiled


def unavailable() -> str | None:
    """Why nothing can be compiled for the CPU here; None if it can."""
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler}; install one, or name it in $CXX."
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's own headers (Python.h) are not installed."
    return None


def flops_of(network: nn.Module, shape: tuple[int, int, int]) -> int:
    """Floating-point operations (two a multiply-add) of convolutions and matrix products for one image, forward."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports triton, which most commands need not wait for

    counter, was_training = FlopCounterMode(display=False), network.training
    network.eval()
    with counter, torch.no_grad():
        like = next(network.parameters())
        network(torch.zeros(1, *shape, device=like.device, dtype=like.dtype))
    network.train(was_training)
    return int(counter.get_total_flops())


def training_flops(network: nn.Module, shape: tuple[int, int, int], trained: int, tested: int = 0) -> float:
    """Operations to train on so many images, every epoch's counted (three passes each), and to test on others."""
    return float(flops_of(network, shape)) * (3 * trained + tested)


# no run-time check of shapes on what is compiled: torch would have to trace it


def cross_entropy(network: nn.Module, images: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """The mean cross-entropy (nats) of a network's logits divided by a temperature.

    Images float [b, c, h, w]; targets int64 [b] are classes, float [b, k] probabilities or weights.
    """
    return F.cross_entropy(network(images) / temperature, targets)


def distillation_loss(network: nn.Module, images: Tensor, targets: Tensor, temperature: float, alpha: float) -> Tensor:
    """The mean of (1 − α) CE(z, y) + α T² CE(p, softmax(z / T)), in nats: of two kinds of labels.

    Its slope in the logits z of an image is (1 − α)(softmax(z) − y) + α T (softmax(z / T) − p). T² keeps the slopes of
    the two alike (Hinton et al., 2015, section 2); CE(p, ·) differs from KL(p ‖ ·) by what no network changes. The
    weighting is that of knowledge distillation on pruned data (Ben-Baruch et al., 2024, arXiv 2403.07854).

    Args:
        network: of logits z.
        images: float [b, c, h, w].
        targets: float [b, 2, k]: of every image the teacher's probabilities p at temperature T, then its class y as
            probabilities.
        temperature: T.
        alpha: α.

    Returns:
        The loss, a scalar.
    """
    z, (p, y) = network(images), targets.unbind(dim=1)
    return (1 - alpha) * F.cross_entropy(z, y) + alpha * temperature**2 * F.cross_entropy(z / temperature, p)


def label_distances(logits: Tensor, classes: Tensor) -> Tensor:
    """−log p of some classes, the cross-entropies (nats) of predictions with their one-hot labels.

    Its slope in the logits z is softmax(z) − onehot(class).

    Args:
        logits: z, float [b, k].
        classes: int64 [b, m].

    Returns:
        The distances, float [b, m].
    """
    return -logits.log_softmax(dim=1).gather(1, classes)


def distance_loss(network: nn.Module, images: Tensor, targets: Tensor, temperature: float, weight: float) -> Tensor:
    """The mean of Σ_m share_m CE(z, y_m) + w Σ_m |d_m(z / T) − d_m|, in nats: classes, and distances to the same.

    Distance-based representation (Tran et al., CVPR 2025): of every image two classes, its own and that of the image
    mixed into it, and the distance of the teacher's prediction to each (``label_distances``), which the network's
    own comes to have. That differences count by their size, not squared, is a choice: no source says it.

    Args:
        network: of logits z.
        images: float [b, c, h, w].
        targets: float [b, 2, 3]: of every image, for either class, the class y_m, its share and the distance d_m.
        temperature: T, at which the distances were taken.
        weight: w.

    Returns:
        The loss, a scalar.
    """
    z, (classes, shares, distances) = network(images), targets.unbind(dim=2)
    classes = classes.long()
    hard = (shares * label_distances(z, classes)).sum(dim=1)
    apart = (label_distances(z / temperature, classes) - distances).abs().sum(dim=1)
    return (hard + weight * apart).mean()


def squared_error(network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """The mean over all entries of (network(images) − targets)²; targets float [b, d] are what outputs are to be."""
    return F.mse_loss(network(images), targets)


def logits(network: nn.Module, images: Tensor) -> Tensor:
    """A network's output [b, k] for images float [b, c, h, w]."""
    return network(images)


def compiled(function: Callable[..., Tensor], network: nn.Module) -> Callable[..., Tensor]:
    """``function`` of a network and images, compiled: call it with the images, and what follows them.

    Parameters and buffers are the network's own, so its gradients arrive there. The first call for a shape compiles.
    """
    twin, name = _decompose_group_norm(network), f"{function} of {network}, {network.training}"
    if isinstance(network, Observed):  # its code is of its list of notes alone
        name += f", {next(_observed)}"
    run = _compiled_function(function)

    def call(*arguments: Any) -> Tensor:
        shapes = [(a.shape, a.dtype) if isinstance(a, Tensor) else a for a in arguments]
        _make_room(f"{name}, {shapes}, {torch.get_num_threads()}")
        return run(twin, *arguments)

    return call


@functools.cache
def _compiled_function(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    set_inductor_cache()

    def channels_last(network: nn.Module, images: Tensor, *others: Any) -> Tensor:
        return function(network, images.contiguous(memory_format=torch.channels_last), *others)

    return torch.compile(channels_last, fullgraph=True, dynamic=False)


def set_inductor_cache() -> None:
    """Name the cache, the user's alone, and compile in this process: each of a pool of compilers would cost memory."""
    folder = name_inductor_cache()
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)  # what lies there is run
        except OSError as error:
            raise cannot_write(folder, error) from error


def name_inductor_cache() -> Path | None:
    """The folder of what is compiled, for torch, which reads it once, early; None where the environment has another."""
    folder = cache_dir() / "compiled"
    return folder if os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder)) == str(folder) else None


_variants: set[str] = set()
_observed = itertools.count()


def _make_room(variant: str) -> None:
    """Start afresh before torch's limit of variants of one function is reached; what was compiled is on disk."""
    if variant not in _variants and len(_variants) >= _VARIANTS_HELD:
        torch.compiler.reset()
        _variants.clear()
    _variants.add(variant)


@functools.cache
def _say_once(text: str) -> None:
    log.warning(text)


class _WrittenOutNorm(nn.Module):
    """Group norm as means and differences, which compile into the loops around them; the library's own does not."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self._groups, self._eps = norm.num_groups, norm.eps

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4:
            return F.group_norm(images, self._groups, self.weight, self.bias, self._eps)
        weight, bias = self.weight[:, None, None], self.bias[:, None, None]
        if self._groups == images.shape[1]:  # four dimensions compile into better loops than five
            variance, mean = torch.var_mean(images, (2, 3), keepdim=True, correction=0)
            return (images - mean) * ((variance + self._eps).rsqrt() * weight) + bias
        grouped = images.unflatten(1, (self._groups, -1))
        variance, mean = torch.var_mean(grouped, (2, 3, 4), keepdim=True, correction=0)
        return ((grouped - mean) * (variance + self._eps).rsqrt()).flatten(1, 2) * weight + bias


def _decompose_group_norm(network: nn.Module) -> nn.Module:
    """The network with its group norms written out; parameters and buffers are the same objects."""
    twin = sharing_values(network)
    for module in list(twin.modules()):
        for name, child in module.named_children():
            if type(child) is nn.GroupNorm and child.affine:  # a subclass may do more
                setattr(module, name, _WrittenOutNorm(child))
    return twin
