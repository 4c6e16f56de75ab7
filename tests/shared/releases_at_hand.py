"""Releases of the digits in every form that is read, for the tests of the import."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor

CLASSES, IPC = 10, 2
LABELS = torch.arange(CLASSES).repeat_interleave(IPC)
SHUFFLED = LABELS[torch.randperm(20, generator=torch.Generator().manual_seed(1))]


def smooth(seed: int = 0) -> Tensor:
    """Images [20, 1, 8, 8] that are no training images, about as strong as normalised ones."""
    noise = torch.randn(CLASSES * IPC, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(noise, size=8, mode="bilinear", align_corners=False)


def pictures(seed: int = 0) -> Tensor:
    """The same as 8-bit pictures."""
    return (smooth(seed) * 50 + 128).clamp(0, 255).to(torch.uint8)


def _loose(folder: Path, images: Tensor, labels: Tensor) -> list[Path]:
    torch.save(images, folder / "images.pt")
    torch.save(labels, folder / "labels.pt")
    return [folder / "images.pt", folder / "labels.pt"]


def _npy(folder: Path, images: Tensor, labels: Tensor) -> list[Path]:
    numpy.save(folder / "images.npy", images.numpy())
    numpy.save(folder / "labels.npy", labels.numpy())
    return [folder / "images.npy", folder / "labels.npy"]


def _npz(folder: Path, images: Tensor, labels: Tensor) -> list[Path]:
    numpy.savez(folder / "set.npz", images=images.numpy(), labels=labels.numpy())
    return [folder / "set.npz"]


def _one(name: str, content: Callable[[Tensor, Tensor], Any]) -> Callable[[Path, Tensor, Tensor], list[Path]]:
    def write(folder: Path, images: Tensor, labels: Tensor) -> list[Path]:
        torch.save(content(images, labels), folder / name)
        return [folder / name]

    return write


FORMS: dict[str, Callable[[Path, Tensor, Tensor], list[Path]]] = {
    "loose": _loose,
    "npy": _npy,
    "npz": _npz,
    "pair": _one("pair.pt", lambda images, labels: [images, labels]),
    "dictionary": _one("set.pt", lambda images, labels: {"images": images, "labels": labels}),
    "dataset": _one("dataset.pt", lambda images, labels: torch.utils.data.TensorDataset(images, labels)),
    "res": _one("res_DC_digits_ConvNet_2ipc.pt", lambda images, labels: {"data": [[images, labels]]}),
    "datadam": _one("syn_data_digits_ipc_2.pt", lambda images, labels: {"data": [images, labels]}),
}
"""A form writes images and labels into a folder and returns the files to import."""
