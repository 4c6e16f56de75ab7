"""What the names of released files say: method, dataset, network, images per class. Parts may stand anywhere."""

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from distill_bench.datasets import is_own, list_datasets
from distill_bench.datasets.imagenet import SUBSETS
from distill_bench.methods.recipe import list_recipes

NETWORK = re.compile(r"(convnet|resnet|lenet|alexnet|vgg|mlp|densenet|vit|wrn|mobilenet)\w*", re.IGNORECASE)
IPC = re.compile(r"ipc(\d+)|(\d+)ipc", re.IGNORECASE)
_OTHERS = ("stl10", "usps", "celeba", "places365", "imagenet21k", "in21k")
"""Datasets that sets are released for and that this project does not have; so is all that ends in mnist."""
_ALSO_CALLED = {
    "tinyimagenet200": "tiny_imagenet", "imagenet1k": "imagenet", "in1k": "imagenet", "imagesquack": "imagesquawk",
    "fmnist": "fashion_mnist",
}  # fmt: skip
_SHORT_FOR = {"tiny": "tiny_imagenet", "fashion": "fashion_mnist"}
"""Plain words, which name a dataset beside a method or a number of images per class alone."""


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@dataclass(frozen=True)
class Named:
    """What file names say; None, or empty, where they do not.

    Attributes:
        datasets: as this project calls them, or, of others, as the name does.
    """

    method: str | None = None
    datasets: tuple[str, ...] = ()
    network: str | None = None
    ipc: int | None = None

    @property
    def words(self) -> str:
        """All of it, or nothing."""
        parts = {"method": self.method, "dataset": " and ".join(self.datasets), "network": self.network}
        words = [f"{what} {value}" for what, value in parts.items() if value]
        return ", ".join([*words, *([f"ipc {self.ipc}"] if self.ipc else [])])

    def speaks_against(self, dataset: str) -> bool:
        """Whether only other datasets are named. A user's own (``folder:PATH``) may be any of them."""
        if not self.datasets or is_own(dataset) or dataset in self.datasets:
            return False
        return not (dataset in SUBSETS and "imagenet" in self.datasets)


def read_names(names: Iterable[str]) -> Named:
    """What the names of the files of one release say, without their endings."""
    each = [_read_name(name) for name in names]
    return Named(
        next((one.method for one in each if one.method), None),
        tuple(dict.fromkeys(dataset for one in each for dataset in one.datasets)),
        next((one.network for one in each if one.network), None),
        next((one.ipc for one in each if one.ipc), None),
    )


def _read_name(name: str) -> Named:
    name = re.sub(r"(?i)(?<![a-z0-9])ipc[^a-z0-9](\d+)", r"ipc\1", name)
    tokens = [token for token in re.split(r"[^A-Za-z0-9]+", name) if token]
    method, between, rest = _of_res_file(tokens)
    methods = {_plain(recipe): recipe for recipe in list_recipes()}
    known = {_plain(data): data for data in list_datasets()} | _ALSO_CALLED
    if method or any(IPC.fullmatch(token) or _plain(token) in methods for token in tokens):
        known |= _SHORT_FOR
    datasets, network, ipc = [known.get(_plain(between), between)] if between else [], None, None
    for word in _words(rest, known | methods):
        plain, number = _plain(word), IPC.fullmatch(word)
        if plain in known or plain in _OTHERS or plain.endswith("mnist"):
            datasets.append(known.get(plain, word))
        elif plain in methods:
            method = method or methods[plain]
        elif number:
            ipc = ipc or int(number[1] or number[2])
        elif NETWORK.fullmatch(word):
            network = network or word
    return Named(method and methods.get(method, method), tuple(dict.fromkeys(datasets)), network, ipc)


def _of_res_file(tokens: list[str]) -> tuple[str | None, str | None, list[str]]:
    """Method and dataset of ``res_<method>_<dataset>_<network>_<n>ipc``, whichever they are, and the other words."""
    at = tokens.index("res") if "res" in tokens[:-1] else None
    end = next((k for k, token in enumerate(tokens) if NETWORK.fullmatch(token) or IPC.fullmatch(token)), None)
    if at is None or (at > 0 and (end is None or end <= at + 1)):
        return None, None, tokens
    between = "".join(tokens[at + 2 : end]) if end else None
    return _plain(tokens[at + 1]), between, tokens[:at] + tokens[(end if between else at + 2) :]


def _words(tokens: list[str], known: Container[str]) -> Iterator[str]:
    """The tokens, two joined where both together are a known name, as in fashion_mnist."""
    at = 0
    while at < len(tokens):
        pair = "".join(tokens[at : at + 2])
        yield pair if _plain(pair) in known else tokens[at]
        at += 2 if _plain(pair) in known else 1
