"""Options that several commands have, and what is made of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_bench.cli.choices import COMPILE, PROTOCOLS
from distill_bench.cli.output import CommandMonitor
from distill_bench.cli.settings import options_typed
from distill_bench.errors import UsageError, did_you_mean
from distill_bench.runtime.files import check_ending, check_no_input, check_place
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.reading import reported_to

if TYPE_CHECKING:
    from distill_bench.datasets import Dataset
    from distill_bench.distilled.distilled_set import DistilledSet

HOLDOUT = 0.2
FORMATS = ("table", "md")
LABEL_USES = ("stored", "hard")
SetName = Annotated[str, typer.Argument(help="A distilled set, or the id of a published one that was downloaded.")]
DatasetName = Annotated[
    str, typer.Option("--dataset", help="digits, mnist, …, folder:PATH, parquet:PATH, npz:PATH or hf:REPO.")
]
TestDataset = Annotated[
    str | None, typer.Option("--dataset", help="Where to test, if not on the source named in the set.")
]
SourceDataset = Annotated[
    str | None, typer.Option("--dataset", help="Where the set's source lies now, if not where its card says.")
]
Size = Annotated[int | None, typer.Option("--size", help="Resize and centre-crop images to this side, in pixels.")]
Holdout = Annotated[
    float | None, typer.Option("--holdout", help="Test on this fraction of the training split, held out; such as 0.2.")
]
Split = Annotated[
    str | None,
    typer.Option("--split", help=f"test, or holdout for --holdout {HOLDOUT}: for choosing hyper-parameters."),
]
Flip = Annotated[
    str | None,
    typer.Option(
        "--flip-invariant",
        metavar="yes|no",
        help="Whether a mirrored image keeps its label; for data of your own, where it is yes unless said.",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--classes", metavar="A,B,…", help="Take these classes alone, by name or label, and number them in this order."
    ),
]
Ipc = Annotated[int | None, typer.Option("--ipc", help="Images per class.")]
Fraction = Annotated[
    float | None,
    typer.Option("--fraction", help="Instead of --ipc: of the training split, of methods that choose real images."),
]
Preset = Annotated[str, typer.Option("--preset", help="paper, or a recipe's preset such as cpu.")]
Values = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the recipe.")]
Compile = Annotated[
    str, typer.Option("--compile", help=f"{', '.join(COMPILE)}: training through torch.compile; auto: where it pays.")
]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help=", ".join(PROTOCOLS)
        + "; or your own: a .toml, module:name; unless given, that of a published set's entry or the set's card.",
    ),
]
AllowLeak = Annotated[
    bool, typer.Option("--allow-leak", help="Test on images the set was made from all the same, and note it.")
]
Labels = Annotated[
    str, typer.Option("--labels", help=f"{' or '.join(LABEL_USES)}: as stored, or the strict evaluation.")
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Networks = Annotated[int | None, typer.Option("--networks", min=1, help="How many networks, if not the usual number.")]
CheckpointSeconds = Annotated[
    float, typer.Option("--checkpoint-seconds", min=0, help="Least time between two checkpoints.")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        "--memory-limit",
        metavar="AMOUNT",
        help="The most memory of a process, such as 2GB; or set DISTILL_BENCH_MEMORY_LIMIT.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Format = Annotated[
    str | None, typer.Option("--format", help="table or md (Markdown): in a terminal a table, else Markdown.")
]


def _heard(context: typer.Context, quiet: bool) -> bool:
    """Have data that are read during the command say so, unless it is quiet."""
    if not quiet:
        context.with_resource(reported_to(CommandMonitor()))
    return quiet


Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.", callback=_heard)]
Registry = Annotated[
    Path | None, typer.Option("--registry", help="A registry of your own; or set DISTILL_BENCH_REGISTRY.")
]
Results = Annotated[Path | None, typer.Option("--results", help="Folder of results; in the cache by default.")]


def dataset_of_set(
    distilled: DistilledSet,
    dataset: str | None,
    size: int | None = None,
    holdout: float | None = None,
    split: str | None = None,
    flip: str | None = None,
    classes: str | None = None,
) -> Dataset:
    """The source on a set's card, but for what was asked for instead."""
    from distill_bench.api.named import source_of

    fraction = holdout_fraction(holdout, split, distilled.card.source.holdout)
    return source_of(distilled, fraction, name=dataset, size=size, **own_data(flip, classes))


