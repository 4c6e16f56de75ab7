"""``res_<method>_<dataset>_ConvNet_<ipc>ipc.pt`` of DC, DSA and DM: independent sets and their authors' accuracies.

Form, from main.py of VICO-UoE/DatasetCondensation 53f63a6: ``{"data": [[images, labels], …], "accs_all_exps": {network:
[fraction, …]}}``, images normalised with the dataset's mean and std, labels int64.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from distill_bench.hub.released import Foreign, Options, Released

NAME = "res"
PROTOCOLS = {"dc": "dc-v1", "dsa": "dsa-v1", "dm": "dsa-v1"}


def recognises(files: Sequence[Foreign]) -> bool:
    """One file, a dictionary whose ``data`` is a list of (images, labels)."""
    content = files[0].content if len(files) == 1 else None
    return isinstance(content, dict) and _is_list_of_pairs(content.get("data"))


def read(files: Sequence[Foreign], classes: int, options: Options) -> list[Released]:
    """Every set in the file; each carries the accuracies of all, as the file does."""
    content = files[0].content
    found = re.match(r"res_([A-Za-z0-9]+)_", files[0].path.name)
    method = found[1].lower() if found else "custom"
    accuracies = {
        str(network): tuple(_finite(value) for value in values)
        for network, values in (content.get("accs_all_exps") or {}).items()
    }
    return [
        Released(
            images=images.float(),
            labels=labels.long(),
            method=method,
            protocol=PROTOCOLS.get(method, "dsa-v1"),
            space="normalized",
            stored_accuracies=accuracies,
        )
        for images, labels in content["data"]
    ]


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
