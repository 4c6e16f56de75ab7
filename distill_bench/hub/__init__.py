"""Distilled sets that others released: into this project's format, and back into theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from distill_bench.distilled_set import DistilledSet, Origin
from distill_bench.errors import DataError, UsageError, brief, unknown
from distill_bench.hub import arrays, datadam, datm, dcbench, image_folder, mtt, res_file
from distill_bench.hub.export import EXPORTERS, export
from distill_bench.hub.released import LABELS, LAYOUTS, Foreign, Options, Released
from distill_bench.hub.unpickle import load_pickled
from distill_bench.pixel_evidence import Evidence, hypotheses, table, training_images_among
from distill_bench.pixel_space import PixelSpace, SpaceKind, Transform, pixel_space_of
from distill_bench.sources.source import Source

IMPORTERS: dict[str, ModuleType] = {
    module.NAME: module for module in (image_folder, res_file, datadam, datm, dcbench, mtt, arrays)
}
NOTHING_SAID = Options()
SELECTED_PROTOCOL = "dsa-v1"


@dataclass(frozen=True)
class Imported:
    """What an import gives.

    Attributes:
        sets: the independent sets that the files hold.
        evidence: what their numbers look like in each pixel space; empty for pictures.
        real: how many of their images are training images, pixel for pixel; they were selected, not distilled.
    """

    sets: list[DistilledSet]
    evidence: list[Evidence]
    real: int

    @property
    def remarks(self) -> list[str]:
        """What the user should know: assumptions, contradictions, real images."""
        made = self.sets[0]
        assert made.card.origin is not None
        kind = made.card.pixel_space.kind
        doubts = [doubt for item in self.evidence if item.space.kind == kind for doubt in item.doubts]
        found = [f"assumed: {text}" for text in made.card.origin.assumptions]
        found += [f"warning: read as {kind}, but {doubt}" for doubt in doubts]
        if self.real:
            count = sum(len(item.images) for item in self.sets)
            found.append(f"{self.real} of {count} images are training images, pixel for pixel: selected, not distilled")
        return found


def import_release(
    paths: Sequence[Path],
    source: Source,
    space: SpaceKind | PixelSpace | None = None,
    options: Options = NOTHING_SAID,
    *,
    form: str | None = None,
    method: str | None = None,
    protocol: str | None = None,
) -> Imported:
    """Read what somebody released for a source. Nothing in a file is run.

    Args:
        paths: the files of one release: one that holds everything, or one each for images, labels and learning rate.
        space: the pixel space of the images. Needed where neither the form nor the numbers settle it.
        options: what else the files do not say.
        form: the importer, one of ``IMPORTERS``, instead of the one that recognises the content.
        method, protocol: for the card, instead of the importer's.

    Raises:
        DataError: a file is missing, damaged, would run code, or does not fit the source.
        UsageError: something has to be said first: the question names the options.
    """
    files = [Foreign(Path(path)) for path in paths]
    if not files:
        raise UsageError("name at least one file.")
    released = _read(files, source, options, form)
    for item in released:
        _check_fits(item, source, files[0])
    everything = torch.cat([item.images for item in released])
    if not len(everything):
        raise DataError(f"{files[0].path}: holds no image.")
    evidence = hypotheses(everything, source) if everything.is_floating_point() else []
    settled = space or released[0].space or _eight_bit(evidence) or _ask(files[0], evidence)
    pixel_space = settled if isinstance(settled, PixelSpace) else pixel_space_of(source, settled)
    real = training_images_among(_pixels(everything, pixel_space, source), source)
    selected = "selection" if real == len(everything) else None
    sets = [
        DistilledSet.from_tensors(
            item.images,
            item.labels,
            source,
            method=method or selected or item.method,
            protocol=protocol or (SELECTED_PROTOCOL if selected else item.protocol),
            pixel_space=pixel_space,
            soft_labels=item.soft_labels,
            label_kind=item.label_kind,
            learning_rate=item.learning_rate,
            origin=Origin(
                form=_importer(files, form).NAME,
                files={file.path.name: file.sha256 for file in files},
                set_index=index,
                sets=len(released),
                stored_accuracies=item.stored_accuracies,
                assumptions=item.assumptions,
            ),
        )
        for index, item in enumerate(released)
    ]
    return Imported(sets, evidence, real)


def _importer(files: Sequence[Foreign], form: str | None) -> ModuleType:
    if form is not None:
        if form not in IMPORTERS:
            raise UsageError(f"--form {form}: {unknown('form', form, IMPORTERS)}")
        return IMPORTERS[form]
    for importer in IMPORTERS.values():
        if importer.recognises(files):
            return importer
    raise DataError(
        "; ".join(f"{file.path} holds {_outline(file.content)}" for file in files)
        + ". That is no released form this project knows. A set is images [n, channels, height, width] with labels: "
        "a res_*.pt file; files of images, labels and learning rate; an .npz file; or a folder of pictures a class."
    )


def _read(files: Sequence[Foreign], source: Source, options: Options, form: str | None) -> list[Released]:
    importer = _importer(files, form)
    try:
        if importer is image_folder:
            return image_folder.read_folder(files, source.class_names)
        found: list[Released] = importer.read(files, len(source.class_names), options)
        return found
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        raise DataError(f"{files[0].path}: does not have the form {importer.NAME} ({brief(error)}).") from error


def _check_fits(item: Released, source: Source, file: Foreign) -> None:
    shape, expected = tuple(item.images.shape[1:]), source.train.shape
    if shape == expected:
        return
    hint = " Its channels come last: add --layout nhwc." if (shape[2:] + shape[:2]) == expected else ""
    raise DataError(
        f"{file.path}: images of {shape}, but {source.name} has {expected} (channels, height, width).{hint}"
    )


def _eight_bit(evidence: Sequence[Evidence]) -> SpaceKind | None:
    """The space in which every pixel is a whole 255th: nothing but images that were never optimised is so."""
    return next((item.space.kind for item in evidence if item.eight_bit > 0.999 and item.inside > 0.999), None)


def _ask(file: Foreign, evidence: Sequence[Evidence]) -> SpaceKind:
    raise UsageError(
        f"{file.path} does not say what its pixel values mean. Undone under each hypothesis they look like this "
        "(contrast and roughness relative to real images):",
        "",
        *table(evidence).splitlines(),
        "",
        "Say which it is: "
        "--space normalized ((x − mean) / std, as DC, DSA, DM), --space zca (whitened, as MTT and DATM on CIFAR; "
        "--zca-eps and --zca-input as its authors had them), or --space unit (0 … 1). A wrong answer gives wrong "
        "accuracies without any error; render the imported set and look.",
    )


def _pixels(images: Tensor, space: PixelSpace, source: Source) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    return (Transform(space, source.train).decode(images) * 255).round().clamp(0, 255).to(torch.uint8)


def _outline(content: object, depth: int = 2) -> str:
    if isinstance(content, Tensor):
        return f"a tensor of shape {tuple(content.shape)}"
    if isinstance(content, dict) and depth:
        return "a dictionary of " + (
            ", ".join(f"{k}: {_outline(v, depth - 1)}" for k, v in [*content.items()][:4]) or "nothing"
        )
    if isinstance(content, (list, tuple)) and depth:
        return f"a list of {len(content)}: " + ", ".join(_outline(v, depth - 1) for v in content[:3])
    return f"a {type(content).__name__}"


__all__ = [
    "EXPORTERS",
    "IMPORTERS",
    "LABELS",
    "LAYOUTS",
    "Imported",
    "Options",
    "export",
    "import_release",
    "load_pickled",
]
