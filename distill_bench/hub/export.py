"""Back into the forms that other repositories read. What they have no place for stays behind; tensors are exact."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from distill_bench.distilled_set import DistilledSet
from distill_bench.errors import UsageError, unknown
from distill_bench.render import render_pixels
from distill_bench.storage import write_atomically


def export(sets: Sequence[DistilledSet], form: str, out: Path) -> list[Path]:
    """Write sets in another repository's form and return the files.

    Args:
        form: one of ``EXPORTERS``. ``res``: one file of all sets; the others take one set and write into a folder.

    Raises:
        UsageError: unknown form, or a set that the form cannot hold.
        DataError: a file cannot be written.
    """
    if form not in EXPORTERS:
        raise UsageError(f"--to {form}: {unknown('form', form, EXPORTERS)}")
    if form != "res" and len(sets) != 1:
        raise UsageError(f"--to {form} takes one set; {len(sets)} were given. Only res files hold several.")
    return EXPORTERS[form](sets, out)


def to_res(sets: Sequence[DistilledSet], out: Path) -> list[Path]:
    """``{"data": [[images, labels], …], "accs_all_exps": {network: [fraction, …]}}``, as DC, DSA and DM write."""
    for item in sets:
        if item.card.pixel_space.kind != "normalized":
            raise UsageError(f"res files hold normalized images; this set is {item.card.pixel_space.kind}.")
        if item.soft_labels is not None or item.learning_rate is not None:
            raise UsageError("res files hold neither soft labels nor a learning rate; give --to datm or --to mtt.")
    origin = sets[0].card.origin
    accuracies = {} if origin is None else {name: list(values) for name, values in origin.stored_accuracies.items()}
    pairs = [[item.images.float(), item.labels] for item in sets]
    return [_save({"data": pairs, "accs_all_exps": accuracies}, out)]


def to_mtt(sets: Sequence[DistilledSet], out: Path) -> list[Path]:
    """``images_best.pt`` and ``labels_best.pt``, with ``lr_best.pt`` where there is a learned rate."""
    return _tensors(sets[0], out, sets[0].labels)


def to_datm(sets: Sequence[DistilledSet], out: Path) -> list[Path]:
    """The triple of ``images_best.pt``, ``labels_best.pt`` (logits) and ``lr_best.pt``, as DATM and DD-Ranking read."""
    if sets[0].card.label_kind != "logits":
        raise UsageError(f"DATM's labels are logits; this set's are {sets[0].card.label_kind}. Give --to mtt.")
    assert sets[0].soft_labels is not None
    return _tensors(sets[0], out, sets[0].soft_labels)


def to_folder(sets: Sequence[DistilledSet], out: Path) -> list[Path]:
    """PNG pictures, a folder a class: exact for 8-bit images, rounded and clipped for others."""
    made = sets[0]
    pixels = render_pixels(made)
    digits = len(str(len(made.card.class_names) - 1))
    files = []
    for index, (picture, label) in enumerate(zip(pixels, made.labels.tolist(), strict=True)):
        buffer = io.BytesIO()
        array = picture[0] if len(picture) == 1 else picture.permute(1, 2, 0)
        Image.fromarray(array.contiguous().numpy()).save(buffer, "PNG")
        files.append(out / f"{label:0{max(3, digits)}d}" / f"{index:06d}.png")
        write_atomically(files[-1], buffer.getvalue())
    return files


def _tensors(made: DistilledSet, out: Path, labels: torch.Tensor) -> list[Path]:
    images = made.images.float() if made.images.is_floating_point() else made.images
    files = [_save(images, out / "images_best.pt"), _save(labels, out / "labels_best.pt")]
    if made.learning_rate is not None:
        files.append(_save(torch.tensor(made.learning_rate), out / "lr_best.pt"))
    return files


def _save(content: Any, path: Path) -> Path:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())
    return path


EXPORTERS: dict[str, Callable[[Sequence[DistilledSet], Path], list[Path]]] = {
    "res": to_res,
    "mtt": to_mtt,
    "datm": to_datm,
    "folder": to_folder,
}
