"""scikit-learn's 1,797 handwritten digits of 8x8 pixels: bundled with the library, so never downloaded."""

from functools import cache

import numpy as np
import torch

from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.datasets.decode import resize_pixels
from distill_bench.datasets.info import DatasetInfo, named
from distill_bench.runtime.seeds import generator

_TEST_FRACTION = 0.2
_LEVELS = 16
_CLASSES = "0123456789"


class _Digits(DatasetInfo):
    @property
    def class_count(self) -> int:
        return len(_CLASSES)

    def load(self, size: int | None = None) -> Dataset:
        """The digits, with a fixed stratified fifth as the test split (the dataset itself has none)."""
        return Dataset(
            name=self.name,
            class_names=tuple(_CLASSES),
            load_train=lambda: resized(_digits_splits()[0], size),
            load_test=lambda: resized(_digits_splits()[1], size),
            flip_invariant=False,
            size=size,
        )


DIGITS = named(_Digits, "bundled")


@cache
def _digits_splits() -> tuple[Split, Split]:
    """(train, test), both in scikit-learn's order."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.from_numpy(np.rint(bunch.images * 255 / _LEVELS).astype(np.uint8))[:, None]
    everything = Split(pixels, torch.from_numpy(bunch.target.astype(np.int64)))
    held = torch.zeros(len(everything), dtype=torch.bool)
    for label, indices in enumerate(everything.class_indices):
        order = torch.randperm(len(indices), generator=generator("digits", "split", label))
        held[indices[order[: round(_TEST_FRACTION * len(indices))]]] = True
    return everything.subset((~held).nonzero().flatten()), everything.subset(held.nonzero().flatten())


def resized(split: Split, size: int | None) -> Split:
    return Split(resize_pixels(split.images(torch.arange(len(split))), size), split.labels)
