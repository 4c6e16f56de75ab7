"""Which form of `distill-bench export` holds which kind of set: the table of docs/published.md.

tests/hub/test_export_forms.py exports, imports and evaluates every pair, and compares the page with this table.

python scripts/forms_table.py            # writes the table between its marks on the page
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from distill_bench import Dataset, DistilledSet, UsageError, load_dataset
from distill_bench.augmentations import views
from distill_bench.datasets.pixel_space import PixelSpace, Transform, pixel_space_of
from distill_bench.distilled.card import TARGETS
from distill_bench.distilled.projector import ProjectorCard
from distill_bench.distilled.recorded_labels import RecordedKind, RecordedLabels
from distill_bench.hub import writable_formats
from distill_bench.hub.convert.exporting import losses_in
from distill_bench.networks import build_network
from distill_bench.runtime.seeds import generator

PAGE = Path(__file__).parent.parent / "docs" / "published.md"
MARKS = "<!-- forms -->\n", "<!-- /forms -->\n"
CLASSES, IPC = 10, 2
LABELS = torch.arange(CLASSES).repeat_interleave(IPC)


def smooth(count: int = CLASSES * IPC) -> Tensor:
    """Images [n, 1, 8, 8] that are no training images."""
    noise = torch.randn(count, 1, 4, 4, generator=generator("forms", "images"))
    return F.interpolate(noise, size=8, mode="bilinear", align_corners=False)


def pixels() -> Tensor:
    return (smooth() * 60 + 128).clamp(0, 255).to(torch.uint8)


def soft(labels: Tensor = LABELS) -> Tensor:
    """Logits whose largest is the label's."""
    noise = torch.randn(len(labels), CLASSES, generator=generator("forms", "labels"))
    return noise + 8 * F.one_hot(labels, CLASSES)


def one_confused() -> Tensor:
    """Logits of which the first image's are most like class 3."""
    logits = soft()
    logits[0, 3] = 20
    return logits


def made(digits: Dataset, images: Tensor | None = None, labels: Tensor = LABELS, **more) -> DistilledSet:
    return DistilledSet.from_tensors(smooth(len(labels)) if images is None else images, labels, digits, **more)


def with_stored(digits: Dataset, kind: str, stored: dict[str, Tensor], **card) -> DistilledSet:
    plain = made(digits)
    fields = {"label_kind": kind, "temperature": 4.0, **card}
    return DistilledSet(plain.images, plain.labels, plain.card.model_copy(update=fields), stored=stored)


def taught(digits: Dataset) -> DistilledSet:
    network = build_network("ConvNetD1W4", digits.train.shape, CLASSES, generator("forms", "teacher"))
    stored = {f"teacher.{name}": tensor for name, tensor in network.state_dict().items()}
    return with_stored(digits, "teacher", stored, teacher="ConvNetD1W4")


def projected(digits: Dataset) -> DistilledSet:
    """A stored encoder with increments of rank 1, of nobody."""
    network = build_network("ConvNetD1W4", digits.train.shape, CLASSES, generator("forms", "encoder"))
    width = network.classifier.in_features
    shapes = {"features.0.a": (4, 1), "features.0.b": (1, 9), "head.a": (CLASSES, 1), "head.b": (1, width)}
    draws = generator("forms", "increments")
    stored = {f"projector.encoder.{name}": tensor for name, tensor in network.state_dict().items()}
    stored |= {f"projector.{name}": torch.randn(shape, generator=draws).half() for name, shape in shapes.items()}
    stored["projector.prototypes"] = torch.randn(CLASSES, width, generator=draws)
    stored["projector.scale"] = torch.tensor(20.0)
    return with_stored(digits, "projector", stored, projector=ProjectorCard(encoder="ConvNetD1W4"))


def recorded(digits: Dataset, top: int = 0, kind: RecordedKind = "recorded") -> DistilledSet:
    """Three epochs of views mixed by CutMix, with logits or distances of nobody."""
    recording, draws = RecordedLabels.empty(3, len(LABELS), CLASSES, top, kind=kind), generator("forms", "views")
    rule = views.AugmentPolicy(crop="resized", scale=(0.5, 1.0), mix="cutmix")
    for epoch in range(3):
        for indices in torch.randperm(len(LABELS), generator=draws).split(8):
            drawn = views.sample(rule, len(indices), digits.train.shape, False, draws)
            numbers = torch.randn(len(indices), CLASSES, generator=draws)
            recording.write(epoch, indices, drawn, numbers if kind == "recorded" else numbers[:, :2].abs())
    return with_stored(digits, kind, recording.to_store())


def targeted(digits: Dataset) -> DistilledSet:
    """Features of nobody, to pre-train a network by."""
    targets = torch.randn(len(LABELS), 3, generator=generator("forms", "targets"))
    return with_stored(digits, "targets", {TARGETS: targets}, temperature=1.0)


