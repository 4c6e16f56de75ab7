"""Sets written in other people's formats. What a format cannot hold is refused; what is written reads back."""

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from distill_bench.datasets import Dataset
from distill_bench.datasets.card import data_options
from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.distilled.compensators import refuse_compensators
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import UsageError
from distill_bench.hub.convert.format import WritableFormat, writable_format, writable_formats
from distill_bench.hub.convert.writing import absent_classes, as_numbers, usual_statistics
from distill_bench.runtime.files import check_ending, write_atomically
from distill_bench.runtime.text import listed


def export(
    sets: Sequence[DistilledSet], format: str, out: Path, *, lossy: bool = False, dataset: Dataset | None = None
) -> list[Path]:
    """Write sets in another repository's format.

    Args:
        sets: one set; several, where the format holds several.
        format: the name of a format that sets can be written in.
        out: the file, or the folder, new or empty, as the format has it.
        lossy: write also what the format cannot hold whole; its format's ``losses`` say what is lost.
        dataset: the sets'; needed for 8-bit images and pictures of whitened sets, and loaded by the name on their card
            unless given.

    Returns:
        The files.

    Raises:
        UsageError: unknown format, a set that the format cannot hold, or a place that holds something else.
        DataError: a file cannot be written; what was written of a folder is removed again.
    """
    chosen = writable_format(format)
    _check_sets(sets, chosen)
    for distilled in sets:
        lost = losses_in(distilled, chosen, dataset)
        if lost and not lossy:
            raise UsageError(
                f"`to={format}` would lose {'; '.join(lost)}.{_alternatives(distilled, chosen)} Keep the .safetensors "
                "file, which has everything, or add `lossy` to write it without."
            )
    if chosen.suffixes:
        check_ending(out, *chosen.suffixes)
    else:
        _check_folder(out, format)
    return _write(chosen.write(sets, out, dataset))


def losses_in(distilled: DistilledSet, chosen: WritableFormat, dataset: Dataset | None) -> list[str]:
    """What a set would lose in a format, in words.

    Args:
        distilled: the set.
        chosen: the format.
        dataset: as for ``export``.

    Returns:
        What its ``losses`` say, and what no format holds.

    Raises:
        UsageError: the format can hold nothing of the kind.
    """
    lost, factor = list(chosen.losses(distilled, dataset)), distilled.card.formation
    if factor > 1:
        lost.append(
            f"that each image holds {factor}×{factor} smaller ones, which who reads the file has to be told "
            f"(`factor={factor}` in import)"
        )
    return lost


def way_back(
    distilled: DistilledSet, format: str, files: Sequence[str | Path], dataset: str | None = None
) -> list[str]:
    """The arguments of ``distill-bench import`` by which an exported set becomes the same set again.

    Args:
        distilled: the set.
        format: the format it was written in.
        files: what ``import`` is given: a folder of pictures, else all files that hold tensors.
        dataset: where the dataset lies now, if not where the card says.

    Returns:
        The arguments, in order.
    """
    card, chosen = distilled.card, writable_format(format)
    words = [*map(str, files), *data_options(card.source, dataset)]
    words += _space_options(card.pixel_space, usual_statistics(distilled), asked=not chosen.settles_space)
    words += chosen.import_options
    words += [] if card.fraction is None else card.budget.option
    words += [] if card.formation == 1 else ["--factor", str(card.formation)]
    words += ["--force"] if absent_classes(distilled) else []
    return [*words, "--method", card.method, "--protocol", card.protocol]


def _space_options(space: PixelSpace, usual: object, asked: bool) -> list[str]:
    scaled = "normalized" in (space.kind, space.zca_input)
    constants = scaled and usual != (space.mean, space.std)
    words = ["--space", space.kind] if asked or constants else []
    if space.kind == "zca":
        words += ["--zca-eps", repr(space.eps), "--zca-input", str(space.zca_input)]
    return words + ["--mean", as_numbers(space.mean), "--std", as_numbers(space.std)] * constants


def _check_sets(sets: Sequence[DistilledSet], chosen: WritableFormat) -> None:
    if not sets:
        raise UsageError("name at least one set.")
    if not chosen.several and len(sets) != 1:
        several = " and ".join(name for name, each in writable_formats().items() if each.several)
        raise UsageError(
            f"`to={chosen.name}` takes one set; {len(sets)} were given. Only {several} files hold several."
        )
    cards = [(distilled.card, distilled.images.shape[1:]) for distilled in sets]
    for distilled in sets:
        refuse_compensators(distilled, f"`to={chosen.name}`", "Keep the .safetensors file, which has them.")
    if len({(card.class_names, shape, card.pixel_space, card.method, card.protocol) for card, shape in cards}) > 1:
        raise UsageError(
            f"`to={chosen.name}`: the sets differ in classes, image size, pixel space, method or protocol; a "
            f"{chosen.name} file is of one of each. Export them apart."
        )


def _check_folder(out: Path, format: str) -> None:
    if os.path.exists(out) and not os.path.isdir(out):
        raise UsageError(f"`out={out}` is a file; `to={format}` writes into a folder. Give the name of a new one.")
    if there := sorted(path.name for path in out.iterdir()) if os.path.exists(out) else []:
        raise UsageError(
            f"`out={out}` holds {listed(there)}, which would be taken for a part of the set. Give a new folder or an "
            "empty one."
        )


def _alternatives(distilled: DistilledSet, chosen: WritableFormat) -> str:
    """The formats that would lose nothing; pictures are not tried, which may need the dataset."""
    others = [each for each in writable_formats().values() if each is not chosen and not each.needs_pixels]
    names = " and ".join(f"`to={other.name}`" for other in others if _holds(distilled, other))
    return f" {names} would lose nothing." if names else ""


def _holds(distilled: DistilledSet, chosen: WritableFormat) -> bool:
    try:
        return not losses_in(distilled, chosen, None)
    except UsageError:
        return False


def _write(contents: Iterable[tuple[Path, bytes]]) -> list[Path]:
    """Write files; all of them or none."""
    files, folders = list[Path](), dict[Path, None]()
    try:
        for path, content in contents:
            missing = [each for each in path.parents if not each.exists()]
            folders |= dict.fromkeys(reversed(missing))
            write_atomically(path, content)
            files.append(path)
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        for folder in reversed(folders):  # those that were there stay, and so does one that holds something else
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return files
