"""ImageNet, Tiny-ImageNet and MTT's six subsets of ImageNet, from folders in their standard layout.

Classes are WordNet ids in sorted order, as torchvision's ImageFolder and the field's loaders have them; the subsets
have plain names, and the order of Cazenavette et al., "Dataset Distillation by Matching Training Trajectories" (CVPR
2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.decode import UndecodedSplit, decoded_source
from distill_bench.datasets.folder import ANNOTATIONS, class_folders, read_annotated, read_folder
from distill_bench.datasets.info import DatasetInfo
from distill_bench.errors import DataError, UsageError
from distill_bench.runtime.paths import cache_dir

_CONSTANTS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_SUBSET_SIZE = 128
"""The resolution MTT has its subsets at."""

SUBSETS = {
    "imagenette": {
        "n01440764": "tench", "n02102040": "English springer", "n02979186": "cassette player",
        "n03000684": "chain saw", "n03028079": "church", "n03394916": "French horn", "n03417042": "garbage truck",
        "n03425413": "gas pump", "n03445777": "golf ball", "n03888257": "parachute",
    },
    "imagewoof": {
        "n02096294": "Australian terrier", "n02093754": "Border terrier", "n02111889": "Samoyed",
        "n02088364": "beagle", "n02086240": "Shih-Tzu", "n02089973": "English foxhound",
        "n02087394": "Rhodesian ridgeback", "n02115641": "dingo", "n02099601": "golden retriever",
        "n02105641": "Old English sheepdog",
    },
    "imagemeow": {
        "n02123045": "tabby", "n02123159": "tiger cat", "n02123394": "Persian cat", "n02123597": "Siamese cat",
        "n02124075": "Egyptian cat", "n02129165": "lion", "n02129604": "tiger", "n02128925": "jaguar",
        "n02128757": "snow leopard", "n02127052": "lynx",
    },
    "imagesquawk": {
        "n01806143": "peacock", "n02007558": "flamingo", "n01818515": "macaw", "n02051845": "pelican",
        "n02056570": "king penguin", "n01614925": "bald eagle", "n01843383": "toucan", "n01518878": "ostrich",
        "n01860187": "black swan", "n01819313": "sulphur-crested cockatoo",
    },
    "imagefruit": {
        "n07753275": "pineapple", "n07753592": "banana", "n07745940": "strawberry", "n07747607": "orange",
        "n07749582": "lemon", "n07768694": "pomegranate", "n07753113": "fig", "n07720875": "bell pepper",
        "n07718472": "cucumber", "n07742313": "Granny Smith",
    },
    "imageyellow": {
        "n02206856": "bee", "n12057211": "yellow lady's slipper", "n07753592": "banana", "n07749582": "lemon",
        "n12144580": "corn", "n04146614": "school bus", "n03530642": "honeycomb", "n02129165": "lion",
        "n01773157": "black and gold garden spider", "n01531178": "goldfinch",
    },
}  # fmt: skip
"""Of every subset: its classes' folders and names, in label order."""


_TERMS = "ImageNet's terms: for non-commercial research and education"
_IMAGENET: dict[str, Any] = {
    "licence": "other",
    "terms": _TERMS,
    "page": "https://www.image-net.org/download.php",
    "citation": "O. Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 115, 2015, arXiv "
    "1409.0575.",
}


@dataclass(frozen=True, kw_only=True)
class ImageNetVariant(DatasetInfo):
    """One of these datasets, from ``cache_dir()/sources/<name>``; a subset also from ``cache_dir()/sources/imagenet``.

    Attributes:
        classes: how many.
        resized: whether images are resized to ``side``, rather than all of that size.
    """

    classes: int
    resized: bool = True

    def load(self, size: int | None = None) -> Dataset:
        """The dataset.

        Raises:
            DataError: the folders are not there, or have other classes; says which layout was looked for, and where.
            UsageError: images have no usual size and none is given.
        """
        root = _find_root(self.name)
        wnids = list(SUBSETS[self.name]) if self.name in SUBSETS else class_folders(root / "train")
        if absent := [wnid for wnid in wnids if not (root / "train" / wnid).is_dir()]:
            raise DataError(f"{root / 'train'} has no folder {absent[0]}, a class of {self.name}. {layout(self.name)}")
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
            SUBSETS[self.name].values() if self.name in SUBSETS else wnids,
            lambda: read_folder(root / "train", wnids),
            lambda: _read_validation(self.name, root, wnids),
            side if self.resized else size,
            (3, side, side),
        )
        return replace(dataset, constants=_CONSTANTS)


IMAGENET_VARIANTS = {
    each.name: each
    for each in (
        ImageNetVariant(
            name="tiny_imagenet",
            side=64,
            title="Tiny ImageNet",
            licence="other",
            terms=f"no terms of its own; {_TERMS}",
            page=_IMAGENET["page"],
            citation="Y. Le and X. Yang. Tiny ImageNet Visual Recognition Challenge. Stanford CS 231N, 2015.",
            classes=200,
            resized=False,
        ),
        ImageNetVariant(name="imagenet", side=None, title="ImageNet (ILSVRC 2012)", **_IMAGENET, classes=1000),
        *(
            ImageNetVariant(
                name=name, side=_SUBSET_SIZE, title=f"{name}, a subset of ImageNet", **_IMAGENET, classes=len(classes)
            )
            for name, classes in SUBSETS.items()
        ),
    )
}


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


def _find_root(name: str) -> Path:
    """The first folder with a ``train`` folder, of those the dataset may lie in."""
    for root in _roots(name):
        if (root / "train").is_dir():
            return root
    raise DataError(f"{name} is not in {' or '.join(map(str, _roots(name)))}. {layout(name)}")


def _roots(name: str) -> list[Path]:
    sources = cache_dir() / "sources"
    return [sources / name, sources / "imagenet"] if name in SUBSETS else [sources / name]


def layout(name: str) -> str:
    """One sentence on the folders a dataset is looked for in."""
    root = _roots(name)[-1]
    if name == "tiny_imagenet":
        return (
            f"Unpack Tiny-ImageNet there, so that there are {root}/train/<wnid>/images/*.JPEG for its 200 classes "
            f"(<wnid> such as n01443537) and {root}/val/images/*.JPEG with {root}/val/{ANNOTATIONS}, or "
            f"{root}/val/<wnid>/*.JPEG."
        )
    count = "its ten" if name in SUBSETS else "all 1,000"
    return (
        f"It needs {root}/train/<wnid>/*.JPEG and {root}/val/<wnid>/*.JPEG for {count} classes (<wnid> such as "
        "n01440764; the 50,000 validation images sorted into a folder a class). A link will do."
    )


def _read_validation(name: str, root: Path, wnids: Sequence[str]) -> UndecodedSplit:
    """The validation images, which serve as test split: real test labels were never published.

    Raises:
        DataError: there are none, or they are not sorted into classes.
    """
    folder = next((root / split for split in ("val", "test") if _class_of_any(root / split, wnids)), root / "val")
    if (folder / ANNOTATIONS).is_file():
        return read_annotated(folder, wnids)
    if not _class_of_any(folder, wnids):
        raise DataError(f"{folder} has no validation images in class folders. {layout(name)}")
    return read_folder(folder, wnids)


def _class_of_any(folder: Path, wnids: Sequence[str]) -> bool:
    return any((folder / wnid).is_dir() for wnid in wnids)
