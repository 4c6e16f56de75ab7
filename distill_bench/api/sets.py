"""Sets made, tested and drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from distill_bench import evaluation, methods
from distill_bench.api.named import Data, Set, data_of, dataset_named, protocol_of, set_named
from distill_bench.distilled import render as drawing
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.evaluation import Result
from distill_bench.methods.iterates import OnIterate
from distill_bench.methods.recipe import PAPER
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.files import check_no_input
from distill_bench.runtime.progress import Monitor
from distill_bench.runtime.shown import monitor_of
from distill_bench.runtime.tracking import Log, silent


def synthesize(
    data: Data,
    method: str,
    ipc: int | None = None,
    preset: str = PAPER,
    seed: int = 0,
    *,
    fraction: float | None = None,
    device: str = "auto",
    progress: bool | None = None,
    monitor: Monitor | None = None,
    checkpoint: Checkpoint | None = None,
    history: list[float] | None = None,
    log: Log = silent,
    iterates: int = 10,
    on_iterate: OnIterate | None = None,
    **config: Any,
) -> DistilledSet:
    """Make a distilled set from the training split of a dataset. The set is the last iterate.

    Args:
        data: the dataset, or its name; only its training split is read.
        method: a name from ``list_methods``, or ``module:function``.
        ipc: images per class; or instead:
        fraction: of the training split, for methods that choose real images. The set has them as 8-bit pictures.
        preset: ``"paper"``, or a named variant of the recipe such as ``"cpu"``.
        seed: of everything random in synthesis.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or the like.
        progress: whether a bar shows it; in a terminal and a notebook unless said.
        monitor: hears of progress instead, and may ask to stop.
        checkpoint: where unfinished work is kept, one file a set; none unless given. When the set is finished its last
            state is still there: ``checkpoint.clear()`` removes it.
        history: a list that receives the loss of every step.
        log: is called with every step's number and loss, as ``log(3, {"dm/loss": 0.5})``.
        iterates: into how many equal parts the steps are divided, after which
        on_iterate: is called with the number of steps and the set as it is, ``on_iterate(100, distilled)``; not after
            the last, nor by methods that do not learn a set as a whole. Its card has the number as ``iterate``.
        config: hyper-parameters that replace the recipe's.

    Returns:
        The set, its images in class order, in the recipe's pixel space.

    Raises:
        UsageError: unknown names, fields that are invalid or do not go with the dataset, more images per class asked
            for than there are, a fraction outside (0, 1] or of a method that has none, or a checkpoint of another set.
        DataError: the dataset is not there.
        RunFailed: the computation did.
        Interrupted: the monitor was asked to stop; the checkpoint was written.
    """
    how: dict[str, Any] = {"device": device, "checkpoint": checkpoint, "history": history, "log": log}
    how |= {"fraction": fraction, "iterates": iterates, "on_iterate": on_iterate}
    watching = monitor_of(progress, monitor)
    return methods.synthesize(dataset_named(data), method, ipc, preset, seed, monitor=watching, **how, **config)


def evaluate(
    distilled: Set,
    dataset: Data | None = None,
    protocol: str | None = None,
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    labels: Literal["stored", "hard"] = "stored",
    *,
    device: str = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    progress: bool | None = None,
    monitor: Monitor | None = None,
    cache: str | Path | None = None,
    allow_leak: bool = False,
) -> Result:
    """Train networks on a distilled set and test them on its dataset's test split.

    Args:
        distilled: the set, its file, or the id of a published one that was downloaded.
        dataset: where to test, or its name, with the size, classes and holdout on the set's card; the one on the card
            unless given.
        protocol: an id, see ``list_protocols``; that of a published set's entry, else that on the set's card, if None.
        network: instead of the protocol's.
        networks: how many, from number 0 on, instead of the protocol's usual number; or their numbers. Network k is
            the same for every set.
        labels: ``"stored"`` uses soft labels and a learned rate where the set has them; ``"hard"`` is the strict
            evaluation with classes and the protocol's own rate.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or the like.
        compile: ``"on"``, ``"off"``, or ``"auto"``: where that pays.
        progress: whether a bar shows it; in a terminal and a notebook unless said.
        monitor: hears of every epoch instead, and may ask to stop.
        cache: a folder where accuracies of tested networks are stored and looked up; nothing is stored unless given.
        allow_leak: whether a set may be tested on images that it was made from; the result's notes say it then.

    Returns:
        The accuracies, their statistics, and how they were found.

    Raises:
        UsageError: unknown names, a set that does not fit the dataset, or one made from its test images.
        DataError: the set or the dataset is not there, or damaged.
        RunFailed: a network's training diverged.
        Interrupted: the monitor was asked to stop; the cache has all networks that were tested.
    """
    tested = set_named(distilled)
    how: dict[str, Any] = {"device": device, "compile": compile, "allow_leak": allow_leak}
    how["cache"], how["monitor"] = Path(cache) if cache else None, monitor_of(progress, monitor)
    data = None if dataset is None else data_of(tested, dataset)
    rules = protocol_of(distilled, protocol)
    return evaluation.evaluate(tested, data, rules, network, networks, labels, **how)


def evaluate_full(
    dataset: Data,
    protocol: str = "full-v1",
    network: str | None = None,
    networks: int | Sequence[int] | None = None,
    *,
    device: str = "auto",
    compile: Literal["auto", "on", "off"] = "auto",
    progress: bool | None = None,
    monitor: Monitor | None = None,
    cache: str | Path | None = None,
    line: Literal["full", "untrained"] = "full",
) -> Result:
    """The reference line: networks trained on the whole training split.

    Args:
        dataset: the dataset, or its name.
        protocol: an id of one that trains on the whole split.
        network, networks, device, compile, progress, monitor, cache: as for ``evaluate``.
        line: ``"untrained"``, under a protocol that probes networks, for those with their initial values.

    Returns:
        As ``evaluate``.

    Raises:
        UsageError, DataError, RunFailed, Interrupted: as ``evaluate``; UsageError too for a protocol of distilled sets.
    """
    how: dict[str, Any] = {"device": device, "compile": compile, "cache": Path(cache) if cache else None, "line": line}
    how["monitor"] = monitor_of(progress, monitor)
    return evaluation.evaluate_full(dataset_named(dataset), protocol, network, networks, **how)


def render(distilled: Set, out: str | Path | None = None, *, dataset: Data | None = None, columns: int = 10) -> bytes:
    """A set as a picture: a row a class, with normalisation and whitening undone.

    Args:
        distilled: the set, its file, or the id of a published one that was downloaded.
        out: the ``.png`` file to write; none unless given.
        dataset: of a whitened set, where its source lies now, if not where its card says.
        columns: images of a class at most.

    Returns:
        The PNG's bytes.

    Raises:
        UsageError: the file's name does not end in .png, or it is the set's own.
        DataError: the set or its dataset is not there, or the file cannot be written.
    """
    shown = set_named(distilled)
    data = None if dataset is None or shown.card.pixel_space.kind != "zca" else data_of(shown, dataset)
    if out is None:
        return drawing.grid(shown, dataset=data, columns=columns)
    check_no_input(Path(out), [] if isinstance(distilled, DistilledSet) else [Path(distilled)])
    drawing.render_grid(shown, out, dataset=data, columns=columns)
    return Path(out).read_bytes()
