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

from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import DataError
from distill_bench.hub.convert.unpickle import load_pickled
from distill_bench.networks import resolve_network
from distill_bench.pretrained.experts import Experts, adopt_experts, parameter_shapes
from distill_bench.runtime.hashing import sha256_of

_ORIGIN_DIGITS = 16
_EXAMPLE = "[[list(network.parameters()), …], …]"
"""What ``torch.save`` is given to write a replay buffer."""


def import_experts(paths: Sequence[Path], training: TrainingData, network: str) -> Experts:
    """Keep the experts of replay buffers in the store, under a name that is the hash of the files.

    The files are read twice: nothing is kept before all of them were found sound.

    Args:
        paths: the files, one at least, in the order that numbers their trajectories.
        training: what the experts are said to have been trained on.
        network: whose parameters they hold.

    Returns:
        The experts, as stored.

    Raises:
        DataError: a file is missing, damaged, asks for code to be run, or holds other things; or trajectories are not
            this network's, too short, or not finite.
    """
    digest = hashlib.sha256()
    for path in paths:
        try:
            digest.update(bytes.fromhex(sha256_of(path)))
        except OSError as error:
            raise DataError(f"{path}: {error.strerror or error}.") from error
    count = sum(1 for path in paths for _ in _read_replay_buffer(path, training, network))
    trajectories = (trajectory for path in paths for trajectory in _read_replay_buffer(path, training, network))
    return adopt_experts(training, network, trajectories, count, digest.hexdigest()[:_ORIGIN_DIGITS])


def _read_replay_buffer(path: Path, training: TrainingData, network: str) -> Iterator[Float[Tensor, "epochs p"]]:
    """The trajectories of one file, each snapshot as one float32 vector.

    Raises:
        DataError: as ``import_experts``.
    """
    content = load_pickled(path, _EXAMPLE)
    if not isinstance(content, list) or not content:
        raise DataError(f"{path}: holds {_kind(content)}; a replay buffer is a list of trajectories.")
    shapes = parameter_shapes(training, network)
    whose = f"{resolve_network(network, training.shape)} on {training.source_name}"
    for index, trajectory in enumerate(content):
        where = f"{path}: trajectory {index}"
        if not _is_trajectory(trajectory):
            raise DataError(
                f"{where} is {_kind(trajectory)}, not a list of snapshots, each the list of one network's parameters."
            )
        if len(trajectory) < 2:
            raise DataError(f"{where} has {len(trajectory)} snapshots; two are needed at least.")
        for epoch, snapshot in enumerate(trajectory):
            difference = _difference([tuple(part.shape) for part in snapshot], shapes, whose)
            if difference is not None:
                raise DataError(
                    f"{where}, snapshot {epoch} {difference}. Give the network they were trained with: `network`."
                )
        vectors = torch.stack([torch.cat([part.detach().flatten().float() for part in s]) for s in trajectory])
        if not vectors.isfinite().all():
            raise DataError(f"{where} has values that are not finite as float32.")
        yield vectors


def _is_trajectory(content: Any) -> bool:
    """Whether it is a list of snapshots, each a list of tensors."""
    return isinstance(content, list) and all(
        isinstance(snapshot, list) and snapshot and all(isinstance(part, Tensor) for part in snapshot)
        for snapshot in content
    )


def _difference(shapes: list[tuple[int, ...]], expected: list[tuple[int, ...]], whose: str) -> str | None:
    """Where the shapes of a snapshot differ first from those of a network; None if they do not.

    >>> _difference([(4,), (2, 3)], [(4,), (3, 2)], "LeNet on digits")
    'has (2, 3) as the shape of parameter 1; LeNet on digits has (3, 2)'
    """
    if len(shapes) != len(expected):
        return f"is a list of {len(shapes)}; {whose} has {len(expected)} parameters"
    pairs = enumerate(zip(shapes, expected, strict=True))
    differing = (f"has {a} as the shape of parameter {at}; {whose} has {b}" for at, (a, b) in pairs if a != b)
    return next(differing, None)


def _kind(content: Any) -> str:
    return f"a {type(content).__name__}" + (f" of {len(content)}" if isinstance(content, (list, dict)) else "")
