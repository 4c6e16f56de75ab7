"""Back into the forms that other repositories read. What a form cannot hold is refused; what is written reads back."""

import contextlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from distill_bench.datasets import Dataset
from distill_bench.datasets.imagenet import folder_names
from distill_bench.datasets.pixel_space import PixelSpace, Transform
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.distilled.playback import training_images, transform_of
from distill_bench.distilled.render import render_pixels
from distill_bench.errors import UsageError, unknown
from distill_bench.hub.formats.image_folder import CLASSES
from distill_bench.hub.formats.losses import losses, usual_statistics
from distill_bench.hub.formats.released import TORCH_SUFFIXES
from distill_bench.runtime.files import check_ending, write_atomically
from distill_bench.runtime.names import checked_file_name

EXPORTERS = ("res", "mtt", "datm", "folder")


def export(
    sets: Sequence[DistilledSet], form: str, out: Path, *, lossy: bool = False, dataset: Dataset | None = None
) -> list[Path]:
    """Write sets in another repository's form and return the files.

    Args:
        form: one of ``EXPORTERS``. ``res``: one file of all sets; the others take one set and write into a folder of
            its own, new or empty.
        lossy: write also what a form cannot hold whole; ``losses`` says what is lost.
        dataset: the sets'; needed for 8-bit images and pictures of whitened sets, and loaded by the name on their card
            unless given.

    Raises:
        UsageError: unknown form, a set that the form cannot hold, or a place that holds something else.
        DataError: a file cannot be written; what was written of a folder is removed again.
    """
    _check_request(sets, form)
    for made in sets:
        lost = losses(made, form, dataset)
        if lost and not lossy:
            raise _refusal(made, form, lost)
    if form == "res":
        check_ending(out, *TORCH_SUFFIXES)
        return _write(out.parent, [(out.name, _saved(_res_content(sets, dataset)))])
    _check_folder(out, form)
    return _write(out, _pictures(sets[0], dataset) if form == "folder" else _tensors(sets[0], form, dataset))


def _check_request(sets: Sequence[DistilledSet], form: str) -> None:
    if not sets:
        raise UsageError("name at least one set.")
    if form not in EXPORTERS:
        raise UsageError(f"--to {form}: {unknown('form', form, EXPORTERS)}")
    if form == "res":
        facts = {
            (made.card.class_names, made.images.shape[1:], made.card.pixel_space, made.card.method, made.card.protocol)
            for made in sets
        }
        if len(facts) > 1:
            raise UsageError(
                "--to res: the sets differ in classes, image size, pixel space, method or protocol; a res file is of "
                "one of each. Export them apart."
            )
    elif len(sets) != 1:
        raise UsageError(f"--to {form} takes one set; {len(sets)} were given. Only res files hold several.")


def _check_folder(out: Path, form: str) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; --to {form} writes into a folder. Give the name of a new one.")
    if there := sorted(path.name for path in out.iterdir()) if out.exists() else []:
        raise UsageError(
            f"--out {out} holds {', '.join(there[:3])}{' …' if there[3:] else ''}, which would be taken for a part of "
            "the set. Give a new folder or an empty one."
        )


def _refusal(made: DistilledSet, form: str, lost: Sequence[str]) -> UsageError:
    return UsageError(
        f"--to {form} would lose {'; '.join(lost)}.{_holding(made, form)} Keep the .safetensors file, which has "
        "everything, or add --lossy to write it without."
    )


def _holding(made: DistilledSet, form: str) -> str:
    others = [other for other in ("res", "mtt", "datm") if other != form and not _loses(made, other)]
    return f" {' and '.join(f'--to {other}' for other in others)} would lose nothing." if others else ""


def _loses(made: DistilledSet, form: str) -> bool:
    try:
        return bool(losses(made, form))
    except UsageError:
        return True


def _res_content(sets: Sequence[DistilledSet], dataset: Dataset | None) -> dict[str, Any]:
    """``{"data": [[images, labels], …], "accs_all_exps": {network: [fraction, …]}}``, as DC, DSA and DM write."""
    pairs = [[_normalized(made, dataset), made.labels] for made in sets]
    return {"data": pairs, "accs_all_exps": {name: list(values) for name, values in stored_accuracies(sets).items()}}


