"""``res_<method>_<dataset>_ConvNet_<ipc>ipc.pt`` of DC, DSA and DM: independent sets and their authors' accuracies.

Form, from main.py of VICO-UoE/DatasetCondensation 53f63a6: ``{"data": [[images, labels], …], "accs_all_exps": {network:
[fraction, …]}}``, images normalised with the dataset's mean and std, labels int64. Every set is another experiment, and
its accuracies follow those of the one before. Later scripts keep snapshots of one run the same way.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, Transform
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import training_images, transform_of
from distill_bench.hub.convert import writing
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.released_file import (
    TORCH_SUFFIXES,
    ImportedTensors,
    ImportOptions,
    ReleasedFile,
    not_read,
)
from distill_bench.hub.convert.targets import read_targets

_ALIKE = 0.96
"""Correlation of two sets' pixels from which they are taken for snapshots of one run. The five released sets of DC and
of DSA on CIFAR-10 have 0.55 to 0.67 with one another; on digits two seeds of dc have 0.93, and two moments of one
run of dm or dc 0.97 to 0.99."""


class Res(WritableFormat):
    """One file, a dictionary whose ``data`` is a list of (images, labels)."""

    name = "res"
    of_many_methods = True
    suffixes = TORCH_SUFFIXES
    several = True
    holds_accuracies = True
    settles_space = True

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        content = files[0].content if len(files) == 1 else None
        return isinstance(content, dict) and _is_list_of_pairs(content.get("data"))

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """Every set in the file; each carries the accuracies of all, where those are of all."""
        content, where, classes = files[0].content, str(files[0].path), len(dataset.class_names)
        pairs = [(images.detach(), labels.detach()) for images, labels in content["data"]]
        stored = {
            str(network): tuple(_finite(value) for value in values)
            for network, values in (content.get("accs_all_exps") or {}).items()
            if len(values)
        }
        foreign = _not_of_every_set(pairs, stored)
        return [
            ImportedTensors(
                images,
                read_targets(labels, len(images), classes, options, where),
                "custom",
                "dsa-v1",
                space="normalized",
                assumptions=foreign,
                stored_accuracies={} if foreign else stored,
                remarks=not_read(content, ("data", "accs_all_exps")),
            )
            for images, labels in pairs
        ]

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        yield from writing.label_losses(distilled)
        yield from writing.rate_losses(distilled)
        space, usual = distilled.card.pixel_space, writing.usual_statistics(distilled)
        if space.kind != "normalized":
            yield f"the pixel space {space.kind}, in which networks are trained: a res file holds normalized pixels"
        elif usual not in (None, (space.mean, space.std)):
            yield (
                f"the normalisation with mean {writing.as_numbers(space.mean)} and std "
                f"{writing.as_numbers(space.std)}: a res file holds pixels normalized with "
                f"{distilled.card.source.name}'s own constants"
            )

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        pairs = [[_normalized(distilled, dataset), distilled.labels] for distilled in sets]
        accuracies = {name: list(values) for name, values in writing.release_accuracies(sets).items()}
        yield out, writing.saved({"data": pairs, "accs_all_exps": accuracies})


FORMAT = Res()


def _not_of_every_set(pairs: Sequence[tuple[Tensor, Tensor]], stored: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Why the accuracies in the file are not those of all its sets, with the accuracies; nothing where they are."""
    if len(pairs) == 1 or not stored:
        return ()
    alike = any(_correlation(one, other) > _ALIKE for (one, _), (other, _) in pairwise(pairs))
    if not alike and all(len(values) % len(pairs) == 0 for values in stored.values()):
        return ()
    listed = "; ".join(
        f"{name} {100 * fmean(values):.2f}, std {100 * pstdev(values):.2f} of {len(values)}"
        for name, values in stored.items()
    )
    why = "are alike, as snapshots of one run are" if alike else "do not divide them evenly"
    return (f"stored accuracies are the file's, not each set's: its {len(pairs)} sets {why} ({listed})",)


def _correlation(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        return 0.0
    return float(torch.corrcoef(torch.stack([one.flatten().float(), other.flatten().float()]))[0, 1])


def _is_list_of_pairs(data: Any) -> bool:
    return (
        isinstance(data, (list, tuple))
        and bool(data)
        and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in data)
        and all(isinstance(tensor, Tensor) for pair in data for tensor in pair)
    )


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"a stored accuracy is {number}")
    return number


def _normalized(distilled: DistilledSet, dataset: Dataset | None) -> Tensor:
    """The images in the pixel space of res files."""
    space, usual = distilled.card.pixel_space, writing.usual_statistics(distilled)
    if space.kind == "normalized" and usual in (None, (space.mean, space.std)):
        return training_images(distilled, dataset)
    mean, std = usual or (space.mean, space.std)
    wanted = PixelSpace(kind="normalized", mean=mean, std=std)
    if distilled.images.dtype == torch.uint8:
        return Transform(wanted, None).encode(distilled.images)
    pixels = transform_of(distilled, dataset).decode(distilled.images)
    return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