def data_named(
    name: str,
    size: int | None,
    holdout: float | None = None,
    split: str | None = None,
    flip: str | None = None,
    classes: str | None = None,
) -> Dataset:
    """The dataset that a command's options describe."""
    from distill_bench.datasets import load_dataset

    return load_dataset(name, size=size, holdout=holdout_fraction(holdout, split), **own_data(flip, classes))


def check_whitening(space: str | None) -> None:
    """Refuse options of the whitening that are typed where pixels are not whitened."""
    if space != "zca" and options_typed(sys.argv[1:]) & {"zca_eps", "zca_input"}:
        raise UsageError("--zca-eps and --zca-input describe the whitening: give --space zca, or leave them out.")


def own_data(flip: str | None, classes: str | None) -> dict[str, Any]:
    """What ``--flip-invariant`` and ``--classes`` say, as arguments of ``load_dataset``."""
    from distill_bench.datasets.classes import words_of

    invariant = None if choice("--flip-invariant", flip, ("yes", "no")) is None else flip == "yes"
    return {"flip_invariant": invariant, "classes": None if classes is None else words_of(classes)}


def overrides(values: list[str] | None, **given: object) -> dict[str, Any]:
    """What ``--set`` replaces of a recipe, and what was given with an option of its own."""
    from distill_bench.methods.recipe import parse_values

    return parse_values([*(values or []), *(f"{name}={value}" for name, value in given.items() if value is not None)])


def set_file(name: str) -> Path:
    """The file of a set that is named by its path, or by the id of a published one that was downloaded."""
    from distill_bench.api.named import set_files

    return set_files(name)[0]


def check_out(out: Path, inputs: Iterable[Path] = (), *endings: str) -> None:
    """Refuse, before any work, a place that cannot or must not be written.

    Args:
        out: the file.
        inputs: all files and folders that the command reads, see ``datasets.paths_of``.
        endings: that its name may have; ``.safetensors`` unless given.

    Raises:
        UsageError: the name has another ending, or ``out`` is an input.
        DataError: nothing can be written there.
    """
    check_ending(out, *(endings or (".safetensors",)))
    check_no_input(out, inputs)
    check_place(out)


def check_out_folder(out: Path, inputs: Iterable[Path] = ()) -> None:
    """``check_out`` for a folder, and whatever files come to lie in it."""
    if os.path.isfile(out):
        raise UsageError(f"--out {out} is a file: give the name of a folder.")
    check_no_input(out / "file", inputs, "out", out)
    check_place(out / "file")


def choice(option: str, value: str | None, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise UsageError(f"{option} {value!r}: give {' or '.join(allowed)}.{did_you_mean(value, allowed)}")
    return value


def holdout_fraction(fraction: float | None, split: str | None, usual: float | None = None) -> float | None:
    """The fraction to hold out, or None for the test split; ``usual`` if nothing is said."""
    if split not in (None, "test", "holdout"):
        raise UsageError(f"--split {split!r}: give test or holdout.{did_you_mean(split, ('test', 'holdout'))}")
    if split == "test":
        if fraction is not None:
            raise UsageError(f"--split test and --holdout {fraction} contradict each other: give one of them.")
        return None
    if fraction is not None:
        return fraction
    return usual or HOLDOUT if split == "holdout" else usual


def listening_monitor(quiet: bool) -> StreamMonitor:
    monitor = CommandMonitor(quiet=quiet)
    monitor.listen()
    return monitor
