"""Sets that others released, and sets that are released to others: imported, exported, published, verified."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from distill_bench import hub
from distill_bench.api.named import (
    Data,
    Set,
    data_of,
    dataset_named,
    downloaded,
    protocol_of,
    set_files,
    set_named,
    source_of,
)
from distill_bench.datasets import paths_of
from distill_bench.datasets.pixel_space import PixelSpace, SpaceKind
from distill_bench.distilled.distilled_set import DistilledSet, load_distilled
from distill_bench.errors import UsageError, describe, did_you_mean
from distill_bench.evaluation import Result, evaluate, protocol_for, score_folder
from distill_bench.evaluation.claim import ClaimVerdict, check_claim, claim_of
from distill_bench.evaluation.memory import evaluation_bytes
from distill_bench.hub import publish as publishing
from distill_bench.hub import verify as verifying
from distill_bench.hub.convert.importing import Imported
from distill_bench.hub.formats.result_file import LINES, check_belongs, read_result, read_results_of, sums_of
from distill_bench.hub.registry.published import CachedSet
from distill_bench.hub.upload import repository_page, upload
from distill_bench.hub.verify import Verdict
from distill_bench.runtime.device import cpu_threads
from distill_bench.runtime.files import check_no_input
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.memory import peak_line
from distill_bench.runtime.progress import Monitor, StreamMonitor
from distill_bench.runtime.shown import monitor_of
from distill_bench.runtime.text import counted


def import_sets(
    files: str | Path | Sequence[str | Path],
    dataset: Data,
    space: SpaceKind | PixelSpace | None = None,
    *,
    format: str | None = None,
    method: str | None = None,
    protocol: str | None = None,
    force: bool = False,
    **options: Any,
) -> Imported:
    """Read what somebody released. Nothing in a file is run.

    Args:
        files: of one release: one that holds everything, or one each for images, labels and learning rate.
        dataset: the one that the sets were made for, or its name.
        space: the pixel space of the images, needed where neither the format nor the numbers settle it.
        format: its name, instead of the one that recognises the content.
        method, protocol: for the card, instead of what file names or the format suggest.
        force: take a set although its name, its classes or the training images among it speak against the dataset.
        options: what else the files do not say: fields of ``ImportOptions``.

    Returns:
        The ``sets``, and ``remarks`` that should be known of them.

    Raises:
        DataError: a file is missing, damaged, would run code, or does not fit the dataset.
        UsageError: something has to be said first.
    """
    paths = [Path(each) for each in ([files] if isinstance(files, str | Path) else files)]
    about: dict[str, Any] = {"format": format, "method": method, "protocol": protocol, "force": force}
    try:
        said = hub.ImportOptions(**options)
    except ValidationError as error:
        raise UsageError(f"import: {describe(error, hub.ImportOptions.model_fields)}.") from error
    return hub.import_release(paths, dataset_named(dataset), space, said, **about)


def export(
    sets: Set | Sequence[Set], to: str, out: str | Path, *, lossy: bool = False, dataset: Data | None = None
) -> list[Path]:
    """Write sets in another repository's format.

    Args:
        sets: one set, its file or id; several, where the format holds several.
        to: the name of a format that sets can be written in.
        out: the file, or the folder, new or empty, as the format has it.
        lossy: write also what the format cannot hold whole.
        dataset: the sets'; loaded by the name on their card, where it is needed, unless given.

    Returns:
        The files.

    Raises:
        UsageError: unknown format, a set that the format cannot hold, or a place that holds something else.
        DataError: a set is not there, or a file cannot be written.
    """
    given = [sets] if isinstance(sets, str | Path) or not isinstance(sets, Sequence) else sets
    loaded = [set_named(each) for each in given]
    data = data_of(loaded[0], dataset) if dataset is not None and loaded else None
    return hub.export(loaded, to, Path(out), lossy=lossy, dataset=data)


def publish(
    file: str | Path,
    out: str | Path | None = None,
    *,
    repo: str | None = None,
    results: Sequence[str | Path] = (),
    name: str | None = None,
    licence: str | None = None,
    url: str | None = None,
) -> tuple[publishing.Release, str]:
    """Put a set into a folder or a Hugging Face repository, with a dataset card, its results and a registry entry.

    Args:
        file: of the set, or the id of a published one that was downloaded.
        out: the folder, made where it is not there; or else
        repo: the repository, ``owner/name``.
        results: files of ``evaluate --json`` or ``bench``.
        name: its id; ``<method>-<dataset>-ipc<k>`` unless given.
        licence: such as ``cc-by-4.0``, if not the source's.
        url: where others will find the folder.

    Returns:
        What was published, with ``files`` by name and ``remarks`` for the publisher; and where it lies.

    Raises:
        UsageError: not one place is given, name or licence have to be given, or the place holds something else.
        DataError: a file is damaged, or a result is of another set.
        RunFailed: the Hub refused.
    """
    if (out is None) == (repo is None):
        raise UsageError("say where to: a folder, `out=DIR`, or a repository, `repo=owner/name`.")
    path = set_files(str(file))[0]
    if out is not None and path.suffix == ".safetensors":
        check_no_input(Path(out) / "file", paths_of(load_distilled(path).card.source.name), "out", Path(out))
    page = repository_page(repo) if repo else None
    url = url or (f"{page}/resolve/main" if page else None)
    paths = [Path(each) for each in results]
    ready = publishing.release(path, paths, name=name, licence=licence, url=url, page=page)
    if out is None:
        assert repo is not None
        return ready, upload(ready, repo)
    publishing.write_release(ready, Path(out))
    return ready, str(out)


def verify(
    file: str | Path,
    result: str | Path,
    *,
    networks: int | None = None,
    dataset: str | None = None,
    flip_invariant: bool | None = None,
    classes: Sequence[str] | None = None,
    allow_leak: bool = False,
    device: str = "auto",
    registry: Path | None = None,
    progress: bool | None = None,
    monitor: Monitor | None = None,
) -> Verdict:
    """Repeat a result by new networks. Where the same digits can be expected, as many threads as it had are taken.

    Args:
        file: of the set, or the id of a published one that was downloaded.
        result: what is claimed of it: a ``.json`` of ``evaluate --json``, or a ``.jsonl`` of ``bench``.
        networks: how many, instead of as many as the claim has.
        dataset, flip_invariant, classes: of the source, where it is other than on the card.
        allow_leak, device, progress, monitor: as for ``evaluate``.
        registry: of one's own.

    Returns:
        Whether it holds, and both accuracies.

    Raises:
        UsageError: the file has several results of the set, or the set was made from the test images.
        DataError: the result is of another set, or was found on other data.
    """
    cached, place = downloaded(str(file), registry), Path(result)
    alone = None if place.suffix == LINES else read_result(place)
    path = _of_claim(cached, alone) if cached else Path(file)
    distilled = load_distilled(path)
    claimed = alone or _only(read_results_of(place, path, parts=True), place)
    if claimed.ipc in distilled.card.prefixes:
        distilled = distilled.prefix(claimed.ipc)
    check_belongs(claimed, place, distilled, path)
    flips = claimed.flip_invariant if flip_invariant is None else flip_invariant
    own = {"name": dataset, "flip_invariant": flips, "classes": classes, "size": claimed.size}
    data = source_of(distilled, claimed.holdout, **own)
    how: dict[str, Any] = {"device": device, "allow_leak": allow_leak, "monitor": monitor_of(progress, monitor)}
    with cpu_threads(verifying.threads_to_repeat(claimed)):
        return verifying.verify(distilled, claimed, data, networks, path=place, **how)


def verify_claim(
    file: str | Path,
    accuracy: float,
    std: float | None = None,
    claimed_networks: int | None = None,
    *,
    protocol: str | None = None,
    labels: Literal["stored", "hard"] = "stored",
    network: str | None = None,
    networks: int | None = None,
    dataset: str | None = None,
    split: Literal["test", "holdout"] | None = None,
    flip_invariant: bool | None = None,
    classes: Sequence[str] | None = None,
    allow_leak: bool = False,
    device: str = "auto",
    registry: Path | None = None,
    progress: bool | None = None,
    monitor: Monitor | None = None,
) -> tuple[ClaimVerdict, list[Result]]:
    """Put a claimed accuracy to the test: evaluate the set, or all that an id stands for.

    Args:
        file: of the set, or the id of a published one that was downloaded.
        accuracy: that is claimed, in percent.
        std: of the claim, over its networks, in points.
        claimed_networks: how many; as many as ``networks`` unless given, which the verdict's assumptions say.
        protocol, labels, network, networks, allow_leak, device, progress, monitor: as for ``evaluate``.
        dataset, flip_invariant, classes: of the source, where it is other than on the card.
        split: ``"test"``: the source's own test split; ``"holdout"``: what was held out of its training split where
            the set was made with a holdout, which is what such a set is tested on unless said.
        registry: of one's own.

    Returns:
        Whether the claim holds, and what was measured.

    Raises:
        UsageError: the claim is no accuracy, the set does not fit, or nothing was held out.
        DataError: a set or its dataset is not there.
    """
    figure = claim_of(accuracy, std, networks if claimed_networks is None else claimed_networks)
    sets, watching = [load_distilled(path) for path in set_files(str(file), registry)], monitor_of(progress, monitor)
    protocol = protocol_of(str(file), protocol, registry)
    own = {"name": dataset, "flip_invariant": flip_invariant, "classes": classes}
    data = source_of(sets[0], _held_out(sets[0], split, file), **own)
    if isinstance(watching, StreamMonitor):
        images, rules = sets[0].shown_count, protocol_for(sets[0], protocol)
        watching.say(peak_line(evaluation_bytes(data, rules.id, images, network)))
    how: dict[str, Any] = {"network": network, "networks": networks, "labels": labels, "device": device}
    how |= {"allow_leak": allow_leak, "monitor": watching, "cache": score_folder()}
    results = [evaluate(distilled, data, protocol, **how) for distilled in sets]
    verdict = check_claim([result.accuracies for result in results], figure)
    said = list[str]()
    if networks is not None and claimed_networks is None:
        over = counted(networks, "network")
        said.append(f"the claim is taken to be over {over} (`networks`); `claimed_networks` says otherwise")
    if data.holdout is not None and split is None:
        said.append("judged on images held out of the training split, not on the test split: `split=test` is for that")
    return verdict.model_copy(update={"assumptions": (*said, *verdict.assumptions)}), results


def _held_out(distilled: DistilledSet, split: str | None, file: str | Path) -> float | None:
    """The part of the training split that a claim is tested on; None for the source's own test split."""
    held_out = distilled.card.source.holdout
    if split not in (None, "test", "holdout"):
        raise UsageError(f"`split={split!r}`: give test or holdout.{did_you_mean(split, ('test', 'holdout'))}")
    if split == "holdout" and held_out is None:
        raise UsageError(f"`split=holdout`: {file} was made without a holdout.")
    return None if split == "test" else held_out


def _of_claim(cached: CachedSet, claimed: Result | None) -> Path:
    """The file of a published set: of several independent ones that which the claim is of."""
    if claimed is None:
        return cached.paths[0]
    fitting = (path for path in cached.paths if claimed.set_sha256 in (sha256_of(path), *sums_of(load_distilled(path))))
    return next(fitting, cached.paths[0])


def _only(claims: list[Result], path: Path) -> Result:
    if len(claims) > 1:
        kinds = ", ".join(
            f"{each.budget}, {each.protocol}{' strict' * each.strict} on {each.network}" for each in claims
        )
        raise UsageError(
            f"{path} has {len(claims)} results of this set ({kinds}): give the line of one as a .json file."
        )
    return claims[0]
