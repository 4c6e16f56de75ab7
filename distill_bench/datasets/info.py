"""What a reader must be told of the named datasets: their terms and their authors."""

from dataclasses import dataclass

from distill_bench.datasets.imagenet import IMAGENET_VARIANTS


@dataclass(frozen=True)
class DatasetInfo:
    """A dataset's terms.

    Attributes:
        title: as its authors call it.
        licence: the identifier Hugging Face has for it; ``unknown`` where its authors name none, ``other`` for terms
            without an identifier.
        terms: the licence in words, with what is in doubt.
        page: where it is published.
        citation: how its authors are cited.
    """

    title: str
    licence: str
    terms: str
    page: str
    citation: str


CIFAR = (
    "unknown",
    "its authors name no licence; they ask to be cited",
    "https://www.cs.toronto.edu/~kriz/cifar.html",
    "A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. University of Toronto, 2009.",
)
IMAGENET_TERMS = "ImageNet's terms: for non-commercial research and education"
IMAGENET_PAGE = "https://www.image-net.org/download.php"
IMAGENET = (
    "other",
    IMAGENET_TERMS,
    IMAGENET_PAGE,
    "O. Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 115, 2015, arXiv 1409.0575.",
)

DATASET_INFO = {
    "digits": DatasetInfo(
        "Optical Recognition of Handwritten Digits, as scikit-learn has it",
        "cc-by-4.0",
        "Creative Commons Attribution 4.0",
        "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
        "E. Alpaydin and C. Kaynak. Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, 1998, "
        "doi 10.24432/C50P49.",
    ),
    "mnist": DatasetInfo(
        "MNIST",
        "cc-by-sa-3.0",
        "Creative Commons Attribution-ShareAlike 3.0, as Keras's documentation has it; other copies say MIT",
        "http://yann.lecun.com/exdb/mnist/",
        "Y. LeCun, L. Bottou, Y. Bengio and P. Haffner. Gradient-Based Learning Applied to Document Recognition. "
        "Proceedings of the IEEE 86(11), 1998.",
    ),
    "fashion_mnist": DatasetInfo(
        "Fashion-MNIST",
        "mit",
        "MIT",
        "https://github.com/zalandoresearch/fashion-mnist",
        "H. Xiao, K. Rasul and R. Vollgraf. Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning "
        "Algorithms. 2017, arXiv 1708.07747.",
    ),
    "svhn": DatasetInfo(
        "The Street View House Numbers (SVHN)",
        "other",
        "for non-commercial use only",
        "http://ufldl.stanford.edu/housenumbers/",
        "Y. Netzer, T. Wang, A. Coates, A. Bissacco, B. Wu and A. Y. Ng. Reading Digits in Natural Images with "
        "Unsupervised Feature Learning. NIPS Workshop on Deep Learning and Unsupervised Feature Learning, 2011.",
    ),
    "cifar10": DatasetInfo("CIFAR-10", *CIFAR),
    "cifar100": DatasetInfo("CIFAR-100", *CIFAR),
    "tiny_imagenet": DatasetInfo(
        "Tiny ImageNet",
        "other",
        f"no terms of its own; {IMAGENET_TERMS}",
        IMAGENET_PAGE,
        "Y. Le and X. Yang. Tiny ImageNet Visual Recognition Challenge. Stanford CS 231N, 2015.",
    ),
    **{
        name: DatasetInfo(
            "ImageNet (ILSVRC 2012)" if name == "imagenet" else f"{name}, a subset of ImageNet", *IMAGENET
        )
        for name in IMAGENET_VARIANTS
        if name != "tiny_imagenet"
    },
}
