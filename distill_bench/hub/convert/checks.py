"""Whether a release fits the dataset that it is read for: what speaks against it is found here, in words."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.imagenet import SUBSETS
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.pixel_diagnostics import seam
from distill_bench.errors import DataError, UsageError
from distill_bench.hub.convert.file_names import Named
from distill_bench.hub.convert.released_file import (
    ImportedTensors,
    ImportOptions,
    ReleasedFile,
    Targets,
    class_names_in,
)
from distill_bench.hub.convert.targets import sorted_classes
from distill_bench.runtime.tensors import as_pixels

_SEAM = 3.0
"""How much stronger than elsewhere the step across a line is, from which images are taken for several put together: 11
for four CIFAR-10 images in one and 8 for nine (4 to 5 with noise), 1 for whole ones. Dark edges of digits hide it."""
_SURELY_EIGHT_BIT = 32
"""Whole numbers from 0 to 255 that reach this are no normalised or whitened pixels."""


def read_pixels(item: ImportedTensors, dataset: Dataset, options: ImportOptions, where: str) -> Tensor:
    """The images as uint8 pictures or float32 [n, c, h, w] of the dataset's shape.

    Raises:
        DataError: they have another shape, or are no pixels.
    """
    images = as_pixels(item.images, f"{where}: the images")
    if images.ndim == 3:  # grey ones without their channel
        images = images[:, None]
    elif options.layout == "nhwc" and images.ndim == 4:
        images = images.permute(0, 3, 1, 2).contiguous()
    shape, expected = tuple(images.shape[1:]), dataset.train.shape
    if shape != expected:
        hint = " Its channels come last: add `layout=nhwc`." if (shape[2:] + shape[:2]) == expected else ""
        raise DataError(
            f"{where}: images of {shape}, but {dataset.name} has {expected} (channels, height, width).{hint} Or the "
            "set was made for another dataset: `dataset`."
        )
    if images.dtype != torch.uint8:
        return images.float()
    if len(images) and images.max() == 1:
        raise DataError(
            f"{where}: the images are integers, 0 or 1: as 8-bit pictures all black. Multiply them by 255, or save "
            "them as floats and give `space=unit`."
        )
    return images


def check_range(images: Tensor, kind: str | None, where: str) -> None:
    """Raises DataError if floats are 8-bit values, or not finite. ``kind``: of the pixel space that is asked for."""
    if not bool(images.isfinite().all()):
        raise DataError(f"{where}: {int((~images.isfinite()).sum())} image values are NaN or infinite.")
    low, high = float(images.min()), float(images.max())
    if low >= 0 and (1 if kind == "unit" else _SURELY_EIGHT_BIT) < high <= 255 and torch.equal(images, images.round()):
        raise DataError(
            f"{where}: the images are whole numbers from {low:g} to {high:g}, stored as floats: 8-bit pictures"
            f"{f', not `space={kind}`' if kind else ''}. Save them as what they are (images.to(torch.uint8) or "
            "images.astype(numpy.uint8)) and import that, without `space`."
        )


def in_dataset_order(
    targets: Targets, file: ReleasedFile, dataset: Dataset, options: ImportOptions
) -> tuple[Targets, tuple[str, ...]]:
    """Labels that count the dataset's classes in its own order, and remarks on it.

    Raises:
        DataError: the file's class names are not the dataset's, or no names.
    """
    names, usual = class_names_in(file.content), list(range(len(dataset.class_names)))
    if names is not None:
        if sorted(names) != sorted(dataset.class_names):
            raise DataError(
                f"{file.path}: its class names ({', '.join(names[:3])} …, {len(names)} in number) are not those of "
                f"{dataset.name} ({', '.join(dataset.class_names[:3])} …, {len(usual)}). Give the dataset that the set "
                "was made for: `dataset`."
            )
        order, why = [dataset.class_names.index(name) for name in names], "by the class names in the file"
    elif targets.numbered and options.class_order == "sorted":
        order, why = sorted_classes(dataset), "from the sorted class folders, as `class_order` says"
    else:
        order, why = usual, ""
    if order != usual:
        back = torch.tensor(order).argsort()
        soft = None if targets.soft is None else targets.soft[:, back]
        remark = f"labels are renumbered {why}"
        return replace(targets, labels=torch.tensor(order)[targets.labels], soft=soft), (remark,)
    if targets.numbered and not why and dataset.name in SUBSETS and sorted_classes(dataset) != usual:
        first = f"class numbers are in {dataset.name}'s own order (0 is {dataset.class_names[0]})"
        return targets, (f"assumed: {first}, not in that of its sorted folders (`class_order=sorted`)",)
    return targets, ()


def against_whole(item: ImportedTensors, options: ImportOptions) -> list[str]:
    """What says that the images of a bare pair hold several smaller ones each. ``factor`` settles it."""
    if not item.pair or options.factor is not None:
        return []
    divisions = [parts for parts in (2, 3) if seam(item.images, parts) > _SEAM]
    return [
        f"it is a bare pair, as IDC's and DREAM's data.pt, and its images break along the lines that divide them into "
        f"{parts}×{parts}: each seems to hold {parts * parts} smaller ones (`factor={parts}` reads them so; `factor=1` "
        "says that each is one image)"
        for parts in divisions[:1]
    ]


def against_name(named: Named, dataset: Dataset, files: Sequence[ReleasedFile]) -> list[str]:
    """What file names say against the dataset."""
    if not named.speaks_against(dataset.name):
        return []
    names = ", ".join(file.path.name for file in files)
    return [f"the name {names} says {' and '.join(named.datasets)}, the dataset asked for is {dataset.name}"]


def _images_of_each(targets: Targets, dataset: Dataset) -> Tensor:
    """How many images each class has; a label that is no class's, which the set itself refuses, counts for none."""
    labels, classes = targets.labels, len(dataset.class_names)
    return labels[(labels >= 0) & (labels < classes)].bincount(minlength=classes)


