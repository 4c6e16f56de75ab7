"""Methods by name: those of the families' folders, of other packages, and the user's own."""

import hashlib
import importlib
import inspect
import os
import sys
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from distill_bench.datasets import usual_side
from distill_bench.datasets.dataset import Dataset
from distill_bench.errors import UsageError, describe, did_you_mean
from distill_bench.methods.limits import check_some
from distill_bench.methods.recipe import FYI, PAPER, Recipe, Values, list_recipes, load_recipe, merge, with_flip
from distill_bench.methods.run import (
    Config,
    MethodFunction,
    config_of,
)
from distill_bench.runtime.names import LONGEST_PATH, checked_name

ENTRY_POINTS = "distill_bench.methods"


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

    def config_on(self, data: Dataset, ipc: int, preset: str = PAPER, /, **overrides: Any) -> Config:
        """The resolved hyper-parameters of a run on a source. Its images are read where their size matters.

        Raises:
            UsageError: as ``config``.
        """
        side = min(data.train.shape[1:]) if self.recipe.sides(preset) else None
        return self.config(data.name, ipc, preset, side, **overrides)

    def config(
        self, dataset: str, ipc: int, preset: str = PAPER, side: int | None = None, /, **overrides: Any
    ) -> Config:
        """The resolved hyper-parameters of a run.

        Args:
            side: of the images, the shorter one, in pixels; None: that usual of a named dataset.

        Raises:
            UsageError: unknown preset, unknown field or wrong value, naming what is allowed; or no image per class.
        """
        check_some(ipc)
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
        if config.pixel_space != "zca" and (idle := sorted({"zca_eps", "zca_input"} & overrides.keys())):
            what = f"{' and '.join(idle)} go with whitened pixels; here they are {config.pixel_space}"
            raise UsageError(f"{what}. Set pixel_space=zca as well, or leave it out.")
        return config


def list_methods() -> list[str]:
    """The names ``load_method`` knows: built-in recipes, then entry points of other packages under other names."""
    mirrored = [FYI + name for name in list_recipes() if _has_flip(load_method(name))]
    built_in = sorted([*list_recipes(), *mirrored])
    return built_in + sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - set(built_in))


def load_method(name: str) -> Method:
    """A built-in method, one from another package's entry point, or a user's own ``module:function``.

    Raises:
        UsageError: there is none of that name, or it cannot be imported.
    """
    if ":" in _checked(name):
        return _own_method(name, _import(name))
    if name not in list_recipes():
        for point in entry_points(group=ENTRY_POINTS, name=name):
            return _own_method(name, _import(point.value))
    if name.startswith(FYI) and name not in list_recipes():
        return _with_flip(name)
    recipe = load_recipe(name)
    function = _import(recipe.function)
    own = not recipe.function.startswith(f"{__package__}.")
    return _own_method(name, function, recipe) if own else Method(name, recipe, function)


def variant(name: str, method: str, **settings: Any) -> Method:
    """A method under another name, with fields of other values.

    Args:
        name: on cards and boards.
        method: as for ``load_method``.
        settings: hyper-parameters that replace the recipe's; those of a run replace these.

    Returns:
        The method; its configuration is not checked yet.
    """
    return replace(load_method(method), name=_checked(name), settings=settings)


def _with_flip(name: str) -> Method:
    method = load_method(name.removeprefix(FYI))
    if not _has_flip(method):
        raise UsageError(f"{name}: {method.name} matches nothing of its images' mirrors: it has no field flip.")
    return replace(method, name=name, recipe=with_flip(method.recipe))


def _has_flip(method: Method) -> bool:
    return "flip" in config_of(method.function).model_fields


def _checked(name: str) -> str:
    try:
        return checked_name(name, "the method's name", LONGEST_PATH)
    except ValueError as error:
        raise UsageError(f"{error}.") from error


def _own_method(name: str, function: Any, recipe: Recipe | None = None) -> Method:
    if not callable(function):
        raise UsageError(f"{name} is a {type(function).__name__}, not a function that takes a Job.")
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        raise UsageError(f"{name} is a {type(function).__name__}; a method is a function written in Python.") from None
    code = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    title = (inspect.getdoc(function) or name).splitlines()[0]
    return Method(name, recipe or Recipe(title=title, function=name), function, code)


def _import(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path:
        # a method written beside the data is found where the command is run, as python -m would
        sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # what a module raises while it is imported may be anything
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"cannot load the method {name!r}: {reason}. Give module:function, with the module's name as import takes "
            "it (no path, no .py), importable from here."
        ) from error
