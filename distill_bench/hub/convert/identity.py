"""Which method an imported set is of, and its paper's protocol: as told, by the files' names, or by their form."""

from dataclasses import dataclass

from distill_bench.hub.convert.file_names import Named
from distill_bench.hub.convert.format import Format
from distill_bench.hub.convert.loose_tensors import ASSUMED_RATE
from distill_bench.hub.convert.released_file import ImportedTensors
from distill_bench.methods.recipe import Recipe, list_recipes, load_recipe

SELECTED, SELECTED_PROTOCOL = "selection", "dsa-v1"
_RATE_LEARNERS = ":trajectory_matching"
"""How the functions of the methods end that learn a rate with the images."""


@dataclass(frozen=True)
class Identity:
    """A set's method and protocol.

    Attributes:
        assumptions: what was taken for granted about them and about the set, for its card.
        seen: what names say, and what the format suggests, in words.
    """

    method: str
    protocol: str
    assumptions: tuple[str, ...]
    seen: tuple[str, ...]


def identify(
    item: ImportedTensors, format: Format, named: Named, method: str | None, protocol: str | None, selected: bool
) -> Identity:
    """The identity of a set.

    Args:
        item: the set as its format reads it.
        format: its format.
        named: what file names say.
        method, protocol: as the user says; None if not said.
        selected: whether all images are training images.

    Returns:
        Method and protocol, with what was assumed.
    """
    known = method or (SELECTED if selected else named.method)
    recipe = _recipe(known)
    guessed = [] if known else [f"method {item.method}"]
    usual = SELECTED_PROTOCOL if selected else recipe.protocol if recipe else item.protocol
    if not (protocol or selected or recipe):
        guessed.append(f"protocol {usual}")
    of = f"that of {known} is not known here" if known else f"by the form {format.name}, no file name says it"
    guess = f"{' and '.join(guessed)}: {of} (`method`, `protocol`)"
    taken = known or item.method
    settled = _recipe(taken)
    learns = settled is not None and settled.function.endswith(_RATE_LEARNERS)
    assumptions = [text for text in item.assumptions if text != ASSUMED_RATE or learns]
    seen = [f"by the file name: {named.words}"] if named.words else []
    if guessed and format.of_many_methods:
        assumptions.append(guess)
    elif guessed:
        seen.append(f"assumed: {guess}")
    return Identity(taken, protocol or usual, tuple(assumptions), tuple(seen))


def _recipe(method: str | None) -> Recipe | None:
    """The method's recipe: that of its released code, which released sets are of, where the paper's is another."""
    names = [name for name in (f"{method}-released", method) if name in list_recipes()]
    return load_recipe(str(names[0])) if names else None
