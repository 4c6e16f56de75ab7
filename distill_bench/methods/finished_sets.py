"""Finished sets as a field of a recipe: a file whose images synthesis goes on from, or labels anew."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import Float
from pydantic import PlainSerializer
from torch import Tensor

from distill_bench.distilled.compensators import refuse_compensators
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import DataError, UsageError, unknown
from distill_bench.methods.formation import formation_of
from distill_bench.methods.run import Config, Run

ENDING = ".safetensors"


def is_finished_set(value: str) -> bool:
    return value.endswith(ENDING)


def finished_sets_of(config: Config) -> list[str]:
    """The files of finished sets that a recipe names."""
    values = (getattr(config, name) for name in type(config).model_fields)
    return [value for value in values if isinstance(value, str) and is_finished_set(value)]


def one_of(*names: str) -> Callable[[str], str]:
    """A check that ``init`` is one of the names, or the file of a finished set, then named by its full path."""

    def check(init: str) -> str:
        if init in names:
            return init
        if not is_finished_set(init):
            raise ValueError(unknown("start", init, names, f", or a finished set's {ENDING} file").rstrip("."))
        return full_path(init)

    return check


def full_path(value: str) -> str:
    """A finished set by its full path, any other value as it is. Raises ValueError for a file that is no set."""
    if not is_finished_set(value):
        return value
    try:
        load_distilled(value)
    except DataError as error:
        raise ValueError(str(error).rstrip(".")) from error
    return str(Path(value).resolve())


def _by_content(value: str) -> str:
    """What the card says: a path says nothing of what was there."""
    return f"sha256:{load_distilled(value).sha256}" if is_finished_set(value) else value


BY_CONTENT = PlainSerializer(_by_content, when_used="json")


def images_to_go_on_from(run: Run[Any]) -> Float[Tensor, "n c h w"]:
    """The images of the set that ``init`` names. Soft labels and a learned rate start as the recipe says.

    Raises:
        UsageError: it is not a set such as the run makes.
    """
    images = set_named(run, "init").images
    if not images.is_floating_point():
        raise UsageError(f"init={run.config.init}: its images are 8-bit pictures. Go on from a set that was optimised.")
    return images.float().to(run.device)


def set_named(run: Run[Any], field: str) -> DistilledSet:
    """The finished set that a field of the recipe names, whose images are to be taken.

    Raises:
        UsageError: it is not a set such as the run makes.
    """
    what = f"{field}={getattr(run.config, field)}"
    distilled = load_distilled(getattr(run.config, field))
    refuse_compensators(distilled, what, "Give a set that has none.")
    facts = {
        "classes": (distilled.card.class_names, run.training.class_names),
        "images": (tuple(distilled.images.shape), (len(run.labels), *run.training.shape)),
        "formation": (distilled.card.formation, formation_of(run.config)),
        "labels": (distilled.labels.tolist(), run.labels.tolist()),
        "pixel space": (distilled.card.pixel_space, run.training.pixel_space),
        "training split": (distilled.card.source.train_fingerprint, run.training.fingerprint),
    }
    if wrong := [name for name, (has, wanted) in facts.items() if has != wanted]:
        shape = "×".join(map(str, run.training.shape))
        raise UsageError(
            f"{what}: a set whose images are taken has the classes, IPC, image size, formation, pixel space and "
            f"training split of the one to make. Different are its {', '.join(wrong)}: it has {_described(distilled)}; "
            f"wanted are {run.classes} classes, ipc {run.ipc}, images of {shape}, formation "
            f"{formation_of(run.config)}, {run.training.pixel_space.kind} pixels, from {run.training.source_name} as "
            "it is loaded here (`holdout`)."
        )
    return distilled


def _described(distilled: DistilledSet) -> str:
    card, shape = distilled.card, "×".join(map(str, distilled.images.shape[1:]))
    return (
        f"{len(card.class_names)} classes, ipc {card.ipc}, {len(distilled.images)} images of {shape}, "
        f"formation {card.formation}, {card.pixel_space.kind} pixels, from {card.source.name}"
        + (f" with {card.source.holdout:g} held out" if card.source.holdout else "")
    )
