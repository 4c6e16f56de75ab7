"""import: files that others released."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_bench.cli import options
from distill_bench.cli.choices import FORMATS
from distill_bench.cli.output import CommandMonitor, show
from distill_bench.errors import UsageError
from distill_bench.runtime.stored import write_with_sum

if TYPE_CHECKING:
    from distill_bench.datasets import Dataset
    from distill_bench.datasets.pixel_space import PixelSpace
    from distill_bench.distilled.distilled_set import DistilledSet


def import_command(
    files: Annotated[list[Path], typer.Argument(help="The files of one release: .pt, .npz, or a folder of pictures.")],
    dataset: options.DatasetName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .safetensors file; several sets are numbered.")],
    space: Annotated[
        str | None,
        typer.Option("--space", help="normalized, zca or unit: what floats are; of 8-bit pictures, what is shown."),
    ] = None,
    zca_eps: Annotated[float | None, typer.Option("--zca-eps", help="Of the whitening: 0.1 unless given.")] = None,
    zca_input: Annotated[
        str | None,
        typer.Option("--zca-input", help="What was whitened: unit unless given, normalized, standardized."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="Such as 0.49,0.48,0.45, if not the dataset's usual.")
    ] = None,
    std: Annotated[str | None, typer.Option("--std", help="Goes with --mean.")] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", help="logits, probabilities, weights, argmax of a matrix; order: none, in order."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="That the set is to be used with.")
    ] = None,
    layout: Annotated[str, typer.Option("--layout", help="nchw, or nhwc where channels come last.")] = "nchw",
    images_key: Annotated[str | None, typer.Option("--images-key", help="The array of images in the file.")] = None,
    labels_key: Annotated[str | None, typer.Option("--labels-key", help="The array of labels in the file.")] = None,
    form: Annotated[str | None, typer.Option("--form", help=", ".join(FORMATS))] = None,
    method: Annotated[str | None, typer.Option("--method", help="The method's name, if not the form's.")] = None,
    protocol: Annotated[str | None, typer.Option("--protocol", help="The paper's, if not the form's.")] = None,
    number: Annotated[int | None, typer.Option("--set", min=0, help="Only this one of several sets, from 0.")] = None,
    class_order: Annotated[
        str | None,
        typer.Option("--class-order", help="What class numbers count: dataset, its own order; sorted, ImageFolder's."),
    ] = None,
    factor: Annotated[
        int | None, typer.Option("--factor", min=1, help="Each image holds N×N smaller ones, as IDC's; 1: it is one.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although name, classes or training images speak against --dataset.")
    ] = False,
    fraction: Annotated[
        float | None, typer.Option("--fraction", help="Of the training split, if the set was made for one, not an IPC.")
    ] = None,
    size: options.Size = None,
    holdout: options.Holdout = None,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
) -> None:
    """Turn a distilled set that somebody released into a .safetensors file. Nothing in it is run."""
    from distill_bench import hub
    from distill_bench.api.released import import_sets
    from distill_bench.datasets import paths_of
    from distill_bench.distilled.budget import Budget
    from distill_bench.distilled.pixel_diagnostics import table
    from distill_bench.evaluation import known_protocol

    options.check_out(out, [*files, *paths_of(dataset)])
    if protocol:
        known_protocol(protocol)
    data = options.data_named(dataset, size, holdout, None, flip_invariant, classes)
    monitor = CommandMonitor()
    imported = import_sets(
        files,
        data,
        _space(data, space, zca_eps, zca_input, mean, std),
        format=form,
        method=method,
        protocol=protocol,
        force=force,
        labels=options.choice("--labels", labels, hub.LABELS),
        layout=options.choice("--layout", layout, hub.LAYOUTS) or "nchw",
        learning_rate=learning_rate,
        images_key=images_key,
        labels_key=labels_key,
        class_order=options.choice("--class-order", class_order, hub.CLASS_ORDERS),
        factor=factor,
        fraction=None if fraction is None else Budget(fraction=fraction).fraction,
    )
    if imported.evidence:
        monitor.say(*table(imported.evidence))
    chosen = imported.sets if number is None else imported.sets[number : number + 1]
    if not chosen:
        raise UsageError(f"--set {number}: the file holds {len(imported.sets)}, numbered from 0.")
    for distilled in chosen:
        assert distilled.card.origin is not None
        path = out if len(chosen) == 1 else out.with_stem(f"{out.stem}-{distilled.card.origin.set_index}")
        write_with_sum(path, distilled.to_bytes(), {})
        show(f"{path}: {summary(distilled)}")
    monitor.say(*imported.remarks)


def _space(
    data: Dataset, kind: str | None, eps: float | None, zca_input: str | None, mean: str | None, std: str | None
) -> PixelSpace | None:
    """The pixel space that the options describe; None if none is named."""
    from distill_bench.hub.registry.registry import Space

    options.choice("--space", kind, ("normalized", "zca", "unit"))
    options.check_whitening(kind)
    if kind is None:
        if mean or std:
            raise UsageError("--mean and --std describe a pixel space: name it with --space normalized or zca.")
        return None
    options.choice("--zca-input", zca_input, ("unit", "normalized", "standardized"))
    if (mean is None) != (std is None):
        raise UsageError("--mean and --std go together.")
    numbers = {name: text.split(",") for name, text in (("mean", mean), ("std", std)) if text is not None}
    whitening = {name: value for name, value in (("zca_eps", eps), ("zca_input", zca_input)) if value is not None}
    try:
        return Space(kind=kind, **whitening, **numbers).of(data)  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(
            f"--mean {mean} --std {std}: give one positive number a channel, as in 0.49,0.48,0.45."
        ) from error


def summary(distilled: DistilledSet) -> str:
    """An imported set in one line."""
    from distill_bench.cli.claims import describe_stored

    card = distilled.card
    parts = [f"{card.method}, {len(distilled.images)} images, {card.budget}, {card.pixel_space.kind} pixels"]
    parts.append(f"{card.label_kind} labels, its protocol {card.protocol}")
    if distilled.learning_rate is not None:
        parts.append(f"learning rate {distilled.learning_rate:.6g}")
    return ", ".join([*parts, *filter(None, [describe_stored(distilled)])])
