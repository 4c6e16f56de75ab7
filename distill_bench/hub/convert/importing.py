"""Sets that others released, read into this project's format. Nothing in a file is run."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from distill_bench.datasets.dataset import Dataset
from distill_bench.datasets.pixel_space import PixelSpace, SpaceKind, Transform, pixel_space_of
from distill_bench.distilled.card import Origin
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.pixel_diagnostics import PixelDiagnosis, candidates, picture_doubts, table, training_labels
from distill_bench.errors import DataError, UsageError, brief, unknown
from distill_bench.hub.convert import checks
from distill_bench.hub.convert.file_names import Named, read_names
from distill_bench.hub.convert.format import OWN_OPTIONS, Format, all_formats
from distill_bench.hub.convert.identity import Identity, identify
from distill_bench.hub.convert.released_file import ImportedTensors, ImportOptions, ReleasedFile

_NOTHING_SAID = ImportOptions()


@dataclass(frozen=True)
class Imported:
    """What an import gives.

    Attributes:
        sets: the independent sets that the files hold.
        evidence: what their numbers look like in each pixel space; empty for pictures.
        real: how many of their images are training images, pixel for pixel; they were selected, not distilled.
        seen: what else the files say, or their format suggests, in words.
        picture_doubts: what speaks against 8-bit pictures, in words.
    """

    sets: list[DistilledSet]
    evidence: list[PixelDiagnosis] = field(repr=False)
    real: int
    seen: tuple[str, ...] = ()
    picture_doubts: tuple[str, ...] = ()

    @property
    def remarks(self) -> list[str]:
        """What the user should know: what was seen, assumptions, contradictions, real images."""
        first = self.sets[0]
        assert first.card.origin is not None
        space = first.card.pixel_space
        doubts = [doubt for item in self.evidence if item.space == space for doubt in item.doubts]
        lines = [*self.seen, *(f"assumed: {text}" for text in first.card.origin.assumptions)]
        lines += [f"warning: read as {space.kind}, but {doubt}" for doubt in doubts]
        if first.images.dtype == torch.uint8:
            lines.append(f"8-bit pictures; networks are shown them as {space.kind} pixels")
            lines += [f"warning: read as 8-bit pictures, but {doubt}" for doubt in self.picture_doubts]
        if self.real:
            count = sum(len(item.images) for item in self.sets)
            lines.append(f"{self.real} of {count} images are training images, pixel for pixel: selected, not distilled")
        return lines


def import_release(
    paths: Sequence[Path],
    dataset: Dataset,
    space: SpaceKind | PixelSpace | None = None,
    options: ImportOptions = _NOTHING_SAID,
    *,
    format: str | None = None,
    method: str | None = None,
    protocol: str | None = None,
    force: bool = False,
) -> Imported:
    """Read what somebody released. Nothing in a file is run.

    Args:
        paths: the files of one release: one that holds everything, or one each for images, labels and learning rate.
        dataset: the one that the sets were made for.
        space: the pixel space of the images. Needed if neither the format nor the numbers settle it. Of 8-bit
            pictures: the one that networks are shown them in, ``unit`` by default.
        options: what else the files do not say.
        format: the name of a format, instead of the one that recognises the content.
        method, protocol: for the card, instead of what file names or the format suggest.
        force: take a set although its name, its classes or the training images among it speak against the
            dataset.

    Returns:
        The sets, and what should be known of them.

    Raises:
        DataError: a file is missing, damaged, would run code, or does not fit the dataset.
        UsageError: something has to be said first: the question names the options.
    """
    files = [ReleasedFile(Path(path)) for path in paths]
    if not files:
        raise UsageError("name at least one file.")
    named = read_names(file.path.stem for file in files)
    doubts = checks.against_name(named, dataset, files)
    _refuse(doubts, files[0], force)
    chosen = _format_of(files, format)
    _check_options(chosen, options, files[0])
    items = _fitting(_read(chosen, files, dataset, options), dataset, options, files[0])
    everything, labels = (torch.cat(each) for each in zip(*((i.images, i.targets.labels) for i in items), strict=True))
    pixel_space, evidence = _space_of(everything, dataset, space or items[0].space, files[0])
    true = training_labels(_pixels(everything, pixel_space, dataset), dataset)
    real = sum(map(bool, true))
    doubts += _against(items, named, dataset, options) + checks.against_training(labels, true, dataset)
    _refuse(doubts, files[0], force)
    identity = identify(items[0], chosen, named, method, protocol, selected=real == len(true))
    origin = Origin(
        form=chosen.name,
        files={file.path.name: file.sha256 for file in files},
        sets=len(items),
        stored_accuracies=items[0].stored_accuracies,
        assumptions=(*identity.assumptions, *(f"taken with `force` although {text}" for text in doubts)),
    )
    sets = [
        _as_set(item, dataset, identity, pixel_space, options, origin.model_copy(update={"set_index": index}))
        for index, item in enumerate(items)
    ]
    return Imported(sets, evidence, real, (*identity.seen, *items[0].remarks), picture_doubts(everything, dataset))


def _as_set(
    item: ImportedTensors,
    dataset: Dataset,
    identity: Identity,
    space: PixelSpace,
    options: ImportOptions,
    origin: Origin,
) -> DistilledSet:
    targets = item.targets
    card: dict[str, Any] = {}
    if options.fraction is not None:
        checks.check_fraction(len(item.images), dataset, options.fraction)
        card["fraction"] = options.fraction
    if options.factor is not None:
        card["formation"] = options.factor
    return DistilledSet.from_tensors(
        item.images,
        targets.labels,
        dataset,
        method=identity.method,
        protocol=identity.protocol,
        pixel_space=space,
        soft_labels=targets.soft,
        label_kind=targets.kind,
        learning_rate=item.learning_rate if options.learning_rate is None else options.learning_rate,
        origin=origin,
        **card,
    )


def _format_of(files: Sequence[ReleasedFile], format: str | None) -> Format:
    recognised = [each for each in all_formats().values() if each.recognises(files)]
    likely = min(recognised, key=lambda each: each.general, default=None)
    hold = "; ".join(f"{file.path} holds {_outline(file.content)}" for file in files)
    if format is not None:
        if format not in all_formats():
            raise UsageError(f"`form={format}`: {unknown('format', format, all_formats())}")
        if not all_formats()[format].accepts(files):
            hint = f"It can be read as {likely.name}: leave `form` out." if likely else "Leave `form` out to see why."
            raise UsageError(f"`form={format}`: {hold}. That is not this format. {hint}")
        return all_formats()[format]
    if likely:
        return likely
    raise DataError(
        f"{hold}. That is no released format this project knows. A set is images [n, channels, height, width] with "
        "labels: a res_*.pt file; files of images, labels and learning rate; an .npz file; or a folder of pictures a "
        "class."
    )


def _check_options(chosen: Format, options: ImportOptions, file: ReleasedFile) -> None:
    """Raises UsageError for an option that says nothing about files of this format."""
    for name in OWN_OPTIONS:
        if name not in chosen.takes and (value := getattr(options, name)) is not None:
            taken = " and ".join(f"`{each}`" for each in chosen.takes)
            raise UsageError(
                f"`{name}={value}`: {file.path} is read in the form {chosen.name}, which says this itself or has "
                f"nothing of the kind{f'; it takes {taken}' if taken else ''}. Leave it out."
            )


def _read(
    chosen: Format, files: Sequence[ReleasedFile], dataset: Dataset, options: ImportOptions
) -> list[ImportedTensors]:
    try:
        return chosen.read(files, dataset, options)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as error:
        raise DataError(f"{files[0].path}: does not have the format {chosen.name} ({brief(error)}).") from error


def _fitting(
    items: Sequence[ImportedTensors], dataset: Dataset, options: ImportOptions, file: ReleasedFile
) -> list[ImportedTensors]:
    """The sets with pixels and labels as the dataset has them."""
    where, fitting = str(file.path), []
    for item in items:
        images = checks.read_pixels(item, dataset, options, where)
        targets, remarks = checks.in_dataset_order(item.targets, file, dataset, options)
        remarks = (*item.remarks, *targets.remarks, *remarks)
        if targets.learned:
            remarks = (*remarks, *checks.without_image(targets, dataset))
        fitting.append(replace(item, images=images, targets=targets, remarks=remarks))
    if not any(len(item.images) for item in fitting):
        raise DataError(f"{where}: holds no image.")
    if len({item.images.dtype for item in fitting}) > 1:
        raise DataError(f"{where}: some of its sets are 8-bit pictures, others floats. All must be of one kind.")
    return fitting


def _against(items: Sequence[ImportedTensors], named: Named, dataset: Dataset, options: ImportOptions) -> list[str]:
    """What the classes and the pixels say against the dataset and the file's name, each once."""
    said = dict[str, None]()
    for item in items:
        empty = [] if item.targets.learned else checks.without_image(item.targets, dataset)
        said |= dict.fromkeys(
            (*empty, *checks.against_ipc(item.targets, named, dataset), *checks.against_whole(item, options))
        )
    return list(said)


