"""Which networks a measure goes over, and which it leaves out and why."""

from collections.abc import Iterable, Sequence

from distill_bench.errors import UsageError
from distill_bench.networks import check_network
from distill_bench.networks.classic import Shape


def fitting(asked: Sequence[str], usual: Iterable[str], shape: Shape) -> tuple[list[str], dict[str, str]]:
    """Networks that take images of a shape, each once.

    Args:
        asked: names that were asked for, each of which must fit; or none.
        usual: the names else, of which those that fit are taken.
        shape: channels, height and width.

    Returns:
        Their full names, and those left out with the reason.

    Raises:
        UsageError: one that was asked for is unknown or does not take the images.
    """
    chosen: list[str] = []
    left_out: dict[str, str] = {}
    for name in asked or usual:
        try:
            chosen.append(check_network(name, shape))
        except UsageError as error:
            if asked:
                raise
            left_out[name] = str(error)
    return list(dict.fromkeys(chosen)), left_out
