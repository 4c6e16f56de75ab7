"""A grid of many classes: whose name stands where."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from distill_bench import DistilledSet
from distill_bench.datasets.dataset import Dataset, Split
from distill_bench.distilled.render import grid

BLUE = (10, 20, 250)


@pytest.mark.parametrize("ipc", [1, 3])
@pytest.mark.parametrize("classes", [40, 100, 200])
def test_a_class_name_stands_next_to_its_own_images_and_apart_from_its_left_neighbours(classes, ipc):
    pixels = torch.tensor(BLUE, dtype=torch.uint8).view(1, 3, 1, 1).expand(classes * ipc, 3, 32, 32).contiguous()
    labels = torch.arange(classes).repeat_interleave(ipc)
    names = tuple("i" * (1 + label % 9) + f"{label:03d}" for label in range(classes))
    source = Dataset("made", names, lambda: Split(pixels, labels), None, flip_invariant=True)
    made = DistilledSet.from_tensors(pixels, labels, source, pixel_space="unit")
    sheet = np.asarray(Image.open(io.BytesIO(grid(made)))).astype(int)
    image = (sheet == BLUE).all(axis=2)
    ink = (sheet.sum(axis=2) < 600) & ~image  # the names, not the pale lines between strips
    names_seen = 0
    for top in np.flatnonzero(np.diff(image.any(axis=1).astype(int), prepend=0) == 1):
        rows = slice(top, top + 32)
        marks = np.where(image[rows].any(axis=0), "#", np.where(ink[rows].any(axis=0), "x", " "))
        for place, between in enumerate("".join(marks).split("#")):  # what lies left of each column of images
            if "x" not in between:
                continue
            left, right = (len(between) - len(stripped) for stripped in (between.lstrip(), between.rstrip()))
            assert place == 0 or left > 2 * right, f"{left} px from the left neighbour, {right} from its own"
            names_seen += 1
    assert names_seen == classes
