"""About how much memory an evaluation takes."""

from distill_bench.datasets import Dataset
from distill_bench.evaluation.protocol import load_protocol
from distill_bench.networks import resolve_network
from distill_bench.training.memory import training_bytes


def evaluation_bytes(dataset: Dataset, protocol: str, images: int, network: str | None = None) -> int:
    """About how many bytes it takes to train a network on so many images and to test it.

    A teacher that labels the images as they are shown is not counted.

    Args:
        dataset: where it is tested.
        protocol: an id, or a file.
        images: that it is trained on.
        network: instead of the protocol's.

    Returns:
        Bytes, of float32.

    Raises:
        UsageError: there is no such protocol or network.
    """
    rules = load_protocol(protocol).for_dataset(dataset.name)
    shape, classes = dataset.train.shape, len(dataset.class_names)
    name = resolve_network(rules.network if network is None else network, shape)
    return training_bytes(name, shape, classes, min(rules.plan(images).batch_size, images))
