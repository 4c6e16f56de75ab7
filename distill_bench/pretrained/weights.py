"""Networks that others trained, by id: torchvision's ImageNet weights, downloaded when they are first asked for.

A file says nothing of the order of its classes that could be compared with a dataset's. What tells is accuracy: a
teacher from weights must come near the one that torchvision states of them, see ``teachers``.
"""

import hashlib
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor

from distill_bench.errors import DataError, UsageError, unknown
from distill_bench.runtime.paths import cache_dir, offline

PREFIX = "torchvision:"
NETWORKS = {f"{PREFIX}ResNet18_Weights.IMAGENET1K_V1": "ResNet18BN_ImageNet"}
"""The ids, and our name of the network."""


@dataclass(frozen=True)
class Weights:
    """What is known of weights before their file is there.

    Attributes:
        id: such as ``"torchvision:ResNet18_Weights.IMAGENET1K_V1"``.
        network: whose they are.
        url: of the file; its name ends in the first digits of its sha256.
        classes: how many the network tells apart.
        accuracy: percent of ImageNet's validation images, as torchvision states it.
    """

    id: str
    network: str
    url: str
    classes: int
    accuracy: float

    @property
    def path(self) -> Path:
        """Where the file is kept."""
        return cache_dir() / "pretrained" / "torchvision" / Path(urlsplit(self.url).path).name

    def load(self) -> dict[str, Tensor]:
        """The state of a ``Network``, from the file, downloaded if it may be. No pickle is run.

        Raises:
            DataError: the file is not there and cannot be had, or is not one of weights.
        """
        if offline() and not self.path.exists():
            raise DataError(f"{self._missing}, and DISTILL_BENCH_OFFLINE is set. {self._remedy}")
        try:
            if self.path.exists():  # torch compares the sum of what it downloads alone
                self._check()
            with redirect_stdout(sys.stderr):  # where torch says what it downloads
                state = torch.hub.load_state_dict_from_url(
                    self.url, str(self.path.parent), "cpu", progress=False, check_hash=True, weights_only=True
                )
        except Exception as error:  # downloads and damaged files raise errors of many types
            reason = " ".join(str(error).split())
            where = f"{self.path} cannot be read" if self.path.exists() else f"{self._missing}, and the download failed"
            raise DataError(f"{where} ({reason}). {self._remedy}") from error
        return as_network(state)

    def _check(self) -> None:
        """Raise ValueError unless the file's sha256 begins as its name says."""
        expected = self.path.stem.rpartition("-")[2]
        with self.path.open("rb") as file:
            if not hashlib.file_digest(file, "sha256").hexdigest().startswith(expected):
                raise ValueError(
                    f"its sha256 does not begin with {expected}: it is damaged, or another file. Delete it"
                )

    @property
    def _missing(self) -> str:
        return f"the weights {self.id} are not in {self.path}"

    @property
    def _remedy(self) -> str:
        return f"Put {self.url} there, or give `teacher.weights=` to have a teacher trained here."


def find_weights(id: str) -> Weights:
    """The weights of an id.

    Raises:
        UsageError: there are none of that id.
    """
    from torchvision import models  # here, because importing torchvision takes a second

    if id not in NETWORKS:
        raise UsageError(unknown("weights", id, NETWORKS))
    known = models.get_weight(id.removeprefix(PREFIX))
    accuracy = known.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    return Weights(id, NETWORKS[id], known.url, len(known.meta["categories"]), accuracy)


def as_network(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a ``Network`` with torchvision's model for features: its ``fc`` is the classifier."""
    return {
        f"classifier.{name.removeprefix('fc.')}" if name.startswith("fc.") else f"features.{name}": tensor
        for name, tensor in state.items()
    }