def stored_accuracies(sets: Sequence[DistilledSet]) -> dict[str, tuple[float, ...]]:
    """The accuracies that a release stores of its sets together, where these are all of them; else nothing."""
    origins = [made.card.origin for made in sets]
    first = origins[0]
    whole = [(origin.set_index, origin.sets, origin.stored_accuracies) for origin in origins if origin is not None]
    if first is None or whole != [(index, len(sets), first.stored_accuracies) for index in range(len(sets))]:
        return {}
    return first.stored_accuracies


def _normalized(made: DistilledSet, dataset: Dataset | None) -> Tensor:
    """The images in the space that res files are in."""
    space, usual = made.card.pixel_space, usual_statistics(made)
    if space.kind == "normalized" and usual in (None, (space.mean, space.std)):
        return training_images(made, dataset)
    mean, std = usual or (space.mean, space.std)
    wanted = PixelSpace(kind="normalized", mean=mean, std=std)
    if made.images.dtype == torch.uint8:
        return Transform(wanted, None).encode(made.images)
    pixels = transform_of(made, dataset).decode(made.images)
    return (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def _tensors(made: DistilledSet, form: str, dataset: Dataset | None) -> Iterator[tuple[str, bytes]]:
    """``images_best.pt`` and ``labels_best.pt`` (of DATM logits), with ``lr_best.pt`` where there is a learned rate."""
    labels = made.labels
    if form == "datm":
        assert made.soft_labels is not None
        labels = made.soft_labels.float() / made.card.temperature
    yield "images_best.pt", _saved(training_images(made, dataset))
    yield "labels_best.pt", _saved(labels)
    if made.learning_rate is not None:
        rate = torch.tensor(made.learning_rate)
        exact = float(rate) == made.learning_rate
        yield "lr_best.pt", _saved(rate if exact else torch.tensor(made.learning_rate, dtype=torch.float64))


def _pictures(made: DistilledSet, dataset: Dataset | None) -> Iterator[tuple[str, bytes]]:
    """PNG pictures, a folder a class, and the classes' names: exact for 8-bit pixels, others rounded and clipped."""
    folders, names = class_folder_names(made), made.card.class_names
    about = [{"label": label, "folder": folders[label], "name": name} for label, name in enumerate(names)]
    yield CLASSES, (json.dumps(about, indent=1, ensure_ascii=False) + "\n").encode()
    digits = max(6, len(str(len(made.labels) - 1)))
    pixels = render_pixels(made, dataset)
    for index, (picture, label) in enumerate(zip(pixels, made.labels.tolist(), strict=True)):
        buffer = io.BytesIO()
        array = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
        Image.fromarray(array.contiguous().numpy()).save(buffer, "PNG")
        yield f"{folders[label]}/{index:0{digits}d}.png", buffer.getvalue()


def class_folder_names(made: DistilledSet) -> list[str]:
    """A folder's name for every class, in label order, such that readers of sorted folders number them as they should.

    Of ImageNet's subsets the WordNet ids, as the real images lie in. Else the classes' names where they are in sorted
    order and can be names of folders, and numbers where not.
    """
    names = list(made.card.class_names)
    real = folder_names(made.card.source.name, names)
    if real != names:
        return real
    distinct = {CLASSES, *(name.casefold() for name in names)}  # many file systems do not tell A from a
    if names == sorted(names) and len(distinct) == len(names) + 1 and _are_file_names(names):
        return names
    digits = max(3, len(str(len(names) - 1)))
    return [f"{label:0{digits}d}" for label in range(len(names))]


def _are_file_names(names: Iterable[str]) -> bool:
    try:
        return all(checked_file_name(name) for name in names)
    except ValueError:
        return False


def _write(folder: Path, contents: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write files by their path in a folder; all of them or none."""
    files, folders = list[Path](), dict[Path, None]()
    try:
        for name, content in contents:
            if not (folder / name).parent.exists():
                folders |= dict.fromkeys(reversed(_missing((folder / name).parent)))
            write_atomically(folder / name, content)
            files.append(folder / name)
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        for made in reversed(folders):  # those that were there stay, and so does one that holds something else
            with contextlib.suppress(OSError):
                made.rmdir()
        raise
    return files


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the innermost first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()
