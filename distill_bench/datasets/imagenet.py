"""ImageNet, Tiny-ImageNet and MTT's six subsets of ImageNet, from folders in their standard layout.

Classes are WordNet ids in sorted order, as torchvision's ImageFolder and the field's loaders have them; the subsets
have plain names, and the order of Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (CVPR
2022).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.decode import UndecodedSplit, decoded_source
from distill_bench.datasets.folder import ANNOTATIONS, class_folders, read_annotated, read_folder
from distill_bench.datasets.info import DatasetInfo, named
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.paths import cache_dir

_CONSTANTS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class ImageNetVariant(DatasetInfo):
    """One of these datasets, from ``cache_dir()/sources/<name>``; a subset also from ``cache_dir()/sources/imagenet``.

    Attributes:
        classes: how many.
        folders: of a subset: its classes' folders and names, in label order.
        resized: whether images are resized to ``side``, rather than all of that size.
    """

    classes: int
    folders: dict[str, str] = Field(default_factory=dict)
    resized: bool = True

    @property
    def class_count(self) -> int:
        return self.classes

    def load(self, size: int | None = None) -> Dataset:
        """The dataset.

        Raises:
            DataError: the folders are not there, or have other classes; says which layout was looked for, and where.
            UsageError: images have no usual size and none is given.
        """
        root = self._find_root()
        wnids = list(self.folders) or class_folders(root / "train")
        if absent := [wnid for wnid in wnids if not (root / "train" / wnid).is_dir()]:
            raise DataError(f"{root / 'train'} has no folder {absent[0]}, a class of {self.name}. {self._layout}")
        if len(wnids) != self.classes:
            raise DataError(
                f"{root / 'train'} has {len(wnids)} class folders; {self.name} has {self.classes}. Load a part of it, "
                f"or another dataset, as folder:{root}."
            )
        side = size or self.side
        if side is None:
            raise UsageError(f"{self.name} has images of many sizes: give `size`, such as 64 (TESLA) or 224 (SRe2L).")
        dataset = decoded_source(
            self.name,
            self.folders.values() or wnids,
            lambda: read_folder(root / "train", wnids),
            lambda: self._read_validation(root, wnids),
            side if self.resized else size,
            (3, side, side),
        )
        return replace(dataset, constants=_CONSTANTS)

    @property
    def _roots(self) -> list[Path]:
        sources = cache_dir() / "sources"
        return [sources / self.name, sources / "imagenet"] if self.folders else [sources / self.name]

    def _find_root(self) -> Path:
        """The first folder with a ``train`` folder, of those the dataset may lie in."""
        for root in self._roots:
            if (root / "train").is_dir():
                return root
        raise DataError(f"{self.name} is not in {' or '.join(map(str, self._roots))}. {self._layout}")

    @property
    def _layout(self) -> str:
        """One sentence on the folders a dataset is looked for in."""
        root = self._roots[-1]
        if self.name == "tiny_imagenet":
            return (
                f"Unpack Tiny-ImageNet there, so that there are {root}/train/<wnid>/images/*.JPEG for its 200 classes "
                f"(<wnid> such as n01443537) and {root}/val/images/*.JPEG with {root}/val/{ANNOTATIONS}, or "
                f"{root}/val/<wnid>/*.JPEG."
            )
        count = "its ten" if self.folders else "all 1,000"
        return (
            f"It needs {root}/train/<wnid>/*.JPEG and {root}/val/<wnid>/*.JPEG for {count} classes (<wnid> such as "
            "n01440764; the 50,000 validation images sorted into a folder a class). A link will do."
        )

    def _read_validation(self, root: Path, wnids: Sequence[str]) -> UndecodedSplit:
        """The validation images, which serve as test split: real test labels were never published.

        Raises:
            DataError: there are none, or they are not sorted into classes.
        """
        folder = next((root / split for split in ("val", "test") if _class_of_any(root / split, wnids)), root / "val")
        if (folder / ANNOTATIONS).is_file():
            return read_annotated(folder, wnids)
        if not _class_of_any(folder, wnids):
            raise DataError(f"{folder} has no validation images in class folders. {self._layout}")
        return read_folder(folder, wnids)


IMAGENET_VARIANTS = named(ImageNetVariant, "imagenet")
SUBSETS = {name: each.folders for name, each in IMAGENET_VARIANTS.items() if each.folders}
"""Of every subset: its classes' folders and names, in label order."""


def folder_names(name: str, class_names: Sequence[str]) -> list[str]:
    """The folders of a dataset's real images, a class each: WordNet ids for MTT's subsets, else the classes' names.

    Args:
        name: of the dataset.
        class_names: all of its classes, or some in any order.

    Returns:
        A folder name for each of the classes.
    """
    wnids = {title: wnid for wnid, title in SUBSETS.get(name, {}).items()}
    return [wnids.get(title, title) for title in class_names]


def _class_of_any(folder: Path, wnids: Sequence[str]) -> bool:
    return any((folder / wnid).is_dir() for wnid in wnids)
