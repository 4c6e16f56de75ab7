"""``res_<method>_<dataset>_ConvNet_<ipc>ipc.pt`` of DC, DSA and DM: independent sets and their authors' accuracies.

Form, from main.py of VICO-UoE/DatasetCondensation 53f63a6: ``{"data": [[images, labels], …], "accs_all_exps": {network:
[fraction, …]}}``, images normalised with the dataset's mean and std, labels int64. Every set is another experiment, and
its accuracies follow those of the one before. Later scripts keep snapshots of one run the same way.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

from distill_bench.hub.formats.released import ImportedTensors, Options, ReleasedFile, class_names_in, not_read
from distill_bench.hub.formats.targets import read_targets

NAME = "res"
ALIKE = 0.96
"""Correlation of two sets' pixels from which they are taken for snapshots of one run. The five released sets of DC and
of DSA on CIFAR-10 have 0.55 to 0.67 with one another; on digits two seeds of dc have 0.93, and two moments of one
run of dm or dc 0.97 to 0.99."""


def recognises(files: Sequence[ReleasedFile]) -> bool:
    """One file, a dictionary whose ``data`` is a list of (images, labels)."""
    content = files[0].content if len(files) == 1 else None
    return isinstance(content, dict) and _is_list_of_pairs(content.get("data"))


def read(files: Sequence[ReleasedFile], classes: int, options: Options) -> list[ImportedTensors]:
    """Every set in the file; each carries the accuracies of all, where those are of all."""
    content, where = files[0].content, str(files[0].path)
    pairs = [(images.detach(), labels.detach()) for images, labels in content["data"]]
    stored = {
        str(network): tuple(_finite(value) for value in values)
        for network, values in (content.get("accs_all_exps") or {}).items()
        if len(values)
    }
    foreign = _not_of_every_set(pairs, stored)
    found = []
    for images, labels in pairs:
        targets = read_targets(labels, len(images), classes, options, where)
        found.append(
            ImportedTensors(
                images,
                targets,
                "custom",
                "dsa-v1",
                learning_rate=options.learning_rate,
                space="normalized",
                assumptions=foreign,
                stored_accuracies={} if foreign else stored,
                remarks=not_read(content, ("data", "accs_all_exps")),
                class_names=class_names_in(content),
            )
        )
    return found


def _not_of_every_set(pairs: Sequence[tuple[Tensor, Tensor]], stored: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Why the accuracies in the file are not those of all its sets, with the accuracies; nothing where they are."""
    if len(pairs) == 1 or not stored:
        return ()
    alike = any(_correlation(one, other) > ALIKE for (one, _), (other, _) in pairwise(pairs))
    if not alike and all(len(values) % len(pairs) == 0 for values in stored.values()):
        return ()
    listed = "; ".join(
        f"{name} {100 * fmean(values):.2f} ± {100 * pstdev(values):.2f} of {len(values)}"
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
