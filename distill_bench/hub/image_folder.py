"""Folders of pictures, a folder a class: SRe2L and CDA (``new000/class000_id000.jpg``), RDED (``00000/…``), one's own.

Forms, from VILA-Lab/SRe2L 8d00cba and LINs-lab/RDED 3f6453d. Folders are matched to classes by name where the names are
the dataset's classes, otherwise by the number in the name.
"""

import re
from collections.abc import Sequence

import torch

from distill_bench.errors import DataError
from distill_bench.hub.released import Foreign, Released
from distill_bench.sources.decode import decode_images
from distill_bench.sources.folder import class_folders, image_files

NAME = "folder"


def recognises(files: Sequence[Foreign]) -> bool:
    """One folder."""
    return len(files) == 1 and files[0].path.is_dir()


def read_folder(files: Sequence[Foreign], class_names: Sequence[str]) -> list[Released]:
    """The one set, as 8-bit pictures.

    Raises:
        DataError: the folders are not one a class, or a picture cannot be read.
    """
    root = files[0].path
    folders = class_folders(root)
    order = _by_class(folders, class_names)
    if order is None:
        raise DataError(
            f"{root}: has the folders {', '.join(folders[:4]) or '(none)'}{' …' if len(folders) > 4 else ''}, "
            f"{len(folders)} in number. Needed are {len(class_names)}, one a class, named as the classes "
            f"({', '.join(class_names[:3])} …) or with their numbers (new000, new001, … or 00000, 00001, …)."
        )
    found = [(label, file) for label, name in enumerate(order) for file in image_files(root / name)]
    labels = torch.tensor([label for label, _ in found], dtype=torch.int64)
    if len(labels.unique()) != len(class_names):
        raise DataError(f"{root}: some class folders hold no picture.")
    images = decode_images(((str(file), file) for _, file in found), len(found))
    return [Released(images, labels, "custom", space="unit")]


def _by_class(folders: list[str], class_names: Sequence[str]) -> list[str] | None:
    if set(folders) == set(class_names):
        return list(class_names)
    numbers = {int(found[0]): name for name in folders if (found := re.search(r"\d+", name))}
    if len(folders) == len(class_names) and sorted(numbers) == list(range(len(class_names))):
        return [numbers[label] for label in range(len(class_names))]
    return None
