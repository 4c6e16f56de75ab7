"""evaluate: test a set, or the whole training split."""

from pathlib import Path
from typing import Annotated, Any

import typer

from distill_bench.benchmark.results import file_result, fold
from distill_bench.benchmark.suite import EVALUATED
from distill_bench.cli import options
from distill_bench.cli.claims import claimed, describe_stored
from distill_bench.cli.output import notes_shown, protocol_named, show, show_json
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import UsageError
from distill_bench.evaluation import (
    Result,
    ScoreCache,
    evaluate,
    evaluate_full,
    load_protocol,
    protocol_for,
    score_folder,
    score_key,
)
from distill_bench.evaluation.memory import evaluation_bytes
from distill_bench.hub.registry.published import CachedSet
from distill_bench.runtime.device import resolve_device
from distill_bench.runtime.files import check_place
from distill_bench.runtime.memory import memory_limit, resident_bytes
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import StreamMonitor
from distill_bench.runtime.run_info import code_state


def evaluate_command(
    file: Annotated[
        str | None, typer.Argument(help="A distilled set, or a published one's id. Left out for a full-… protocol.")
    ] = None,
    protocol: options.Protocol = None,
    labels: options.Labels = "stored",
    network: Annotated[
        str | None, typer.Option("--network", help="Such as ConvNetD3BN, ResNet18BN or ViT; or your own: module:name.")
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
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train networks on a set and print their test accuracy."""
    code_state()
    if results is not None:
        check_place(results / EVALUATED / "file")
    options.choice("--labels", labels, options.LABEL_USES)
    options.choice("--compile", compile, options.COMPILE)
    resolve_device(device)
    cached, distilled = None, None
    if file is None:
        protocol, dataset = _check_whole_split(protocol, dataset, labels, allow_leak)
        data = options.data_named(dataset, size, holdout, split, flip_invariant, classes)
    else:
        cached = options.downloaded(file, registry)
        distilled = load_distilled(cached.paths[0] if cached else file)
        data = options.dataset_of_set(distilled, dataset, size, holdout, split, flip_invariant, classes)
        protocol = protocol_for(distilled, protocol).id
    monitor, cache = options.listening_monitor(quiet), score_folder()
    if tested := ScoreCache(cache, score_key(data, protocol, distilled, labels, network)).networks:
        monitor.say(f"networks tested before: {len(tested)}, kept under {cache_dir()}")
    images = len(data.train) if distilled is None else len(distilled.images)
    peak = resident_bytes() + evaluation_bytes(data, protocol, images, network)
    monitor.say(f"about {peak / 1e9:.1f} GB of memory at its peak; {memory_limit()}")
    settings: dict[str, Any] = {"network": network, "networks": networks, "device": device, "compile": compile}
    settings |= {"monitor": monitor, "cache": cache}
    if distilled is None:
        result = evaluate_full(data, protocol, **settings)
    else:
        result = evaluate(distilled, data, protocol, labels=labels, allow_leak=allow_leak, **settings)  # type: ignore[arg-type]
    if results is not None:
        result = result.model_copy(update={"suite": EVALUATED})
        file_result(result, results)
        fold(results, EVALUATED)
        monitor.say(f"filed under {results}; distill-bench leaderboard --results {results} shows it")
    if as_json:
        show_json(result.model_dump(mode="json"))
    else:
        show(*_described(result, distilled))
    _say_claims(cached, distilled, monitor, as_json)


def _check_whole_split(protocol: str | None, dataset: str | None, labels: str, allow_leak: bool) -> tuple[str, str]:
    """The protocol and the source of an evaluation without a set. Raises UsageError for what goes with a set alone."""
    if protocol is None or load_protocol(protocol).trains_on != "full":
        raise UsageError("name the file of a distilled set: distill-bench evaluate FILE.")
    if dataset is None:
        raise UsageError(f"{protocol} scores a whole training split: say which with --dataset.")
    if labels != "stored" or allow_leak:
        raise UsageError(f"{protocol} scores a whole training split: --labels and --allow-leak are for distilled sets.")
    return protocol, dataset


def _say_claims(
    cached: CachedSet | None, distilled: DistilledSet | None, monitor: StreamMonitor, as_json: bool
) -> None:
    """What is claimed for a set, beside what was found."""
    if distilled is not None and cached is not None:
        show(claimed(cached.entry, distilled), err=as_json)
        if others := cached.paths[1:]:
            monitor.say(
                f"this is the first of {len(others) + 1} independent sets, of all of which the claim is. Others:"
            )
            monitor.say(*map(str, others))
    elif distilled is not None and (stored := describe_stored(distilled)):
        monitor.say(stored)


def _described(result: Result, distilled: DistilledSet | None) -> list[str]:
    interval = "" if result.ci_low is None else f", 95 % interval {result.ci_low:.2f} to {result.ci_high:.2f}"
    spread = f" ± {result.std:.2f} (std of {result.networks} networks{interval})" if result.networks > 1 else ""
    each = ", ".join(f"{value:.2f}" for value in result.accuracies)
    return [
        f"{result.method} on {result.dataset}"
        + (f" at {result.size} px" if result.size else "")
        + (f", {result.holdout:g} of its training split held out" if result.holdout else "")
        + (f", ipc {result.ipc}" if result.ipc else "")
        + f": {result.accuracy:.2f} %{spread}",
        f"{protocol_named(result, distilled)}, network {result.network}, labels {result.labels}, "
        f"learning rate {result.learning_rate:g}, {result.pixel_space} pixels, {result.bytes:,} bytes",
        f"networks: {each}",
        *notes_shown(result.notes),
    ]
