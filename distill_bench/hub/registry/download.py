"""The files of published sets over the network: one address after the other, checked, fetched once for all who ask.

Bytes are streamed by requests. pooch's downloader was tried and left: it goes on with nothing that broke off, and gives
no say over redirects, over how much a server may send, or over a request to stop.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from distill_bench.errors import DataError, brief
from distill_bench.hub.registry.cached_file import CachedFile
from distill_bench.hub.registry.registry import Entry, RemoteFile, checked_url
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.paths import offline
from distill_bench.runtime.progress import SILENT, Monitor, stopped

CHUNK = 1 << 14
"""Bytes read at once: so many at most are lost of what came before a connection broke off."""
_STEP = 1000
_DRIVE = "drive.google.com"
_TEMPORARY = (408, 425, 429)
"""Statuses below 500 that may be another one a moment later."""


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    Attributes:
        timeout: seconds without a connection or a byte.
        attempts: at one address, without coming any further.
        pause: seconds before the second attempt; each further one waits twice as long.
        most_bytes: of a file whose size is not known.
    """

    timeout: float = 30.0
    attempts: int = 5
    pause: float = 1.0
    most_bytes: int = 1 << 37


PATIENT = Patience()


class _Refused(Exception):
    """An address does not have the file, or has another; asking again would not help."""


class _Broken(Exception):
    """The connection broke off, or the server has trouble; asking again may help."""


def fetch(
    file: RemoteFile,
    name: str,
    entry: Entry,
    *,
    may_download: bool = True,
    monitor: Monitor = SILENT,
    patience: Patience = PATIENT,
) -> Path:
    """A file of a published set: out of the cache, where its sum is checked each time, else downloaded.

    Args:
        file: one of ``entry.files``.
        name: the set's id, for errors.
        entry: the set.
        may_download: whether the network may be asked.
        monitor: hears of progress, and says whether to stop.
        patience: how long is tried.

    Returns:
        Its path in the cache.

    Raises:
        DataError: it is not there and may not be downloaded, has no address, cannot be had, or has another sum than it
            should; then it is set aside, with the ending ``.bad``.
        Interrupted: asked to stop; what has come so far is kept.
    """
    cached = CachedFile(file, entry)
    path = cached.path
    if not path.exists() and (offline() or not may_download or not file.urls):
        raise DataError(_missing(cached, name, entry))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with cached.lock(monitor):
            if not path.exists():
                _download(cached, name, entry, monitor, patience)
            elif not cached.accept(sha256_of(path)):
                raise DataError(
                    f"{name}: {file.name} was damaged in the cache. {cached.set_aside(path)} "
                    "Run the same command again to fetch it anew."
                )
    except OSError as error:
        raise DataError(f"{name}: cannot keep {file.name} in {path.parent}: {error.strerror or error}.") from error
    return path


def _download(cached: CachedFile, name: str, entry: Entry, monitor: Monitor, patience: Patience) -> None:
    """Ask one address after the other; under the lock."""
    part, reasons = cached.path.with_name(cached.path.name + ".part"), []
    for url in cached.remote.urls:
        resumed = cached.sum is not None and _size(part) > 0
        try:
            _pull_patiently(url, part, cached, monitor, patience)
            if resumed and cached.sum != sha256_of(part):
                part.unlink()  # what was there before may have been of another file, from another address
                _pull_patiently(url, part, cached, monitor, patience)
            if not cached.accept(sha256_of(part)):
                raise _Refused(cached.set_aside(part))
        except _Refused as error:
            reasons.append(f"{url}: {error}")
            continue
        os.replace(part, cached.path)
        return
    name_it = f"{name}: {cached.path.name} cannot be had."
    raise DataError(f"{name_it} {' '.join(reasons)} {_manual_steps(cached.remote, name, entry)}")


def _pull_patiently(url: str, part: Path, cached: CachedFile, monitor: Monitor, patience: Patience) -> None:
    failures, furthest = 0, _size(part)
    while True:
        try:
            if urlsplit(url).hostname == _DRIVE:
                return _pull_from_drive(url, part)
            return _pull(url, part, cached, monitor, patience)
        except _Broken as error:
            if _size(part) > furthest:
                failures, furthest = 0, _size(part)
            failures += 1
            if failures >= patience.attempts:
                raise _Refused(f"gave up after {failures} attempts: {error}.") from error
            time.sleep(patience.pause * 2 ** (failures - 1))
            if monitor.stop_requested:
                raise stopped(f"with {_size(part):,} bytes of {cached.path.name} kept") from error