def _refuse(doubts: Sequence[str], file: ReleasedFile, force: bool) -> None:
    if doubts and not force:
        raise DataError(
            f"{file.path}: {'; '.join(doubts)}. Name the dataset that it was made for (`dataset`), or take it all the "
            "same with `force`."
        )


def _space_of(
    images: Tensor, dataset: Dataset, said: SpaceKind | PixelSpace | None, file: ReleasedFile
) -> tuple[PixelSpace, list[PixelDiagnosis]]:
    """The pixel space of the images, and what they look like in each; 8-bit pictures need no evidence."""
    declared = pixel_space_of(dataset, said) if isinstance(said, str) else said
    if images.dtype == torch.uint8:
        return declared or pixel_space_of(dataset, "unit"), []  # seen as pictures: ``picture_doubts``
    checks.check_range(images, declared.kind if declared else None, str(file.path))
    evidence = candidates(images, dataset, declared)
    settled = declared or next((item.space for item in evidence if item.settled), None)
    return settled or _ask(file, evidence), evidence


def _ask(file: ReleasedFile, evidence: Sequence[PixelDiagnosis]) -> NoReturn:
    raise UsageError(
        f"{file.path} does not say what its pixel values mean. Undone under each hypothesis they look like this "
        "(contrast and roughness relative to real images):",
        "",
        *table(evidence),
        "",
        "Say which it is: "
        "`space=normalized` ((x − mean) / std, as DC, DSA, DM), `space=zca` (whitened, as MTT and DATM on CIFAR; "
        "`zca_eps` and `zca_input` as its authors had them), or `space=unit` (0 … 1). A wrong answer gives wrong "
        "accuracies without any error; render the imported set and look.",
    )


def _pixels(images: Tensor, space: PixelSpace, dataset: Dataset) -> Tensor:
    if images.dtype == torch.uint8:
        return images
    return (Transform(space, dataset.train).decode(images) * 255).round().clamp(0, 255).to(torch.uint8)


def _outline(content: object, depth: int = 2) -> str:
    if isinstance(content, Tensor):
        return f"a tensor of shape {tuple(content.shape)} ({str(content.dtype).removeprefix('torch.')})"
    if isinstance(content, dict) and depth:
        return "a dictionary of " + (
            ", ".join(f"{k}: {_outline(v, depth - 1)}" for k, v in [*content.items()][:4]) or "nothing"
        )
    if isinstance(content, (list, tuple)) and depth:
        return f"a list of {len(content)}: " + ", ".join(_outline(v, depth - 1) for v in content[:3])
    return f"a {type(content).__name__}"
