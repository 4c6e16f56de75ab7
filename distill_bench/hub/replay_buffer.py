"""Experts as MTT and what followed it keep them: ``replay_buffer_*.pt``.

A list of trajectories; a trajectory is a list of snapshots, a snapshot the list of a network's parameters (buffer.py of
GeorgeCazenavette/mtt-distillation 50dccea). Nothing in a file says on which data, in which pixel space or with which
network the experts were trained: whoever imports them does.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from distill_bench.errors import DataError
from distill_bench.hub.unpickle import load_pickled
from distill_bench.pretrained import Experts, adopt_experts
from distill_bench.training_data import TrainingData

ORIGIN_DIGITS = 16


def import_experts(paths: Sequence[Path], training: TrainingData, network: str) -> Experts:
    """Keep the experts of replay buffers in the store, under a name that is the hash of the files.

    Args:
        paths: the files, in the order that numbers their trajectories.
        training: what the experts are said to have been trained on.
        network: whose parameters they hold.

    Raises:
        DataError: a file is missing, damaged, asks for code to be run, or holds other things; or trajectories are not
            this network's.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}.") from error
    found = (trajectory for path in paths for trajectory in read_replay_buffer(path))
    return adopt_experts(training, network, found, digest.hexdigest()[:ORIGIN_DIGITS])


def read_replay_buffer(path: Path) -> Iterator[Float[Tensor, "epochs p"]]:
    """The trajectories of one file, each snapshot as one vector.

    Raises:
        DataError: as ``import_experts``.
    """
    content = load_pickled(path)
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: holds {_kind(content)}; a replay buffer is a list of trajectories.")
    for index, trajectory in enumerate(content):
        try:
            yield torch.stack([torch.cat([part.detach().flatten() for part in snapshot]) for snapshot in trajectory])
        except (TypeError, AttributeError, RuntimeError) as error:
            raise DataError(
                f"{path}: trajectory {index} is {_kind(trajectory)}, not a list of snapshots, each the list of one "
                f"network's parameters ({error})."
            ) from error


def _kind(content: Any) -> str:
    return f"a {type(content).__name__}" + (f" of {len(content)}" if isinstance(content, (list, dict)) else "")