def _pull(url: str, part: Path, cached: CachedFile, monitor: Monitor, patience: Patience) -> None:
    """Ask for what is missing of a file; for all of it, where no sum would tell that the pieces are of two files."""
    import requests  # here, because importing it takes a moment

    start = _size(part) if cached.sum else 0
    headers = {"Accept-Encoding": "identity"}  # lengths are of the file itself
    if start:
        headers["Range"] = f"bytes={start}-"
    hooks = {"response": _check_redirect}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=patience.timeout, hooks=hooks) as answer:
            _append(answer, part, start if _is_rest(answer, part, start) else 0, cached.remote, monitor, patience)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Broken(brief(error)) from error
    except requests.RequestException as error:
        raise _Refused(f"{brief(error)}.") from error


def _check_redirect(answer: Any, *_: Any, **__: Any) -> None:
    """Called before a redirect is followed."""
    if answer.is_redirect:
        try:
            checked_url(urljoin(answer.url, answer.headers["Location"]))
        except ValueError as error:
            raise _Refused(f"it leads to {error}.") from error


def _is_rest(answer: Any, part: Path, start: int) -> bool:
    """Whether an answer is what comes after the first ``start`` bytes, rather than all of a file.

    Raises:
        _Broken, _Refused: it is neither.
    """
    status, sent = answer.status_code, answer.headers.get("Content-Range", "")
    if status == 416 or (status == 206 and not sent.startswith(f"bytes {start}-")):
        part.unlink(missing_ok=True)  # it is of another file, or too long
        raise _Broken("the server does not have the rest of what is there already")
    if status >= 500 or status in _TEMPORARY:
        raise _Broken(f"status {status}")
    if status not in (200, 206):
        raise _Refused(f"status {status}.")
    return bool(status == 206)


def _append(answer: Any, part: Path, start: int, file: RemoteFile, monitor: Monitor, patience: Patience) -> None:
    """Write a body behind the first ``start`` bytes, no more of it than the file may have."""
    length = answer.headers.get("Content-Length", "")
    total = start + int(length) if length.isdigit() else file.bytes
    if file.bytes and total != file.bytes:
        raise _Refused(f"it has a file of {total:,} bytes; {file.bytes:,} are right.")
    most = file.bytes or patience.most_bytes
    shown = monitor if total else SILENT  # no end is known to count towards
    stage = shown.stage(f"{file.name}, kB", (total or 0) // _STEP, start // _STEP)
    with part.open("ab" if start else "wb") as out, stage as progress:
        for chunk in answer.iter_content(CHUNK):
            out.write(chunk)
            progress.advance(out.tell() // _STEP - (out.tell() - len(chunk)) // _STEP)
            if out.tell() > most:
                raise _Refused(f"it sends more than {most:,} bytes.")
            if monitor.stop_requested:
                raise stopped(f"with {out.tell():,} bytes of {file.name} kept")
        if file.bytes and out.tell() < file.bytes:
            raise _Broken(f"it ended after {out.tell():,} of {file.bytes:,} bytes")


def _pull_from_drive(url: str, part: Path) -> None:
    try:
        import gdown
    except ImportError:
        raise _Refused("needs gdown: pip install 'distill_bench[hub]'.") from None
    try:
        done = gdown.download(url, str(part), quiet=True)
    except Exception as error:  # gdown raises errors of many types
        raise _Refused(f"{brief(error)}.") from error
    if done is None:
        raise _Refused("Google Drive does not give it.")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _missing(cached: CachedFile, name: str, entry: Entry) -> str:
    file, steps = cached.remote, _manual_steps(cached.remote, name, entry)
    size = f", {file.bytes:,} bytes" if file.bytes else ""
    what = f"{name}: {file.name} (sha256 {cached.sum or 'not known'}{size})"
    if not file.urls:
        return f"{what} has no stable address. {steps}"
    if offline():
        return f"{what} is not in the cache, and DISTILL_BENCH_OFFLINE is set: unset it. {steps}"
    return (
        f"{what} is not in the cache, and it may not be downloaded: run distill-bench download {name} without "
        f"--offline, or pass download=True. {steps}"
    )


def _manual_steps(file: RemoteFile, name: str, entry: Entry) -> str:
    hint = f" {entry.manual_steps}" if entry.manual_steps else ""
    every = " ".join(f"--file {other.name}" for other in entry.files)
    return (
        f"By hand: fetch {file.path} from {entry.page}, then run distill-bench download {name} {every}, with the paths "
        f"of your files.{hint}"
    )
