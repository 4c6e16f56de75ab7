"""Image folders: ``PATH/train/<class>/*`` and ``PATH/test|val/<class>/*``, or ``PATH/<class>/*`` for training only.

Validation images may also lie as Tiny-ImageNet's do. What is no picture is left out, counted and named in the log.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.decode import Shape, UndecodedSplit, decoded_source
from distill_bench.errors import DataError
from distill_bench.runtime.log import log
from distill_bench.runtime.text import counted, listed

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
TEST_FOLDERS = ("test", "val", "valid", "validation")
_SPLIT_NAMES = {"train", "training", "testing", *TEST_FOLDERS}
ANNOTATIONS = "val_annotations.txt"
_HOMELESS, _NO_PICTURE = "in no class folder", "no pictures of a kind read here"
_BOOKKEEPING = ("thumbs.db", "desktop.ini", "_boxes.txt")
"""How files end that systems, and Tiny-ImageNet, put beside pictures; like hidden ones they are passed over."""


def folder_dataset(name: str, path: Path, size: int | None = None, shape: Shape | None = None) -> Dataset:
    """A dataset of class folders; classes are the names of the training folders, sorted.

    Raises:
        DataError: there is no class folder, or the test split has a class that the training split lacks.
    """
    train, test = _split_folders(path)
    class_names = class_folders(train)
    if not class_names:
        raise DataError(f"{train} has no class folders. Put the images of each class into a folder of its own there.")
    _check_no_splits(path, train, class_names)
    annotated = test is not None and (test / ANNOTATIONS).is_file()
    if test and not annotated and (unknown := sorted(set(class_folders(test)) - set(class_names))):
        raise DataError(
            f"{test / unknown[0]} is a class that {train} does not have. "
            "The test split may only have classes of the training split: rename or remove that folder."
        )

    def read_test() -> UndecodedSplit:
        assert test is not None
        return read_annotated(test, class_names, part=True) if annotated else read_folder(test, class_names)

    return decoded_source(
        name, class_names, lambda: read_folder(train, class_names), read_test if test else None, size, shape
    )


def _check_no_splits(path: Path, train: Path, class_names: Sequence[str]) -> None:
    """Raises DataError if splits would be taken for classes: spelled otherwise, or a folder further down."""
    if splits := [name for name in class_names if name.casefold() in _SPLIT_NAMES]:
        raise DataError(
            f"{train} has the folder {splits[0]}, which would be a class. Splits are named train and "
            f"{', '.join(TEST_FOLDERS)}, in lower case: rename it, or the class."
        )
    deeper = [
        name for name in class_names if any((train / name / split).is_dir() for split in ("train", *TEST_FOLDERS))
    ]
    if train == path and deeper:
        raise DataError(f"{path} has splits in its folder {deeper[0]}. Give that one: folder:{path / deeper[0]}.")


def _split_folders(path: Path) -> tuple[Path, Path | None]:
    """The training folder, and the test folder if there is one.

    Raises:
        DataError: ``path`` is not a folder, or has a test folder without a training folder.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder. Give one with train/<class>/ and test/<class>/, or with <class>/.")
    tests = [path / split for split in TEST_FOLDERS if (path / split).is_dir()]
    # Tiny-ImageNet's test images have no labels: its test folder gives way to the validation images, which have
    test = next((folder for folder in tests if (folder / ANNOTATIONS).is_file()), tests[0] if tests else None)
    if unused := [folder for folder in tests if folder != test]:
        _say_left_out(path, unused, "another test split is there")
    if (path / "train").is_dir():
        return path / "train", test
    if test:
        raise DataError(f"{path} has {test.name}/ but no train/. Put the training images into train/<class>/.")
    return path, None


