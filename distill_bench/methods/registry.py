"""Synthesizers by name, and the one way to run any of them."""

import hashlib
import importlib
import inspect
import os
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from distill_bench.datasets import usual_side
from distill_bench.datasets.card import source_card
from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.training_view import TrainingData
from distill_bench.distilled.distilled_set import Card, DistilledSet
from distill_bench.errors import UsageError, describe, did_you_mean, is_out_of_memory, unknown
from distill_bench.methods.decoupled.realistic_crops import realistic_crops
from distill_bench.methods.decoupled.recover import recover
from distill_bench.methods.finished import as_set
from distill_bench.methods.gradient_matching.gradient_matching import gradient_matching
from distill_bench.methods.limits import check_ipc, check_memory, check_some
from distill_bench.methods.mean_matching.attention_matching import attention_matching
from distill_bench.methods.mean_matching.distribution_matching import distribution_matching
from distill_bench.methods.recipe import PAPER, Recipe, list_recipes, load_recipe
from distill_bench.methods.run import (
    Config,
    Run,
    Synthesizer,
    config_of,
    sharing_of,
    version_of,
)
from distill_bench.methods.selection.selection import (
    herding_selection,
    k_center_selection,
    k_means_selection,
    random_selection,
    relabelled_selection,
)
from distill_bench.methods.trajectory_matching.trajectory_matching import trajectory_matching
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.hashing import canonical_hash
from distill_bench.runtime.names import LONGEST_PATH, checked_name
from distill_bench.runtime.progress import SILENT, Monitor

BUILT_IN: dict[str, Synthesizer] = {
    function.__name__: function
    for function in (
        random_selection,
        relabelled_selection,
        herding_selection,
        k_center_selection,
        k_means_selection,
        gradient_matching,
        distribution_matching,
        attention_matching,
        trajectory_matching,
        recover,
        realistic_crops,
    )
}
ENTRY_POINTS = "distill_bench.methods"


@dataclass(frozen=True)
class Method:
    """A method ready to be run: its recipe and its function.

    Attributes:
        code: sha256 of the defining file for a function from outside the package, so that edited code is new work.
    """

    name: str
    recipe: Recipe
    function: Synthesizer
    code: str | None = None

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
    built_in = list_recipes()
    return built_in + sorted({point.name for point in entry_points(group=ENTRY_POINTS)} - set(built_in))


def load_method(name: str) -> Method:
    """A built-in method, one from another package's entry point, or a user's own ``module:function``.

    Raises:
        UsageError: there is none of that name, or it cannot be imported.
    """
    try:
        checked_name(name, "the method's name", LONGEST_PATH)
    except ValueError as error:
        raise UsageError(f"{error}.") from error
    if ":" in name:
        return _own_method(name, _import(name))
    if name not in list_recipes():
        for point in entry_points(group=ENTRY_POINTS, name=name):
            return _own_method(name, _import(point.value))
    recipe = load_recipe(name)
    if ":" in recipe.synthesizer:
        return _own_method(name, _import(recipe.synthesizer), recipe)
    if recipe.synthesizer not in BUILT_IN:
        raise UsageError(f"{name}: {unknown('synthesizer', recipe.synthesizer, BUILT_IN)}")
    return Method(name, recipe, BUILT_IN[recipe.synthesizer])


def synthesize(
    data: Dataset,
    method: str,
    ipc: int,
    preset: str = PAPER,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
    **config: Any,
) -> DistilledSet:
    """Make a distilled set from the training split of a source. The set is the last iterate.

    Args:
        data: only its training split is read.
        method: a name from ``list_methods``, or ``module:function``.
        ipc: images per class.
        preset: ``"paper"``, or a named variant of the recipe such as ``"cpu"``.
        seed: of everything random in synthesis.
        checkpoint: where unfinished work is kept; none unless given.
        history: a list that receives the loss of every step.
        **config: hyper-parameters that replace the recipe's.

    Raises:
        UsageError: unknown names, fields that are invalid or do not go with the source, more images per class asked
            for than there are.
        RunFailed: the computation did.
        Interrupted: the monitor was asked to stop; the checkpoint was written.
    """
    chosen = load_method(method)
    resolved = chosen.config_on(data, ipc, preset, **config)
    return make_set(
        data,
        chosen,
        resolved,
        ipc,
        preset,
        seed,
        device=device,
        monitor=monitor,
        checkpoint=checkpoint,
        history=history,
    )


