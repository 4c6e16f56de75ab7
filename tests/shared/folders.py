"""Folders of pictures."""

import numpy
from PIL import Image


def images_folder(root, classes=("cat", "dog"), count=6, side=8):
    """A folder of random pictures, train and test, a class a folder."""
    draw = numpy.random.default_rng(0)
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for k in range(count):
                pixels = draw.integers(0, 255, (side, side, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{k}.png")
