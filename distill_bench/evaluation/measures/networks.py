"""Which networks a measure goes over, and which it leaves out and why."""

from collections.abc import Iterable, Sequence

from distill_bench.errors import UsageError
from distill_bench.networks import check_network, check_trainable
from distill_bench.networks.network import Shape


def fitting(asked: Sequence[str], usual: Iterable[str], shape: Shape, classes: int) -> tuple[list[str], dict[str, str]]:
    """Networks that take images of a shape, each once.

    Args:
        asked: names that were asked for, each of which must fit; or none.
        usual: the names else, of which those that fit are taken.
        shape: channels, height and width.
        classes: how many the images have.

    Returns:
        Their full names, and those left out with the reason.

    Raises:
        UsageError: one that was asked for is unknown or does not take the images.
    """
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for name in asked or usual:
        try:
            resolved = check_network(name, shape)
            check_trainable(resolved, shape, classes)  # before hours of work with others
            chosen.append(resolved)
        except UsageError as error:
            if asked:
                raise
            left_out[name] = str(error)
    return list(dict.fromkeys(chosen)), left_out
