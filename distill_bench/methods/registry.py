"""Methods by name."""

import inspect
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any

from pydantic import ValidationError

from distill_bench.datasets import usual_side
from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.budget import Budget
from distill_bench.errors import UsageError, describe, did_you_mean
from distill_bench.methods.recipe import PAPER, TEST, Recipe, Values, list_recipes, load_recipe, merge
from distill_bench.methods.run import Config, MethodFunction, config_of
from distill_bench.networks import check_own
from distill_bench.runtime.names import LONGEST_PATH, checked_name
from distill_bench.runtime.outside import import_function, source_sha256

_ENTRY_POINTS = "distill_bench.methods"


@dataclass(frozen=True)
class Method:
    """A method ready to be run: its recipe and its function.

    Attributes:
        code: sha256 of the defining file for a function from outside the package, so that edited code is new work.
        settings: hyper-parameters that replace the recipe's, see ``variant``.
    """

    name: str
    recipe: Recipe
    function: MethodFunction
    code: str | None = None
    settings: Values = field(default_factory=dict)

    def config_on(self, data: Dataset, budget: Budget, preset: str = PAPER, /, **overrides: Any) -> Config:
        """The resolved hyper-parameters of a run on a dataset. Its images are read where their number or size matters.

        Of a fraction, tables by IPC count as for the class that has most images.

        Raises:
            UsageError: as ``config``.
        """
        side = min(data.train.shape[1:]) if self.recipe.sides(preset) else None
        return self.config(data.name, budget.ipc or max(budget.counts(data.class_sizes)), preset, side, **overrides)

    def config(
        self, dataset: str, ipc: int, preset: str = PAPER, side: int | None = None, /, **overrides: Any
    ) -> Config:
        """The resolved hyper-parameters of a run.

        Args:
            dataset: its name.
            ipc: images per class.
            preset: its name.
            side: of the images, the shorter one, in pixels; None: that usual of a named dataset.
            overrides: values of fields, which count before those of the recipe.

        Returns:
            An instance of the method's config.

        Raises:
            UsageError: unknown preset, unknown field or wrong value, naming what is allowed; or no image per class.
        """
        Budget(ipc)  # refuses what is no number of images
        model = config_of(self.function)
        overrides = merge(self.settings, overrides)
        values = self.recipe.resolve(dataset, ipc, preset, overrides, side or usual_side(dataset))
        strange, known = sorted(set(values) - set(model.model_fields)), sorted(model.model_fields)
        if strange:
            hint = did_you_mean(strange[0], known)
            raise UsageError(f"{self.name} has no field {', '.join(strange)}. Its fields: {', '.join(known)}.{hint}")
        try:
            config = model.model_validate(values)
        except ValidationError as error:
            raise UsageError(f"{self.name}, preset {preset}: {describe(error)}.") from error

        def resolve(other: "Method", values: Values) -> Config:
            return other.config(dataset, ipc, _preset_of(other, preset, self.name), side, **values)

        config = config.completed(resolve)
        for table in (config, getattr(config, "teacher", None)):
            check_own(getattr(table, "network", ""), "sets", f"{self.name}: ")
        if config.pixel_space != "zca" and (idle := sorted({"zca_eps", "zca_input"} & overrides.keys())):
            what = f"{' and '.join(idle)} go with whitened pixels; here they are {config.pixel_space}"
            raise UsageError(f"{what}. Set pixel_space=zca as well, or leave it out.")
        if overrides and (trouble := config.misplaced(self._changed(overrides, dataset, ipc, preset, side))):
            raise UsageError(trouble)
        return config

    def _changed(self, overrides: Values, dataset: str, ipc: int, preset: str, side: int | None) -> set[str]:
        """The fields that a user gives other values than the recipe has."""
        usual = self.recipe.resolve(dataset, ipc, preset, {}, side or usual_side(dataset))
        fields = config_of(self.function).model_fields
        return {name for name, value in overrides.items() if value != usual.get(name, fields[name].default)}


def list_methods() -> list[str]:
    """The names ``load_method`` knows: built-in recipes, then entry points of other packages under other names."""
    built_in = list_recipes()
    return built_in + sorted({point.name for point in entry_points(group=_ENTRY_POINTS)} - set(built_in))


def variant(name: str, method: str, **settings: Any) -> Method:
    """A method under another name, with other values of some fields.

    Args:
        name: on cards and boards.
        method: as for ``load_method``.
        **settings: hyper-parameters that replace the recipe's; those of a run replace these.

    Returns:
        The method; its values are checked when they are resolved.

    Raises:
        UsageError: as ``load_method``, or the name cannot be printed.
    """
    return replace(load_method(method), name=_checked(name), settings=settings)


def load_method(name: str) -> Method:
    """A built-in method, one from another package's entry point, or a user's own.

    Args:
        name: from ``list_methods``, a ``module:function``, or the path of a recipe's ``.toml``.

    Returns:
        The method.

    Raises:
        UsageError: there is none of that name, or it cannot be imported.
    """
    _checked(name)
    offered = [] if name in list_recipes() else [point.value for point in entry_points(group=_ENTRY_POINTS, name=name)]
    spec = name if ":" in name else next(iter(offered), None)
    if spec is None:
        recipe = load_recipe(name)
        function = import_function(recipe.function, "method")
    else:
        function = import_function(spec, "method")
        recipe = Recipe(title=(inspect.getdoc(function) or name).splitlines()[0], function=name)
    return Method(name, recipe, function, source_sha256(function, name, "method"))


def _preset_of(other: Method, preset: str, name: str) -> str:
    """The preset of a method that another runs: the same; the paper's where a recipe offers no other.

    Raises:
        UsageError: it offers others, and not this one.
    """
    if preset in other.recipe.preset or preset in (PAPER, TEST) or other.recipe.presets == [PAPER]:
        return preset if preset in other.recipe.preset else PAPER
    raise UsageError(
        f"{name} would take values of {other.name} from its preset {preset!r}, which it has not. Its presets: "
        f"{', '.join(other.recipe.presets)}. Give one of them, or a method that has {preset!r} too."
    )


def _checked(name: str) -> str:
    try:
        return checked_name(name, "the method's name", LONGEST_PATH)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
