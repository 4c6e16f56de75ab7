"""A training between two epochs as tensors and facts for a checkpoint."""

from typing import Any

from torch import Tensor, nn

from distill_bench.errors import RunFailed
from distill_bench.pretrained.store import Made
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.training.train import Standing


def unfinished(network: nn.Module, standing: Standing) -> Made:
    """Tensors and facts from which ``restore`` goes on: weights and buffers, momentum, the generator, the epoch."""
    assert standing.draws is not None
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"momentum.{index}": tensor for index, tensor in enumerate(standing.momenta)}
    return tensors | {"draws": standing.draws}, {"epoch": standing.epoch, "loss": standing.loss}


def restore(network: nn.Module, tensors: dict[str, Tensor], facts: dict[str, Any]) -> Standing:
    """Give a network of the same architecture what ``unfinished`` saved, and return where its training stood."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    network.load_state_dict(part("network."))
    momenta = part("momentum.")
    return Standing(facts["epoch"], facts["loss"], [momenta[str(i)] for i in range(len(momenta))], tensors["draws"])


def diverged(what: str, error: RunFailed, checkpoint: Checkpoint, setting: str) -> RunFailed:
    """The error of a training that diverged, with its last checkpoint and what to lower."""
    there = checkpoint.path is not None and checkpoint.path.exists()
    good = f"Its last checkpoint is {checkpoint.path}." if there else "It has no checkpoint."
    return RunFailed(f"{what}: {error} {good} Lower its learning rate (--set {setting}=…), and start again.")
