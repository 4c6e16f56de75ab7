"""Image folders: ``PATH/train/<class>/*`` and ``PATH/test|val/<class>/*``, or ``PATH/<class>/*`` for training only."""

from collections.abc import Sequence
from pathlib import Path

import torch

from distill_bench.errors import DataError
from distill_bench.sources.decode import Encoded, Shape, decoded_source
from distill_bench.sources.source import Source

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_FOLDERS = ("test", "val")


def folder_source(name: str, path: Path, size: int | None = None, shape: Shape | None = None) -> Source:
    """A source of class folders; classes are the names of the training folders, sorted.

    Raises:
        DataError: there is no class folder, or the test split has a class that the training split lacks.
    """
    train, test = split_folders(path)
    class_names = class_folders(train)
    if not class_names:
        raise DataError(f"{train} has no class folders. Put the images of each class into a folder of its own there.")
    if test and (unknown := sorted(set(class_folders(test)) - set(class_names))):
        raise DataError(
            f"{test / unknown[0]} is a class that {train} does not have. "
            "The test split may only have classes of the training split: rename or remove that folder."
        )
    return decoded_source(
        name,
        class_names,
        lambda: read_folder(train, class_names),
        (lambda: read_folder(test, class_names)) if test else None,
        size,
        shape,
    )


def split_folders(path: Path) -> tuple[Path, Path | None]:
    """The training folder, and the test folder if there is one.

    Raises:
        DataError: ``path`` is not a folder, or has a test folder without a training folder.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder. Give one with train/<class>/ and test/<class>/, or with <class>/.")
    test = next((path / split for split in TEST_FOLDERS if (path / split).is_dir()), None)
    if (path / "train").is_dir():
        return path / "train", test
    if test:
        raise DataError(f"{path} has {test.name}/ but no train/. Put the training images into train/<class>/.")
    return path, None


def class_folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_folder(path: Path, class_names: Sequence[str]) -> Encoded:
    """The images of the class folders under ``path``, class by class, sorted by path within a class.

    Raises:
        DataError: a class folder holds no image.
    """
    files: list[Path] = []
    labels: list[int] = []
    present = set(class_folders(path))
    for label, class_name in enumerate(class_names):
        if class_name not in present:
            continue  # only a test split may lack a class: the names are those of the training folders
        found = image_files(path / class_name)
        if not found:
            raise DataError(
                f"{path / class_name} holds no image. Add images ({' '.join(SUFFIXES)}) or remove the folder."
            )
        files += found
        labels += [label] * len(found)
    return Encoded(torch.tensor(labels, dtype=torch.int64), [(str(file), file) for file in files])


def image_files(path: Path) -> list[Path]:
    """All images below ``path``, hidden ones aside, in an order that no file system decides."""
    found = (
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    )
    return sorted(found, key=lambda file: file.as_posix())
