"""The content address of a set, and the card it will have."""

from distill_bench.datasets.card import source_card
from distill_bench.datasets.dataset import Dataset
from distill_bench.distilled.budget import Budget
from distill_bench.distilled.card import Card
from distill_bench.errors import UsageError, whole_number
from distill_bench.methods.limits import check_budget
from distill_bench.methods.registry import Method
from distill_bench.methods.run import Config, version_of
from distill_bench.runtime.hashing import canonical_hash


def synthesis_key(data: Dataset, method: Method, config: Config, budget: Budget, preset: str, seed: int) -> str:
    """The content address of a set: everything its file depends on, and nothing else.

    That is the card the file will have, which holds the training split's fingerprint; whether a mirrored image keeps
    its label, which the card does not say; and which function makes it: a built-in one's version, the file of another.

    Raises:
        UsageError: the method cannot make a set of this budget, or no class has so many images.
    """
    check_budget(data, method.name, method.function, config, budget)
    return canonical_hash(
        {
            "card": card_of(data, method, config, budget, preset, seed).model_dump(mode="json"),
            "flip_invariant": data.flip_invariant,
            "synthesizer": method.recipe.function if method.code else method.function.__name__,
            "version": version_of(method.function),
            "code": method.code,
            **({"versions": config.versions} if config.versions else {}),
        }
    )


def card_of(data: Dataset, method: Method, config: Config, budget: Budget, preset: str, seed: int) -> Card:
    """The card of a set before it is made; what kind of labels it has, its method says in the end.

    Raises:
        UsageError: the seed is none that a card, and a result, can hold.
    """
    seed = whole_number(seed, "seed")
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"`seed={seed}`: give a whole number from 0 to 2⁶³ - 1.")
    return Card(
        method=method.name,
        paper=method.recipe.paper,
        source=source_card(data),
        class_names=data.class_names,
        ipc=max(budget.counts(data.class_sizes)),
        pixel_space=config.pixel_space_on(data),
        preset=preset,
        recipe=config.model_dump(mode="json"),
        protocol=method.recipe.protocol,
        seed=seed,
        fraction=budget.fraction,
    )
