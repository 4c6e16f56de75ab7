"""Published sets by their id: fetched, imported, and kept in this project's format."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_bench.datasets import load_dataset
from distill_bench.distilled import distilled_set
from distill_bench.distilled.distilled_set import DistilledSet
from distill_bench.errors import DataError
from distill_bench.hub import import_release
from distill_bench.hub.registry.cached_file import CachedFile, take
from distill_bench.hub.registry.download import PATIENT, Patience, fetch
from distill_bench.hub.registry.registry import ID, OWN_FORMAT, Entry, own_registry, published, read_registry
from distill_bench.hub.registry.repository import is_repository, repository_set
from distill_bench.hub.registry.unpack import unpack
from distill_bench.runtime.hashing import canonical_hash, sha256_of
from distill_bench.runtime.locks import file_lock
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import cache_dir
from distill_bench.runtime.progress import SILENT, Monitor
from distill_bench.runtime.stored import read_json, sum_of, write_json

_SUMS = "sums.json"
_DECIDES_SET = {"method", "dataset", "size", "paper", "files", "importer", "options", "space", "protocol", "licence"}


@dataclass(frozen=True)
class CachedSet:
    """A published set in the cache.

    Attributes:
        paths: .safetensors files, one for each independent set that the release has.
        remarks: what the user should know of the import; empty if it was done before.
    """

    name: str
    entry: Entry
    paths: tuple[Path, ...]
    remarks: tuple[str, ...] = ()


def obtain(
    name: str,
    *,
    may_download: bool = True,
    given: Sequence[Path] = (),
    registry: Path | None = None,
    monitor: Monitor = SILENT,
    patience: Patience = PATIENT,
) -> CachedSet:
    """The set of an id, downloaded and imported where it has not been; taken from beside a registry that has it there.

    Args:
        name: the id.
        may_download: whether the network may be asked.
        given: files that the user has fetched by hand.
        registry: of one's own, besides the package's.
        monitor: hears of progress, and may ask to stop.
        patience: time-outs and attempts of downloads.

    Returns:
        The set, in the cache.

    Raises:
        UsageError: no set has that id, or a given file is none of its files.
        DataError: a file cannot be had or has a wrong sum, or is not what the registry says.
    """
    entry = published(name, registry)
    take(given or _beside_registry(name, entry, registry), name, entry)
    how = {"may_download": may_download, "monitor": monitor, "patience": patience}
    if entry.importer == OWN_FORMAT:
        path = fetch(entry.files[0], name, entry, **how)  # type: ignore[arg-type]
        _check(distilled_set.load_distilled(path), name, entry)
        return CachedSet(name, entry, (path,))
    remarks = list[str]()
    with file_lock(_folder(name, entry).with_name(f"{name}.lock"), monitor, "imports the same set"):
        paths = intact_sets(_folder(name, entry))
        if not paths:
            files = [_unpacked(CachedFile(file, entry), fetch(file, name, entry, **how)) for file in entry.files]  # type: ignore[arg-type]
            folder = _folder(name, entry)  # now that each file has its sum
            remarks = _import(files, name, entry, folder)
            paths = intact_sets(folder)
    return CachedSet(name, entry, paths, tuple(remarks))


def load_distilled(path: str | Path, download: bool | None = None, registry: Path | None = None) -> DistilledSet:
    """Read a set: from a file, a published one by its id, or a repository of the Hub. No code in a file is run.

    Args:
        path: a .safetensors file; an id such as ``"dm-cifar10-ipc1"``, of several independent sets the first; or
            ``"owner/name"``, a dataset repository of Hugging Face as ``publish`` writes it.
        download: whether what is not in the cache may be downloaded; an id not unless it is said, a repository yes.
        registry: of one's own, besides the package's.

    Returns:
        The set.

    Raises:
        DataError: the file is missing, damaged, of another kind, or its parts contradict each other; or a published
            set is not in the cache and may not be, or cannot be, downloaded.
        UsageError: neither a file nor a published set has that name, or ``huggingface_hub`` is not installed.
    """
    if is_repository(path):
        return distilled_set.load_distilled(repository_set(str(path), may_download=download is not False))
    if not is_id(path):
        return distilled_set.load_distilled(path)
    return distilled_set.load_distilled(obtain(str(path), may_download=bool(download), registry=registry).paths[0])


def is_id(name: str | Path) -> bool:
    """Whether a name is that of a published set rather than of a file."""
    return (
        isinstance(name, str)
        and ID.fullmatch(name) is not None
        and not name.endswith(".safetensors")
        and not os.path.exists(name)
    )


def _beside_registry(name: str, entry: Entry, registry: Path | None) -> list[Path]:
    """Files that the cache lacks and that lie where the user's own registry says, seen from its folder."""
    own = own_registry(registry)
    if own is None or name not in read_registry(own):
        return []
    missing = [file for file in entry.files if not CachedFile(file, entry).path.exists()]
    return [path for file in missing if os.path.isfile(path := own.parent / file.path)]


def _folder(name: str, entry: Entry) -> Path:
    sums = [CachedFile(file, entry).sum for file in entry.files]
    key = canonical_hash([entry.model_dump(mode="json", include=_DECIDES_SET), sums])
    return cache_dir() / "published" / "sets" / f"{name}-{key[:12]}"


def intact_sets(folder: Path) -> tuple[Path, ...]:
    """The sets that were imported into a folder before; none where one of them is not what was written."""
    sums = read_json(folder / _SUMS) if folder.exists() else None
    if sums is None:
        return ()
    paths = tuple(folder / name for name in sums)
    if not all(path.is_file() and sum_of(path) == sums[path.name] for path in paths):
        log.warning("%s is damaged; its sets are imported again.", folder)
        return ()
    return paths


def _unpacked(file: CachedFile, path: Path) -> Path:
    """What of a file is imported; unpacked under the archive's sum, so that another archive is not taken for it."""
    if (member := file.remote.member) is None:
        return path
    return unpack(path, member, path.with_name(f"{path.name}.unpacked-{canonical_hash([member, file.sum])[:8]}"))


def _import(paths: Sequence[Path], name: str, entry: Entry, folder: Path) -> list[str]:
    """Write the sets that a release has into a folder, all or none."""
    dataset = load_dataset(entry.dataset, size=entry.size)
    imported = import_release(
        paths,
        dataset,
        entry.space.of(dataset) if entry.space else None,
        entry.options.model_copy(update={"fraction": entry.fraction}),
        format=entry.importer,
        method=entry.method,
        protocol=entry.protocol,
    )
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        inside = Path(scratch) / "sets"
        inside.mkdir()
        for index, distilled in enumerate(imported.sets):
            distilled.card = distilled.card.model_copy(update={"paper": entry.paper, "licence": entry.licence})
            _check(distilled, name, entry)
            distilled.save(inside / f"{name}{'' if len(imported.sets) == 1 else f'-{index}'}.safetensors")
        sums = {path.name: sha256_of(path) for path in sorted(inside.iterdir())}
        write_json(inside / _SUMS, sums)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
        os.replace(inside, folder)
    return imported.remarks


def _check(distilled: DistilledSet, name: str, entry: Entry) -> None:
    card = distilled.card
    for what, has, said in (
        ("method", card.method, entry.method),
        ("dataset", card.source.name, entry.dataset),
        ("ipc", card.budget.ipc, entry.ipc),
        ("fraction", card.fraction, entry.fraction),
    ):
        if has != said:
            where = ", ".join(str(CachedFile(file, entry).path) for file in entry.files)
            raise DataError(f"{name}: the registry says {what} {said}, its files have {has} ({where}).")
