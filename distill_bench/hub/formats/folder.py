"""Folders of pictures, a folder a class: SRe2L and CDA (``new000/class000_id000.jpg``), RDED (``00000/…``), one's own.

Forms, from VILA-Lab/SRe2L 8d00cba and LINs-lab/RDED 3f6453d. Folders are matched to classes by name, by WordNet id, or
by the number in the name. A number may count the classes as the dataset has them, or its class folders sorted by name,
as torchvision's ImageFolder does; where that differs, and no picture is a training image that tells, it is asked.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.decode import decode_images
from distill_bench.datasets.folder import class_folders, image_files
from distill_bench.datasets.imagenet import folder_names
from distill_bench.datasets.parquet import split_files
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.hf_table import png_files
from distill_bench.distilled.pixel_diagnostics import training_labels
from distill_bench.errors import DataError, UsageError
from distill_bench.hub.convert.format import WritableFormat
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile, Targets
from distill_bench.hub.convert.targets import sorted_classes
from distill_bench.hub.convert.writing import absent_classes, label_losses, order_losses, pixel_losses, rate_losses
from distill_bench.runtime.names import checked_file_name
from distill_bench.runtime.text import listed

CLASSES = "classes.json"
"""Beside the folders that this project writes: a list of ``{"folder": …, "name": …}``, a class each."""
Order = Mapping[str, int]
"""The label of every folder."""


class Folder(WritableFormat):
    """A folder of pictures, a folder a class."""

    name = "folder"
    takes = ("class_order",)
    needs_pixels = True

    def recognises(self, files: Sequence[ReleasedFile]) -> bool:
        return len(files) == 1 and files[0].path.is_dir() and not split_files(files[0].path)[0]

    def read(self, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions) -> list[ImportedTensors]:
        """The one set, as 8-bit pictures, in label order.

        Raises:
            DataError: the folders are not classes, or a picture cannot be read.
            UsageError: folders are numbered, and it has to be said in which order.
        """
        root = files[0].path
        folders = class_folders(root)
        named = _by_list(root, folders, dataset) or _by_name(folders, dataset)
        orders = {"": named} if named else _by_number(folders, dataset)
        if not orders:
            raise DataError(
                f"{root}: has the folders {listed(folders) or '(none)'}, "
                f"{len(folders)} in number. Needed are {len(dataset.class_names)}, one a class, named as the classes "
                f"({', '.join(dataset.class_names[:3])} …), by WordNet id, or with their numbers (new000, new001, … or "
                "00000, 00001, …). Or the set was made for another dataset: `dataset`."
            )
        pictures = [(name, file) for name in folders for file in image_files(root / name)]
        if not pictures:
            raise DataError(f"{root}: the class folders hold no picture.")
        images = decode_images(((str(file), file) for _, file in pictures), len(pictures))
        places = [name for name, _ in pictures]
        order, remarks = (named, ()) if named else _settle(orders, places, images, dataset, options)
        labels = torch.tensor([order[name] for name in places], dtype=torch.int64)
        by_label = labels.argsort(stable=True)
        targets = Targets(labels[by_label], numbered=False)
        return [ImportedTensors(images[by_label], targets, "custom", space="unit", remarks=remarks)]

    def losses(self, distilled: DistilledSet, dataset: Dataset | None) -> Iterator[str]:
        yield from label_losses(distilled)
        yield from rate_losses(distilled)
        yield from order_losses(distilled)
        if absent := absent_classes(distilled):
            names = listed([distilled.card.class_names[label] for label in absent])
            yield f"classes without an image ({names}): readers of folders number those that are there"
        yield from pixel_losses(distilled, dataset)

    def write(self, sets: Sequence[DistilledSet], out: Path, dataset: Dataset | None) -> Iterator[tuple[Path, bytes]]:
        """PNG pictures and the classes' names: exact for 8-bit pixels, others rounded and clipped."""
        (distilled,) = sets
        folders, names = class_folder_names(distilled), distilled.card.class_names
        about = [{"label": label, "folder": folders[label], "name": name} for label, name in enumerate(names)]
        yield out / CLASSES, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()
        digits = max(6, len(str(len(distilled.labels) - 1)))
        pictures = zip(png_files(distilled, dataset), distilled.labels.tolist(), strict=True)
        for index, (content, label) in enumerate(pictures):
            yield out / folders[label] / f"{index:0{digits}d}.png", content


FORMAT = Folder()


