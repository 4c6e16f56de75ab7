"""The random images that stand beside a set: as many, in its pixel space, with labels of its kind."""

from typing import Any, Literal

from distill_bench.datasets import Dataset
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.recorded_labels import RECORDED_KINDS
from distill_bench.errors import UsageError
from distill_bench.methods import load_method, synthesize
from distill_bench.methods.recipe import PAPER
from distill_bench.runtime.progress import SILENT, Monitor

_SOFT = "random-soft"
_KINDS = {"logits": "soft", "probabilities": "soft", "weights": "soft"}
"""What ``random-soft`` calls labels that a card names otherwise."""


def random_beside(
    distilled: DistilledSet,
    dataset: Dataset,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    monitor: Monitor = SILENT,
) -> DistilledSet:
    """Random images of the training split with the set's seed (0 where its card has none).

    Where its labels are classes, or ``labels`` is ``"hard"``, it is the method ``random``. Else ``random-soft`` with
    the set's kind of label, its temperature and the teacher's weight: by the teacher on its card, which is found again
    where it was trained here, or by that of ``random-soft``'s own recipe where the card names none, as for learned
    labels. Of images that hold smaller ones, those of ``random`` do too.

    Args:
        distilled: the set.
        dataset: whose training split it was made from.
        labels: which of the set's labels are meant.
        device, monitor: as for ``synthesize``.

    Returns:
        The set.

    Raises:
        UsageError, RunFailed, Interrupted: as ``synthesize``; or there are no such random images.
    """
    card, space, budget = distilled.card, distilled.card.pixel_space, distilled.card.budget
    options: dict[str, Any] = {"seed": card.seed or 0, "device": device, "monitor": monitor, "pixel_space": space.kind}
    if space.kind == "zca":
        options |= {"zca_eps": space.eps, "zca_input": space.zca_input}
    options |= {"ipc": budget.ipc, "fraction": budget.fraction}
    if labels == "hard" or card.trained_kind == "hard":
        options |= {"formation": card.formation} if card.formation > 1 else {}
        return synthesize(dataset, "random", **options)
    if card.formation > 1:
        raise UsageError(
            f"every image of the set holds {card.formation}×{card.formation} smaller ones, and no method makes random "
            "images that do, with labels of its kind: give some, `random=FILE`; ars takes classes too, `labels=hard`."
        )
    if card.label_kind == "targets":
        encoder = card.recipe.get("encoder")
        return synthesize(dataset, "random-targets", **options, **({"encoder": encoder} if encoder else {}))
    kind, presets = _KINDS.get(card.label_kind, card.label_kind), load_method(_SOFT).recipe.presets
    named = ("teacher", *(["record"] if kind in RECORDED_KINDS else []), *(["projector"] if card.projector else []))
    options |= {name: card.recipe[name] for name in named if isinstance(card.recipe.get(name), dict)}
    if further := card.recipe.get("further_teachers"):
        options["further_teachers"] = further
    preset = card.preset if card.preset in presets else PAPER
    options |= {"alpha": card.alpha} if card.alpha < 1 else {}
    options |= {"distance_weight": card.distance_weight} if kind == "distances" else {}
    return synthesize(dataset, _SOFT, preset=preset, labels=kind, temperature=card.temperature, **options)