def selected(digits: Dataset) -> DistilledSet:
    space, own = pixel_space_of(digits, "normalized"), torch.cat([own[:IPC] for own in digits.train.class_indices])
    return made(digits, Transform(space, None).encode(digits.train.images(own)))


def other_constants(digits: Dataset) -> DistilledSet:
    return made(digits, pixel_space=PixelSpace(kind="normalized", mean=(0.5,), std=(0.25,)))


KINDS: dict[str, Callable[[Dataset], DistilledSet]] = {
    "normalized pixels, hard labels": made,
    "… as float16": lambda digits: made(digits, smooth().half()),
    "… with other constants than the dataset's": other_constants,
    "… of real images": selected,
    "pixels in 0 … 1": lambda digits: made(digits, smooth() / 6 + 0.5, pixel_space="unit"),
    "whitened pixels": lambda digits: made(digits, pixel_space="zca"),
    "whitened pixels, normalized before": lambda digits: made(
        digits, pixel_space=pixel_space_of(digits, "zca", 0.2, "normalized")
    ),
    "8-bit pixels, used normalized": lambda digits: made(digits, pixels()),
    "8-bit pixels, used in 0 … 1": lambda digits: made(digits, pixels(), pixel_space="unit"),
    "8-bit pixels, used whitened": lambda digits: made(digits, pixels(), pixel_space="zca"),
    "a learned rate": lambda digits: made(digits, learning_rate=0.0123456789),
    "soft labels, logits": lambda digits: made(digits, soft_labels=soft()),
    "… as float64, one largest another class's": lambda digits: made(digits, soft_labels=one_confused().double()),
    "… of images out of class order": lambda digits: made(
        digits, labels=LABELS.flip(0), soft_labels=soft(LABELS.flip(0))
    ),
    "… of other classes than the hard labels": lambda digits: made(digits, soft_labels=soft(LABELS.flip(0))),
    "… with a temperature": lambda digits: made(digits, soft_labels=soft(), temperature=20.0),
    "… and a learned rate": lambda digits: made(digits, soft_labels=soft(), learning_rate=0.0123456789),
    "soft labels, probabilities": lambda digits: made(
        digits, soft_labels=soft().softmax(dim=1), label_kind="probabilities"
    ),
    "soft labels, weights": lambda digits: made(digits, soft_labels=2 * soft().softmax(dim=1), label_kind="weights"),
    "a stored teacher": taught,
    "a stored projector": projected,
    "recorded labels": recorded,
    "recorded distances": lambda digits: recorded(digits, kind="distances"),
    "targets": targeted,
    "images out of class order": lambda digits: made(digits, pixels(), LABELS.flip(0)),
    "classes of unlike size": lambda digits: made(digits, pixels()[:12], torch.tensor([0, 0, 0, *range(1, 10)])),
    "a class without an image": lambda digits: made(digits, pixels()[:18], LABELS[:18]),
    "images that hold 2×2 smaller ones": lambda digits: made(digits, formation=2),
    "a holdout": lambda digits: made(digits.with_holdout(0.25), pixels()),
}
"""By what is special about them, beside being two images a class of digits with normalized pixels and hard labels."""


def held(one: DistilledSet, form: str) -> str:
    """A cell: what would be lost, in few words, or yes."""
    try:
        lost = losses_in(one, writable_formats()[form], None)
    except UsageError as error:
        lost = [str(error).removeprefix(f"`to={form}`: ")]
    return "yes" if not lost else "no: " + "; ".join(re.split(r"[,:(]", text)[0].strip() for text in lost)


def table(digits: Dataset) -> str:
    """A column for the forms that hold the same."""
    sets = {kind: make(digits) for kind, make in KINDS.items()}
    columns = dict[tuple[str, ...], list[str]]()
    for form in writable_formats():
        columns.setdefault(tuple(held(one, form) for one in sets.values()), []).append(f"`{form}`")
    rows = [["a set with", *map(", ".join, columns.values())], [":--"] * (len(columns) + 1)]
    rows += [[kind, *cells] for kind, *cells in zip(sets, *columns, strict=True)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def on_page() -> str:
    """The table as the page has it."""
    return PAGE.read_text(encoding="utf-8").split(MARKS[0])[1].split(MARKS[1])[0]


def main() -> None:
    before, after = (
        PAGE.read_text(encoding="utf-8").split(mark)[part] for mark, part in zip(MARKS, (0, 1), strict=True)
    )
    PAGE.write_text(before + MARKS[0] + table(load_dataset("digits")) + MARKS[1] + after, encoding="utf-8")


if __name__ == "__main__":
    main()
