"""recipe: show and check recipes."""

import contextlib
from itertools import product
from typing import Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import PAPER
from distill_bench.cli.output import show, show_json
from distill_bench.errors import DataError

USUAL_SHAPE = (3, 32, 32)
recipe_app = typer.Typer(help="Show and check recipes.", no_args_is_help=True)


@recipe_app.command("show")
def recipe_show(
    method: Annotated[str, typer.Argument(help="A method.")],
    dataset: options.DatasetName = "digits",
    ipc: options.Ipc = None,
    fraction: options.Fraction = None,
    preset: options.Preset = PAPER,
    values: options.Values = None,
    size: Annotated[
        int | None, typer.Option("--size", min=1, help="The images' side in pixels, if not the dataset's usual one.")
    ] = None,
) -> None:
    """Print the values a method would run with, and where each comes from: table, file, and the source named there."""
    from distill_bench.datasets import load_dataset, usual_side
    from distill_bench.distilled.budget import Budget
    from distill_bench.methods import check_budget, load_method
    from distill_bench.methods.provenance import sources

    chosen, side = load_method(method), size or usual_side(dataset)
    if side is None:
        with contextlib.suppress(DataError):  # data that is not here: no table of sides applies
            side = min(load_dataset(dataset).train.shape[1:])
    budget, replaced = Budget(1 if ipc is None and fraction is None else ipc, fraction), options.overrides(values)
    data = None if fraction is None else load_dataset(dataset, size=size)  # whose classes say how many images that is
    most = budget.ipc if data is None else max(budget.counts(data.class_sizes))
    assert most is not None
    config = chosen.config(dataset, most, preset, side, **replaced)
    if data is not None:
        check_budget(data, chosen.name, chosen.function, config, budget)
    about = {"title": chosen.recipe.title, "paper": chosen.recipe.paper, "protocol": chosen.recipe.protocol}
    tables = [name for name, table in chosen.recipe.tables(dataset, most, preset, side).items() if table]
    from_where = sources(chosen, dataset, most, preset, side, replaced)
    fields = config.model_dump(mode="json")
    show_json({"method": method, **about, "tables": tables, "fields": fields, "sources": from_where})


@recipe_app.command("validate")
def recipe_validate(file: Annotated[str, typer.Argument(help="A built-in recipe's name, or a .toml file.")]) -> None:
    """Check every table of a recipe against its method's fields, and the names of networks and protocol."""
    from distill_bench.evaluation import known_protocol
    from distill_bench.methods import load_method
    from distill_bench.methods.recipe import PAPER, load_recipe
    from distill_bench.networks import resolve_network

    recipe, chosen = load_recipe(file), load_method(file)
    known_protocol(recipe.protocol)
    for preset in {PAPER, *recipe.preset}:
        for (dataset, ipc), side in product(recipe.tabulated(preset), [None, *recipe.sides(preset)]):
            config = chosen.config(dataset, ipc, preset, side).model_dump()
            resolve_network(config.get("network", "ConvNet"), USUAL_SHAPE)
    show(f"{file}: valid")