def without_image(targets: Targets, dataset: Dataset) -> list[str]:
    """The classes that have no image, in words."""
    counts = _images_of_each(targets, dataset)
    empty = (counts == 0).nonzero().flatten().tolist()
    names = ", ".join(dataset.class_names[label] for label in empty[:5]) + (" …" if len(empty) > 5 else "")
    return [f"{len(empty)} of {dataset.name}'s {len(counts)} classes have no image: {names}"] if empty else []


def against_ipc(targets: Targets, named: Named, dataset: Dataset) -> list[str]:
    """What the number of images says against the file's name."""
    counts = _images_of_each(targets, dataset)
    if not named.ipc or named.ipc in (int(counts.max()), len(targets.labels) / len(counts)):
        return []
    return [
        f"the name says {named.ipc} images a class, but there are {len(targets.labels)} for the {len(counts)} classes "
        f"of {dataset.name}, up to {int(counts.max())} of one"
    ]


def check_fraction(count: int, dataset: Dataset, fraction: float) -> None:
    """Raises UsageError unless so many images are a fraction of the training split, chosen class by class or not."""
    budget, sizes = Budget(fraction=fraction), dataset.class_sizes
    counts = sorted({sum(budget.counts(sizes)), budget.total(sizes)})
    if count not in counts:
        raise UsageError(
            f"`fraction={fraction:g}`: there are {count} images, and {' or '.join(map(str, counts))} would "
            f"be that fraction of the {sum(sizes)} training images of {dataset.name}. Leave it out for a set that was "
            "made for a number of images per class."
        )


def against_training(labels: Tensor, true: Sequence[set[int]], dataset: Dataset) -> list[str]:
    """What the training images among a set's images say against its labels."""
    pairs = [(read, known) for read, known in zip(labels.tolist(), true, strict=True) if known]
    wrong = [(index, known) for index, known in enumerate(true) if known and int(labels[index]) not in known]
    if not wrong:
        return []
    index, known = wrong[0]
    names = dataset.class_names
    order = sorted_classes(dataset)
    hint = " (`class_order=sorted` would fit)" if all(order[read] in known for read, known in pairs) else ""
    return [
        f"{len(wrong)} of the {len(pairs)} images that are training images of {dataset.name} have another class there: "
        f"image {index} is read as {names[int(labels[index])]}, and is {' or '.join(names[k] for k in sorted(known))}"
        f"{hint}"
    ]
