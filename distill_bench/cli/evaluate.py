"""evaluate: test a set, or the whole training split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_bench.cli import options
from distill_bench.cli.output import notes_shown, protocol_named, show, show_json
from distill_bench.errors import UsageError
from distill_bench.runtime.files import check_no_input, check_place
from distill_bench.runtime.memory import peak_line
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.text import counted

if TYPE_CHECKING:
    from distill_bench.distilled.distilled_set import DistilledSet
    from distill_bench.evaluation import Result
    from distill_bench.hub.registry.published import CachedSet


def evaluate_command(
    file: Annotated[
        str | None, typer.Argument(help="A distilled set, or a published one's id. Left out for a full-… protocol.")
    ] = None,
    protocol: options.Protocol = None,
    labels: options.Labels = "stored",
    prefix: Annotated[
        int | None, typer.Option("--prefix", help="The first so many images per class alone, of a set made in blocks.")
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network", help="Such as ConvNetD3BN or ViT; torchvision:resnet50, timm:NAME; or your own: module:name."
        ),
    ] = None,
    networks: options.Networks = None,
    dataset: options.TestDataset = None,
    size: options.Size = None,
    holdout: options.Holdout = None,
    split: options.Split = None,
    allow_leak: options.AllowLeak = False,
    flip_invariant: options.Flip = None,
    classes: options.Classes = None,
    device: options.Device = "auto",
    compile: options.Compile = "auto",
    registry: options.Registry = None,
    results: Annotated[
        Path | None, typer.Option("--results", help="File the result in this folder, as of a suite called evaluated.")
    ] = None,
    all_sets: Annotated[
        bool, typer.Option("--all-sets", help="Not the first alone of several independent sets of a published one.")
    ] = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train networks on a set and print their test accuracy."""
    from distill_bench.api.named import downloaded, protocol_of
    from distill_bench.benchmark.suite import EVALUATED
    from distill_bench.datasets import paths_of
    from distill_bench.distilled.distilled_set import load_distilled
    from distill_bench.evaluation import (
        ScoreCache,
        evaluate,
        evaluate_full,
        load_protocol,
        networks_key,
        protocols_for,
        score_folder,
    )
    from distill_bench.evaluation.memory import evaluation_bytes
    from distill_bench.evaluation.result import FULL, LINES
    from distill_bench.runtime.device import resolve_device
    from distill_bench.runtime.run_info import code_state

    code_state()
    if results is not None:
        check_place(results / EVALUATED / "file")
    options.choice("--labels", labels, options.LABEL_USES)
    options.choice("--compile", compile, options.COMPILE)
    resolve_device(device)
    cached: CachedSet | None = None
    sets: Sequence[DistilledSet | None] = [None]
    if file is None:
        protocols, dataset = _check_whole_split(protocol, dataset, labels, allow_leak or all_sets or prefix is not None)
        data = options.data_named(dataset, size, holdout, split, flip_invariant, classes)
    else:
        cached = downloaded(file, registry)
        loaded = [load_distilled(path) for path in _chosen(file, cached, all_sets)]
        sets = first, *_ = loaded if prefix is None else [whole.prefix(prefix) for whole in loaded]
        data = options.dataset_of_set(first, dataset, size, holdout, split, flip_invariant, classes)
        protocols = protocols_for(first, protocol_of(file, protocol, registry))
    if results is not None:
        check_no_input(results / EVALUATED / "file", paths_of(data.name), "results", results)
    monitor, cache = options.listening_monitor(quiet), score_folder()
    images = len(data.train) if sets[0] is None else sets[0].shown_count
    monitor.say(peak_line(evaluation_bytes(data, protocols[0], images, network)))
    settings: dict[str, Any] = {"network": network, "networks": networks, "device": device, "compile": compile}
    settings |= {"monitor": monitor, "cache": cache}
    found: list[Result] = []
    probes = load_protocol(protocols[0]).probe is not None
    lines = LINES if sets[0] is None and probes else (FULL,)
    for distilled, line, name in product(sets, lines, protocols):
        if tested := ScoreCache(cache, networks_key(data, name, distilled, labels, network, line)).networks:
            monitor.say(f"networks tested before: {len(tested)}, kept under {cache_dir()}")
        if distilled is None:
            found.append(evaluate_full(data, name, line=line, **settings))
        else:
            found.append(evaluate(distilled, data, name, labels=labels, allow_leak=allow_leak, **settings))  # type: ignore[arg-type]
    if results is not None:
        found = _file(found, results, monitor)
    if as_json:
        shown = [result.model_dump(mode="json") for result in found]
        show_json(shown if all_sets or len(protocols) > 1 else shown[0])
    elif probes:
        show(*_probed(found), *notes_shown(tuple(dict.fromkeys(note for each in found for note in each.notes))))
    else:
        show(*(line for pair in zip(found, sets, strict=True) for line in _described(*pair)), *_mean(found))
    _say_claims(cached, sets[0], found, monitor, as_json)