def class_folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def read_folder(path: Path, class_names: Sequence[str]) -> UndecodedSplit:
    """The images of the class folders under ``path``, class by class, sorted by path within a class.

    Raises:
        DataError: a class folder holds no image.
    """
    files: list[Path] = []
    labels: list[int] = []
    left_out = [entry for entry in sorted(path.iterdir()) if not (entry.is_dir() or _is_bookkeeping(entry.name))]
    if left_out:
        _say_left_out(path, left_out, _HOMELESS)
    others: list[Path] = []
    present = set(class_folders(path))
    for label, class_name in enumerate(class_names):
        if class_name not in present:
            continue  # only a test split may lack a class: the names are those of the training folders
        images, more = files_below(path / class_name)
        if not images:
            others_there = f"{counted(len(more), 'other file')}: {_names(more, path / class_name)}"
            instead = f" ({others_there})" if more else ""
            raise DataError(
                f"{path / class_name} holds no image{instead}. Add images ({' '.join(_SUFFIXES)}) or remove the folder."
            )
        files += images
        others += more
        labels += [label] * len(images)
    if others:
        _say_left_out(path, others, f"no pictures of a kind read here ({' '.join(_SUFFIXES)})")
    skipped = (_HOMELESS,) * len(left_out) + (_NO_PICTURE,) * len(others)
    return UndecodedSplit(torch.tensor(labels, dtype=torch.int64), [(str(file), file) for file in files], skipped)


def read_annotated(folder: Path, wnids: Sequence[str], part: bool = False) -> UndecodedSplit:
    """Tiny-ImageNet's own form: ``images/`` and a table of file name, WordNet id and box, separated by tabs.

    Names in the table are compared with those of the files, never opened.

    Args:
        folder: the folder of the split.
        wnids: the WordNet ids of the classes, in label order.
        part: leave out images of other classes, and say how many.

    Returns:
        The split, labelled by the position of its WordNet id.

    Raises:
        DataError: the table names another class, or images and table disagree.
    """
    path = folder / ANNOTATIONS
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    classes: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text: {error.reason} at byte {error.start}. Unpack it again.") from error
    for number, line in enumerate(lines, start=1):
        name, _, rest = line.partition("\t")
        wnid = rest.split("\t")[0]
        if wnid not in labels and not part:
            raise DataError(
                f"{path} line {number} has the class {wnid!r}, which train/ does not have. Unpack it again."
            )
        classes[name] = labels.get(wnid, -1)
    files = image_files(folder / "images")
    if unknown := {file.name for file in files} ^ classes.keys():
        raise DataError(
            f"{path} and {folder / 'images'} do not have the same images: {min(unknown)} is in one of them only. "
            "Unpack it again."
        )
    chosen = [file for file in files if classes[file.name] >= 0]
    skipped = ("of classes that train/ does not have",) * (len(files) - len(chosen))
    if skipped:
        log.warning("%s: left out %s, %s.", folder, counted(len(skipped), "image"), skipped[0])
    targets = torch.tensor([classes[file.name] for file in chosen], dtype=torch.int64)
    return UndecodedSplit(targets, [(str(file), file) for file in chosen], skipped)


def image_files(path: Path) -> list[Path]:
    """All images below ``path``, hidden ones aside, in an order that no file system decides."""
    return files_below(path)[0]


def files_below(path: Path) -> tuple[list[Path], list[Path]]:
    """The images below ``path``, and what else lies there: each in an order that no file system decides.

    An image is a file of its own, or a link to one; a pipe or device of such a name is never opened.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    images, others = list[Path](), list[Path]()
    for folder, inside, names in os.walk(path, onerror=refuse):
        inside[:] = [name for name in inside if not name.startswith(".")]
        others += [Path(folder, name) for name in inside if os.path.islink(os.path.join(folder, name))]  # not followed
        for name in names:
            file = Path(folder, name)
            if not _is_bookkeeping(name):
                (images if file.suffix.lower() in _SUFFIXES and file.is_file() else others).append(file)
    return sorted(images, key=Path.as_posix), sorted(others, key=Path.as_posix)


def _is_bookkeeping(name: str) -> bool:
    """Whether a file is hidden, or one that lies beside pictures without anybody's doing."""
    return name.startswith(".") or name.lower().endswith(_BOOKKEEPING)


def _say_left_out(path: Path, files: Sequence[Path], why: str) -> None:
    log.warning("%s: left out %s, %s: %s.", path, counted(len(files), "file"), why, _names(files, path))


def _names(files: Sequence[Path], below: Path) -> str:
    return listed([str(file.relative_to(below)) for file in files])