def make_set(
    data: Dataset,
    method: Method,
    config: Config,
    ipc: int,
    preset: str = PAPER,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
) -> DistilledSet:
    """``synthesize`` with a loaded method and its resolved fields. Arguments and errors are the same."""
    run = _run_of(data, method, config, ipc, seed, device, monitor, checkpoint)
    run.history = [] if history is None else history
    try:
        return as_set(method.function(run), run, _card(data, method, config, ipc, preset, seed))
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise run.out_of_memory("outside its loop", error) from error
        raise


def parts_of_set(data: Dataset, method: Method, config: Config, ipc: int) -> int:
    """How many processes can work at a set at a time: 1 where its parts depend on each other."""
    sharing = sharing_of(method.function)
    return max(1, sharing.parts(config, len(data.class_names), ipc)) if sharing else 1


def help_make_set(
    data: Dataset,
    method: Method,
    config: Config,
    ipc: int,
    seed: int = 0,
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
    checkpoint: Checkpoint,
) -> None:
    """Do parts of a set that another process makes, which finds them: experts, recovered batches.

    Args:
        checkpoint: at the path of the other process's.

    Raises:
        RunFailed, Interrupted: as ``make_set``.
    """
    if (sharing := sharing_of(method.function)) is not None:
        sharing.work(_run_of(data, method, config, ipc, seed, device, monitor, checkpoint))


def _run_of(
    data: Dataset,
    method: Method,
    config: Config,
    ipc: int,
    seed: int,
    device: str,
    monitor: Monitor,
    checkpoint: Checkpoint | None,
) -> Run[Any]:
    check_ipc(data, ipc)
    config.check(data)
    place, kept = resolve_device(device), checkpoint or Checkpoint()
    check_memory(method.name, data, config, ipc, place)
    kept.conditions = {"device": str(place), "threads": torch.get_num_threads()}
    return Run(
        method=method.name,
        training=TrainingData(data, config.pixel_space_on(data), place),
        ipc=ipc,
        config=config,
        seed=seed,
        device=place,
        monitor=monitor,
        checkpoint=kept,
    )


def synthesis_key(data: Dataset, method: Method, config: Config, ipc: int, preset: str, seed: int) -> str:
    """The content address of a set: everything its file depends on, and nothing else.

    That is the card the file will have, which holds the training split's fingerprint; whether a mirrored image keeps
    its label, which the card does not say; and which function makes it: a built-in one's version, the file of another.

    Raises:
        UsageError: no class has so many images.
    """
    check_ipc(data, ipc)
    return canonical_hash(
        {
            "card": _card(data, method, config, ipc, preset, seed).model_dump(mode="json"),
            "flip_invariant": data.flip_invariant,
            "synthesizer": method.recipe.synthesizer,
            "version": version_of(method.function),
            "code": method.code,
        }
    )


def _card(data: Dataset, method: Method, config: Config, ipc: int, preset: str, seed: int) -> Card:
    """The card of a set before it is made; what kind of labels it has, its method says in the end."""
    return Card(
        method=method.name,
        paper=method.recipe.paper,
        source=source_card(data),
        class_names=data.class_names,
        ipc=ipc,
        pixel_space=config.pixel_space_on(data),
        preset=preset,
        recipe=config.model_dump(mode="json"),
        protocol=method.recipe.protocol,
        seed=seed,
    )


def _own_method(name: str, function: Any, recipe: Recipe | None = None) -> Method:
    if not callable(function):
        raise UsageError(f"{name} is a {type(function).__name__}, not a function that takes a Job.")
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        raise UsageError(f"{name} is a {type(function).__name__}; a method is a function written in Python.") from None
    code = hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
    title = (inspect.getdoc(function) or name).splitlines()[0]
    return Method(name, recipe or Recipe(title=title, synthesizer=name), function, code)


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