def _chosen(file: str, cached: CachedSet | None, all_sets: bool) -> Sequence[Path | str]:
    """The files to evaluate. Raises UsageError where all sets of a file are asked for."""
    if cached is None:
        if all_sets:
            raise UsageError(f"--all-sets: {file} is one set; several are what an id of a published one may stand for.")
        return [file]
    return cached.paths if all_sets else cached.paths[:1]


def _file(found: Sequence[Result], folder: Path, monitor: StreamMonitor) -> list[Result]:
    from distill_bench.benchmark.results import file_result, fold
    from distill_bench.benchmark.suite import EVALUATED

    filed = [result.model_copy(update={"suite": EVALUATED}) for result in found]
    fold(folder, EVALUATED)  # of a run that ended early
    for result in filed:
        file_result(result, folder)
    fold(folder, EVALUATED)
    monitor.say(f"filed under {folder}; distill-bench leaderboard --results {folder} shows it")
    return filed


def _check_whole_split(
    protocol: str | None, dataset: str | None, labels: str, of_sets: bool
) -> tuple[tuple[str, ...], str]:
    """The protocols and the source of an evaluation without a set. Raises UsageError for what goes with a set alone."""
    from distill_bench.evaluation import load_protocol, members

    if protocol is None or load_protocol(members(protocol)[0]).trains_on == "distilled":
        raise UsageError("name the file of a distilled set: distill-bench evaluate FILE.")
    if dataset is None:
        raise UsageError(f"{protocol} scores a whole training split: say which with --dataset.")
    if labels != "stored" or of_sets:
        raise UsageError(
            f"{protocol} scores a whole training split: --labels, --prefix, --allow-leak and --all-sets are for "
            "distilled sets."
        )
    return members(protocol), dataset


def _probed(found: Sequence[Result]) -> list[str]:
    """A table of what pre-trained networks are worth: a row a set, or line, a column a protocol."""
    names, first = list(dict.fromkeys(result.protocol for result in found)), found[0]
    rows: dict[str, list[str]] = {}
    for result in found:
        half = "" if result.half_width is None else f" ± {result.half_width:.2f}"
        rows.setdefault(f"{result.method} {result.budget}".strip(), []).append(f"{result.accuracy:.2f}{half}")
    return [
        f"{first.data}: test accuracy in % of {first.network}, pre-trained, then probed with labels of a few images of "
        f"every class or of all; ± is half of the 95 % interval over {counted(first.networks, 'network')}",
        f"| | {' | '.join(names)} |",
        f"| :-- | {' | '.join(['--:'] * len(names))} |",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


def _say_claims(
    cached: CachedSet | None, first: DistilledSet | None, found: Sequence[Result], monitor: StreamMonitor, as_json: bool
) -> None:
    """What is claimed for a set, beside what was found, and whether that holds."""
    from distill_bench.cli.claims import claimed, describe_stored, judged

    if first is not None and cached is not None:
        show(claimed(cached.entry, first), *judged(cached.entry, found), err=as_json)
        if len(found) < len(cached.paths):
            monitor.say(
                f"this is the first of {len(cached.paths)} independent sets, of all of which the claim is: --all-sets "
                "evaluates them. Others:",
                *map(str, cached.paths[1:]),
            )
    elif first is not None and (stored := describe_stored(first)):
        monitor.say(stored)


def _mean(found: Sequence[Result]) -> list[str]:
    """The mean over several sets, whose interval is over sets."""
    from distill_bench.evaluation.statistics import half_width, shown_interval

    if len(found) == 1:
        return []
    by_set = [result.accuracies for result in found]
    mean = fmean(map(fmean, by_set))
    half = half_width(mean, *shown_interval(by_set))
    shown = f"{mean:.2f}" if half is None else f"{mean:.2f} ± {half:.2f}"
    return [f"mean over {len(found)} independent sets: {shown} % (± is half of the 95 % interval over sets)"]


def _described(result: Result, distilled: DistilledSet | None) -> list[str]:
    half, networks = result.half_width, f"{counted(result.networks, 'network')}"
    spread, about = "", f" ({networks}: no interval)"
    if half is not None:
        spread = f" ± {half:.2f}"
        about = f" (95 % interval over {networks}: {result.ci_low:.2f} to {result.ci_high:.2f}; std {result.std:.2f})"
    each = ", ".join(f"{value:.2f}" for value in result.accuracies)
    return [
        f"{result.method} on {result.dataset}"
        + (f" at {result.size} px" if result.size else "")
        + (f", {result.holdout:g} of its training split held out" if result.holdout else "")
        + (f", {result.budget}" if result.budget else "")
        + f": {result.accuracy:.2f}{spread} %{about}",
        f"{protocol_named(result, distilled)}, network {result.network}, labels {result.labels}, "
        f"learning rate {result.learning_rate:g}, {result.pixel_space} pixels, {result.bytes:,} bytes",
        f"networks: {each}",
        *notes_shown(result.notes),
    ]
