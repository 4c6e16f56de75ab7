"""Options that several commands have, and what is made of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distill_bench.distilled_set import DistilledSet, check_same_classes
from distill_bench.errors import UsageError, did_you_mean
from distill_bench.hub.published import is_id, obtain
from distill_bench.progress import StreamMonitor
from distill_bench.sources import Source, load_source

HOLDOUT = 0.2
SetArgument = Annotated[str, typer.Argument(help="A distilled set, or the id of a published one that was downloaded.")]
DatasetOption = Annotated[
    str, typer.Option("--dataset", help="digits, mnist, …, folder:PATH, parquet:PATH or npz:PATH.")
]
OptionalDataset = Annotated[
    str | None, typer.Option("--dataset", help="Where to test, if not on the source named in the set.")
]
SizeOption = Annotated[
    int | None, typer.Option("--size", help="Resize and centre-crop images to this side, in pixels.")
]
HoldoutOption = Annotated[
    float | None, typer.Option("--holdout", help="Test on this fraction of the training split, held out; such as 0.2.")
]
SplitOption = Annotated[
    str | None,
    typer.Option("--split", help=f"test, or holdout for --holdout {HOLDOUT}: for choosing hyper-parameters."),
]
PresetOption = Annotated[str, typer.Option("--preset", help="paper, or a recipe's preset such as cpu.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe.")
]
CompileOption = Annotated[
    str, typer.Option("--compile", help="auto (where it pays), on or off: training through torch.compile.")
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
NetworksOption = Annotated[
    int | None, typer.Option("--networks", min=1, help="How many networks, if not the usual number.")
]
CheckpointOption = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, help="Least time between two checkpoints.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
RegistryOption = Annotated[
    Path | None, typer.Option("--registry", help="A registry of your own; or set DISTILL_BENCH_REGISTRY.")
]
ResultsOption = Annotated[Path | None, typer.Option("--results", help="Folder of results; in the cache by default.")]


def source_of_set(
    made: DistilledSet,
    dataset: str | None,
    size: int | None = None,
    holdout: float | None = None,
    split: str | None = None,
) -> Source:
    """The source on a set's card, but for what was asked for instead."""
    card = made.card.source
    name, side = dataset or card.name, card.size if size is None else size
    fraction = holdout_fraction(holdout, split, card.holdout)
    source = load_source(name, size=side)
    check_same_classes(made, source)  # before a folder that a stranger's card names is gone through
    if fraction is None and card.holdout is not None:
        return source.with_holdout(card.holdout, own_test=True)
    return source if fraction is None else source.with_holdout(fraction)


def set_file(name: str, registry: Path | None = None) -> Path:
    """The file of a set that is named by its path, or by the id of a published one that was downloaded."""
    return obtain(name, may_download=False, registry=registry).paths[0] if is_id(name) else Path(name)


def check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out}: the file's name must end in .safetensors.")


def choice(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value!r}: give {' or '.join(allowed)}.{did_you_mean(value, allowed)}")
    return value


def holdout_fraction(fraction: float | None, split: str | None, usual: float | None = None) -> float | None:
    """The fraction to hold out, or None for the test split; ``usual`` where nothing is said."""
    if split not in (None, "test", "holdout"):
        raise UsageError(f"--split {split!r}: give test or holdout.")
    if split == "test":
        if fraction is not None:
            raise UsageError(f"--split test and --holdout {fraction} contradict each other: give one of them.")
        return None
    if fraction is not None:
        return fraction
    return usual or HOLDOUT if split == "holdout" else usual


def listening_monitor(quiet: bool) -> StreamMonitor:
    monitor = StreamMonitor(quiet=quiet)
    monitor.listen()
    return monitor
