"""Why a cell cannot be run, as far as that is known before its set is made."""

from distill_bench.benchmark.cells import SetCell
from distill_bench.datasets import Dataset
from distill_bench.errors import UsageError
from distill_bench.evaluation import load_protocol, members
from distill_bench.methods import Method, budget_trouble, shortage
from distill_bench.methods.recipe import list_recipes
from distill_bench.methods.run import Config


def hindrance(cell: SetCell, method: Method, config: Config, dataset: Dataset) -> str | None:
    """Why a set cannot be made or scored.

    Args:
        cell: of the set.
        method, config: what makes it.
        dataset: of its training split.

    Returns:
        The reason, with what to do; None where there is none.
    """
    if short := shortage(dataset, cell.budget):
        reason, most = short
        choose = f" Run the IPCs up to {most} alone, such as `only=ipc=1`, or add images."
        return reason + (choose if most else "")
    if trouble := budget_trouble(dataset, method.name, method.function, config, cell.budget):
        return trouble
    try:
        config.check(dataset)
    except UsageError as error:
        return str(error)
    return _other_labels(cell, method)


def _other_labels(cell: SetCell, method: Method) -> str | None:
    """Why no protocol can train on what one of the package's methods makes; None of what others make."""
    if (cell.of or cell.method) not in list_recipes():
        return None
    own = load_protocol(members(method.recipe.protocol)[0]).probe is not None
    asked = [load_protocol(name) for name in cell.protocols]
    if any((each.probe is not None) == own for each in asked):
        return None
    made, wanted = ("targets", "labels") if own else ("labels", "targets")
    return (
        f"{method.name} makes sets of {made}, and {asked[0].id} trains on {wanted}. Name the protocol of its recipe as "
        f"well, `protocol={method.recipe.protocol}`, or another such."
    )
