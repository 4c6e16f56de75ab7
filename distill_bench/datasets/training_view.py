"""The training split as methods and pretraining see it: encoded in a pixel space, and nothing else of a dataset."""

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Generator, Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, Transform


class TrainingData:
    """The training split of a dataset in a pixel space. There is no way from here to a test split.

    Attributes:
        source_name: the name that the dataset was loaded by.
        fingerprint: of the training split.
        class_names: in label order; ``len`` of it is the number of classes.
        shape: (channels, height, width).
        labels: int64 [n].
        class_indices: for every class, the indices of its images.
        class_sizes: for every class, the number of its images.
        flip_invariant: whether mirrored images keep their label.
        pixel_space: the space images are given in.
        device: where images are given.
    """

    def __init__(self, dataset: Dataset, space: PixelSpace, device: torch.device) -> None:
        split = dataset.train
        self.source_name = dataset.name
        self.class_names = dataset.class_names
        self.shape = split.shape
        self.labels = split.labels
        self.class_indices = split.class_indices
        self.class_sizes = dataset.class_sizes
        self.flip_invariant = dataset.flip_invariant
        self.pixel_space = space
        self.device = device
        self._split = split
        self._transform = Transform(space, split)
        self._fetch = self._transform.fetch(split, device)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def fingerprint(self) -> str:
        return self._split.fingerprint

    def images(self, indices: Int64[Tensor, " k"]) -> Float[Tensor, "k c h w"]:
        """The images at ``indices``, encoded, on the device."""
        return self._fetch(indices)

    def pictures(self, indices: Int64[Tensor, " k"]) -> UInt8[Tensor, "k c h w"]:
        """The images at ``indices`` as the split has them, on the CPU."""
        return self._split.images(indices)

    def encode(self, pictures: UInt8[Tensor, "k c h w"]) -> Float[Tensor, "k c h w"]:
        """Pictures in the pixel space, on the CPU: what networks are trained on where a set has them."""
        return self._transform.encode(pictures)

    def pixels(self, images: Float[Tensor, "k c h w"]) -> Float[Tensor, "k c h w"]:
        """Images of the pixel space as pixels, those of real images from 0 to 1, on the CPU."""
        return self._transform.decode(images.cpu())

    def clip(self, images: Float[Tensor, "k c h w"]) -> Float[Tensor, "k c h w"]:
        """Images of the pixel space whose pixels are brought into the range of real ones, on the device."""
        return self._transform.clip(images.cpu() if self.pixel_space.kind == "zca" else images).to(self.device)

    def draw(self, label: int, count: int, generator: Generator) -> Float[Tensor, "k c h w"]:
        """``count`` different images of a class, at random; all of them, in random order, where there are fewer."""
        return self.images(self.draw_indices(label, count, generator))

    def draw_indices(self, label: int, count: int, generator: Generator) -> Int64[Tensor, " k"]:
        """The indices of the images that ``draw`` gives."""
        indices = self.class_indices[label]
        return indices[torch.randperm(len(indices), generator=generator)[:count]]