def _by_list(root: Path, folders: Sequence[str], dataset: Dataset) -> Order | None:
    """By the list of classes beside the folders, where there is one.

    Raises:
        DataError: it cannot be read, lacks a folder, or has another class.
    """
    if not (root / CLASSES).is_file():
        return None
    try:
        names = {str(entry["folder"]): str(entry["name"]) for entry in json.loads((root / CLASSES).read_bytes())}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise DataError(f"{root / CLASSES}: not a list of folders and names ({error}). Mend or remove it.") from error
    labels = {name: label for label, name in enumerate(dataset.class_names)}
    for folder in folders:
        if names.get(folder) not in labels:
            raise DataError(
                f"{root / CLASSES} says that the folder {folder} is of the class {names.get(folder)!r}, which "
                f"{dataset.name} does not have ({', '.join(dataset.class_names[:3])} …). Give the dataset that the set "
                "was made for: `dataset`."
            )
    return {folder: labels[names[folder]] for folder in folders}


def _by_name(folders: Sequence[str], dataset: Dataset) -> Order | None:
    """By class names, exactly or but for case and punctuation, also behind a number; or by WordNet ids."""
    exact = {name: label for label, name in enumerate(dataset.class_names)}
    real = folder_names(dataset.name, dataset.class_names)
    for known in (exact, {folder: label for label, folder in enumerate(real)}):
        if folders and set(folders) <= known.keys():
            return {name: known[name] for name in folders}
    loose = {_loosely(name): label for name, label in exact.items()}
    words = {name: _loosely(name) for name in folders}
    words |= {name: word.partition(" ")[2] for name, word in words.items() if word.partition(" ")[0].isdigit()}
    order = {name: loose[word] for name, word in words.items() if word in loose}
    complete = len(order) == len(folders) == len(set(order.values())) and len(loose) == len(exact)
    return order if complete and folders else None


def _loosely(name: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", name.casefold()))


def _by_number(folders: Sequence[str], dataset: Dataset) -> dict[str, Order]:
    """What the numbers in folders' names may mean, by the option that says it; nothing where they are no numbers."""
    numbers = {name: int(match[0]) for name in folders if (match := re.search(r"\d+", name))}
    count = len(dataset.class_names)
    if not folders or len(numbers) < len(folders) or len(set(numbers.values())) < len(folders):
        return {}
    if max(numbers.values()) >= count:
        return {}
    ordered = sorted_classes(dataset)
    return {"dataset": numbers, "sorted": {name: ordered[number] for name, number in numbers.items()}}


def _settle(
    orders: Mapping[str, Order], folders: Sequence[str], images: Tensor, dataset: Dataset, options: ImportOptions
) -> tuple[Order, tuple[str, ...]]:
    """The order that numbered folders are in, and a remark on it.

    Raises:
        UsageError: nothing tells.
    """
    first = {way: _spelled(order, dataset) for way, order in orders.items()}
    if orders["dataset"] == orders["sorted"]:
        return orders["dataset"], (f"numbered folders are the classes in order: {first['dataset']}",)
    if options.class_order:
        way, why = str(options.class_order), "as `class_order` says"
    else:
        true = training_labels(images, dataset)
        agreeing = [
            way
            for way, order in orders.items()
            if any(true) and all(order[name] in labels for name, labels in zip(folders, true, strict=True) if labels)
        ]
        if len(agreeing) != 1:
            raise UsageError(
                f"the folders are numbered, and {dataset.name}'s classes are not in the order of their folders' names. "
                f"Say what the numbers count: `class_order` dataset ({first['dataset']}), or `class_order=sorted`, as "
                f"torchvision's ImageFolder numbers them ({first['sorted']})."
            )
        way, why = agreeing[0], "as the pictures that are training images tell"
    return orders[way], (f"numbered folders are read in the order {way!r}, {why}: {first[way]}",)


def _spelled(order: Order, dataset: Dataset) -> str:
    folders = sorted(order, key=lambda name: int(re.search(r"\d+", name)[0]))[:3]  # type: ignore[index]
    return ", ".join(f"{name} is {dataset.class_names[order[name]]}" for name in folders) + " …"


def class_folder_names(distilled: DistilledSet) -> list[str]:
    """A folder's name for every class, in label order, such that readers of sorted folders number them as they should.

    Of ImageNet's subsets the WordNet ids, as the real images lie in. Else the classes' names where they are in sorted
    order and can be names of folders, and numbers where not.
    """
    names = list(distilled.card.class_names)
    real = folder_names(distilled.card.source.name, names)
    if real != names:
        return real
    distinct = {CLASSES, *(name.casefold() for name in names)}  # many file systems do not tell A from a
    if names == sorted(names) and len(distinct) == len(names) + 1 and _are_file_names(names):
        return names
    digits = max(3, len(str(len(names) - 1)))
    return [f"{label:0{digits}d}" for label in range(len(names))]


def _are_file_names(names: Iterable[str]) -> bool:
    try:
        return all(checked_file_name(name) for name in names)
    except ValueError:
        return False
