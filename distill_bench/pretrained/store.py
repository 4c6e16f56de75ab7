"""The store of pretrained work: a file a piece, named by the hash of everything it depends on.

``pretrained/<kind>/<key>.safetensors`` holds deterministic content alone: tensors, what they depend on (the identity)
and what was found on the way (the facts). Time, machine, versions and the file's sum go to ``<key>.run.json`` beside
it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from distill_bench.errors import RunFailed
from distill_bench.runtime.checkpoint import EVERY_SECONDS, Checkpoint
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.locks import get_or_make
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.run_info import conditions, run_block
from distill_bench.runtime.stored import beside, is_intact, read_json, write_with_sum

_METADATA_KEY = "distill_bench"

Artifact = tuple[dict[str, Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Pretrained:
    """A finished piece.

    Attributes:
        path: its file.
        identity: everything it depends on.
        facts: what was found when it was made.
    """

    path: Path
    identity: dict[str, Any]
    facts: dict[str, Any]

    @property
    def key(self) -> str:
        """The content address: the hash of the identity."""
        return self.path.stem

    @property
    def history(self) -> dict[str, Any]:
        """How it was made: dataset's name, seconds, machine; empty if the file beside it is gone."""
        return read_json(beside(self.path)) or {}

    @property
    def seconds(self) -> float | None:
        """How long its training took, of all processes together; None where it was not trained here."""
        from_elsewhere = "origin" in self.identity or self.identity.get("recipe", {}).get("weights")
        return None if from_elsewhere else self.history.get("seconds")

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name. They are mapped from the file: only what is read of them fills memory."""
        return load_file(self.path)


def get_or_create(
    kind: str,
    identity: dict[str, Any],
    make: Callable[[Checkpoint], Artifact],
    monitor: Monitor,
    *,
    dataset: str,
    device: torch.device | None = None,
    every_seconds: float = EVERY_SECONDS,
) -> Pretrained:
    """The piece with this identity, made now where the store has none. Of several processes that need it, one makes it.

    Args:
        kind: the folder, such as ``"teachers"``.
        identity: JSON values.
        make: returns tensors and facts. It is given the place for unfinished work, from which it goes on.
        monitor: hears of progress, and may ask to stop.
        dataset: the dataset's name, for lists. It is no part of the identity: a name says nothing of the data.
        device: where it is made. Bytes are equal on one device and number of threads, of which the log says if they
            change under unfinished work.
        every_seconds: the least time between two checkpoints.

    Returns:
        The stored artifact.

    Raises:
        Interrupted: the monitor was asked to stop.
    """
    path = path_of(kind, identity)
    unfinished = Checkpoint(path.parent / "unfinished" / path.name, every_seconds, conditions=conditions(device))

    def read() -> Pretrained | None:
        stored = _read(path)
        if stored is None or stored.identity != json.loads(json.dumps(identity)):
            return None
        unfinished.clear()  # a killed process may have left it
        return stored

    def train() -> Pretrained:
        tensors, facts = make(unfinished)
        history = {"dataset": dataset, **run_block(unfinished.seconds, device)}
        metadata = {_METADATA_KEY: json.dumps({"identity": identity, "facts": facts}, sort_keys=True)}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_with_sum(path, save(plain, metadata), history)
        unfinished.clear()
        return Pretrained(path, identity, facts)

    return get_or_make(path, read, train, monitor, "trains the same")


def diverged(what: str, error: RunFailed, checkpoint: Checkpoint, setting: str) -> RunFailed:
    """The error of a training that diverged, with its last checkpoint and what to lower."""
    there = checkpoint.path is not None and checkpoint.path.exists()
    good = f"Its last checkpoint is {checkpoint.path}." if there else "It has no checkpoint."
    return RunFailed(f"{what}: {error} {good} Lower its learning rate (`{setting}=…`), and start again.")


def holds(kind: str, identity: dict[str, Any]) -> bool:
    """Whether the store has the piece with this identity."""
    return _read(path_of(kind, identity)) is not None


def list_stored(kind: str) -> list[Pretrained]:
    """Everything of a kind that the store has, in the order of its keys."""
    pieces = (_read(path) for path in sorted((cache_dir() / "pretrained" / kind).glob("*.safetensors")))
    return [piece for piece in pieces if piece is not None]


def path_of(kind: str, identity: dict[str, Any]) -> Path:
    """The file of the piece with this identity, if the store has it."""
    return cache_dir() / "pretrained" / kind / f"{canonical_hash(identity)}.safetensors"


def _read(path: Path) -> Pretrained | None:
    """The piece in a file; None if there is none, or a damaged one, which is then made again, as the log says."""
    if not is_intact(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()[_METADATA_KEY])
        return Pretrained(path, about["identity"], about["facts"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        log.warning("%s cannot be read (%s) and counts as missing.", path, error)
        return None
