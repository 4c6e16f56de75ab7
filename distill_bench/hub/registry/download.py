"""The files of published sets in the cache: resumed where they broke off, checked, fetched once for all who ask."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from distill_bench.errors import DataError, UsageError, brief
from distill_bench.hub.registry.registry import Entry, RemoteFile, checked_url
from distill_bench.runtime.files import cannot_write, read_json, write_atomically
from distill_bench.runtime.locks import alone
from distill_bench.runtime.log import log
from distill_bench.runtime.paths import home, offline
from distill_bench.runtime.progress import SILENT, Monitor, stopped

CHUNK = 1 << 14
"""Bytes read at once: so many at most are lost of what came before a connection broke off."""
STEP = 1000
FETCHES = "fetches the same file"
DRIVE = "drive.google.com"
PASSING = (408, 425, 429)
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
    """A file of the published set ``name``: out of the cache, where its sum is checked each time, else downloaded.

    Raises:
        DataError: it is not there and may not be downloaded, has no address, cannot be had, or has another sum than it
            should; then it is set aside, with the ending ``.bad``.
        Interrupted: asked to stop; what has come so far is kept.
    """
    path = kept_at(file, entry)
    if not path.exists() and (offline() or not may_download or not file.urls):
        raise DataError(_missing(file, name, entry))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.parent / ".lock", monitor, FETCHES):
            if path.exists():
                _check_kept(file, path, name)
            else:
                _download(file, path, name, entry, monitor, patience)
    except OSError as error:
        raise DataError(f"{name}: cannot keep {file.name} in {path.parent}: {error.strerror or error}.") from error
    return path


def take(given: Sequence[Path], name: str, entry: Entry) -> None:
    """Copy files that the user has fetched by hand into the cache. They themselves stay as they are.

    Raises:
        UsageError: one is not among the set's files, or one too many; nothing was copied.
        DataError: one cannot be read or kept, or has another sum than it should.
    """
    for path in given:
        if not path.is_file():
            raise DataError(f"--file {path}: no such file.")
    for path, (file, found) in _assigned(given, name, entry).items():
        kept = kept_at(file, entry)
        if _known_sum(file, kept) not in (None, found):
            raise DataError(
                f"{path} is not the {file.name} of {name}. {_sums(file, kept, found)} It was left as it is."
            )
        with alone(kept.parent / ".lock", SILENT, FETCHES):
            beside = kept.with_name(kept.name + ".copy")
            try:
                shutil.copyfile(path, beside)
                _pin(file, kept, found)
                os.replace(beside, kept)
            except OSError as error:
                raise cannot_write(kept, error) from error


def _assigned(given: Sequence[Path], name: str, entry: Entry) -> dict[Path, tuple[RemoteFile, str]]:
    """Which file of the set each given one is, with its sum: first by sums, then by names; one for one is the one."""
    sums = {path: sha256_of(path) for path in given}
    found: dict[Path, tuple[RemoteFile, str]] = {}
    fits: tuple[Callable[[RemoteFile, Path], bool], ...] = (
        lambda file, path: _known_sum(file, kept_at(file, entry)) == sums[path],
        lambda file, path: file.name == path.name,
        lambda file, path: len(entry.files) == len(sums) == 1,
    )
    for fit in fits:
        for path in [path for path in sums if path not in found]:
            taken = [file for file, _ in found.values()]
            fitting = [file for file in entry.files if file not in taken and fit(file, path)]
            if fitting:
                found[path] = fitting[0], sums[path]
    if surplus := [str(path) for path in sums if path not in found]:
        known = {file.name: f" ({path})" for path, (file, _) in found.items()}
        files = ", ".join(file.name + known.get(file.name, "") for file in entry.files)
        raise UsageError(
            f"--file {surplus[0]}: not one of the files of {name}, which are {files}. Leave it out; nothing was taken."
        )
    return found


def kept_at(file: RemoteFile, entry: Entry) -> Path:
    """Where a file lies in the cache: under its sum, or under its page and path where the sum is not known."""
    key = file.sha256 or hashlib.sha256(json.dumps([entry.page, file.path]).encode()).hexdigest()
    return home() / "published" / "files" / key[:16] / file.name


def sha256_of(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _check_kept(file: RemoteFile, path: Path, name: str) -> None:
    found = sha256_of(path)
    _pin(file, path, found)
    if _known_sum(file, path) != found:
        bad = _set_aside(path)
        raise DataError(
            f"{name}: {file.name} was damaged in the cache. {_sums(file, path, found)} It was set aside as {bad}. "
            "Run the same command again to fetch it anew."
        )


def _known_sum(file: RemoteFile, path: Path) -> str | None:
    """The sum that a file must have: the registry's, else that of the first one that was kept at ``path``."""
    pin = _pin_of(path)
    return file.sha256 or (pin.read_text().strip() if pin.exists() else None)


def _pin(file: RemoteFile, path: Path, found: str) -> None:
    """Keep a sum that is not known. Done before the file is there, so that no file is without."""
    if _known_sum(file, path) is None:
        write_atomically(_pin_of(path), found + "\n")
        log.warning(
            "the registry has no sum for %s. That of this one, sha256 %s, is kept; a later file must have it.",
            file.path,
            found,
        )


def _pin_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _download(file: RemoteFile, path: Path, name: str, entry: Entry, monitor: Monitor, patience: Patience) -> None:
    """Ask one address after the other; under the lock."""
    import pooch  # here, because importing it takes a moment

    pooch.get_logger().setLevel(logging.WARNING)
    expected, reasons = _known_sum(file, path), []
    for url in file.urls:
        get = _Resuming(file, path, expected, monitor, patience)
        try:
            pooch.retrieve(url, expected and f"sha256:{expected}", path.name, path.parent, downloader=get)
        except _Refused as error:
            reasons.append(f"{url}: {error}")
            continue
        return
    raise DataError(f"{name}: {file.name} cannot be had. {' '.join(reasons)} {_by_hand(file, name, entry)}")


@dataclass
class _Resuming:
    """A downloader for pooch, whose own begin again from nothing: goes on with a file that broke off, and checks it."""

    file: RemoteFile
    path: Path
    expected: str | None
    monitor: Monitor
    patience: Patience

    def __call__(self, url: str, output: str, pooch: Any) -> None:
        part = self.path.with_name(self.path.name + ".part")
        resumed = _size(part) > 0
        self._pull_patiently(url, part)
        if resumed and self.expected not in (None, sha256_of(part)):
            part.unlink(missing_ok=True)  # what was there before may have been of another file, from another address
            self._pull_patiently(url, part)
        found = sha256_of(part)
        if self.expected not in (None, found):
            bad = _set_aside(part, self.path.name)
            raise _Refused(f"{_sums(self.file, self.path, found)} It was set aside as {bad}.")
        _pin(self.file, self.path, found)
        _tag_of(part).unlink(missing_ok=True)
        os.replace(part, output)

    def _pull_patiently(self, url: str, part: Path) -> None:
        pull = _pull_drive if urlsplit(url).hostname == DRIVE else self._pull
        failures, furthest = 0, _size(part)
        while True:
            try:
                return pull(url, part)
            except _Broken as error:
                if _size(part) > furthest:
                    failures, furthest = 0, _size(part)
                failures += 1
                if failures >= self.patience.attempts:
                    raise _Refused(f"gave up after {failures} attempts: {error}.") from error
                time.sleep(self.patience.pause * 2 ** (failures - 1))
                if self.monitor.stop_requested:
                    raise stopped(f"with {_size(part):,} bytes of {self.file.name} kept") from error

    def _pull(self, url: str, part: Path) -> None:
        """Ask for what is missing of a file, and append it."""
        import requests

        have, tag = _size(part), _tag_of(part)
        if have and have == self.file.bytes and self.expected:
            return
        before = read_json(tag) or {}
        headers = {"Accept-Encoding": "identity"}  # lengths are of the file itself
        if have and before.get("url") == url and before.get("validator"):
            headers |= {"Range": f"bytes={have}-", "If-Range": before["validator"]}
        elif have and self.expected:
            headers["Range"] = f"bytes={have}-"
        try:
            with (
                _session() as session,
                session.get(url, headers=headers, stream=True, timeout=self.patience.timeout) as answer,
            ):
                self._append(answer, url, part, have)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _Broken(brief(error)) from error
        except requests.RequestException as error:
            raise _Refused(f"{brief(error)}.") from error

    def _append(self, answer: Any, url: str, part: Path, have: int) -> None:
        resumed = _is_rest(answer, part, have)
        start, length = have if resumed else 0, answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        if None not in (total, self.file.bytes) and total != self.file.bytes:
            raise _Refused(f"it has a file of {total:,} bytes; {self.file.bytes:,} are right.")
        if not resumed:
            _tag_of(part).write_text(json.dumps({"url": url, "validator": _validator(answer.headers)}))
        most, whole = self.file.bytes or self.patience.most_bytes, total or self.file.bytes
        monitor = self.monitor if whole else SILENT  # no end is known to count towards
        with (
            part.open("ab" if resumed else "wb") as out,
            monitor.stage(f"{self.file.name}, kB", (whole or 0) // STEP, start // STEP) as stage,
        ):
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                stage.advance((start + len(chunk)) // STEP - start // STEP)
                start += len(chunk)
                if start > most:
                    raise _Refused(f"it sends more than {most:,} bytes.")
                if self.monitor.stop_requested:
                    raise stopped(f"with {start:,} bytes of {self.file.name} kept")
        if self.file.bytes and start < self.file.bytes:
            raise _Broken(f"it ended after {start:,} of {self.file.bytes:,} bytes")


def _is_rest(answer: Any, part: Path, have: int) -> bool:
    """Whether an answer is what comes after the first ``have`` bytes, rather than all of a file.

    Raises:
        _Broken, _Refused: it is neither.
    """
    status, sent = answer.status_code, answer.headers.get("Content-Range", "")
    if status == 416 or (status == 206 and not sent.startswith(f"bytes {have}-")):
        part.unlink(missing_ok=True)  # it is of another file, or too long
        raise _Broken("the server does not have the rest of what is there already")
    if status >= 500 or status in PASSING:
        raise _Broken(f"status {status}")
    if status not in (200, 206):
        raise _Refused(f"status {status}.")
    return bool(status == 206)


def _session() -> Any:
    """Follows redirects to where files may be fetched from, and nowhere else."""
    import requests

    class Careful(requests.Session):
        def get_redirect_target(self, resp: Any) -> str | None:
            target: str | None = super().get_redirect_target(resp)
            if target is not None:
                try:
                    checked_url(urljoin(resp.url, target))
                except ValueError as error:
                    raise _Refused(f"it leads to {error}.") from error
            return target

    return Careful()


def _pull_drive(url: str, part: Path) -> None:
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


def _validator(headers: Any) -> str | None:
    """What tells a file from a later one at the same address; a weak ETag does not."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _tag_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _set_aside(path: Path, name: str | None = None) -> Path:
    bad = path.with_name((name or path.name) + ".bad")
    os.replace(path, bad)
    return bad


def _sums(file: RemoteFile, path: Path, found: str) -> str:
    both = f"Its sha256 is {found}; it must be {_known_sum(file, path)}."
    if file.sha256:
        return both
    return f"{both} That is the sum of the first one; if the authors have replaced it, delete {_pin_of(path)}."


def _missing(file: RemoteFile, name: str, entry: Entry) -> str:
    size = f", {file.bytes:,} bytes" if file.bytes else ""
    known = _known_sum(file, kept_at(file, entry)) or "not known"
    what, how = f"{name}: {file.name} (sha256 {known}{size})", _by_hand(file, name, entry)
    if not file.urls:
        return f"{what} has no stable address. {how}"
    if offline():
        return f"{what} is not in the cache, and DISTILL_BENCH_OFFLINE is set: unset it. {how}"
    return (
        f"{what} is not in the cache, and it may not be downloaded: run distill-bench download {name} without "
        f"--offline, or pass download=True. {how}"
    )


def _by_hand(file: RemoteFile, name: str, entry: Entry) -> str:
    hint = f" {entry.by_hand}" if entry.by_hand else ""
    every = " ".join(f"--file {other.name}" for other in entry.files)
    return (
        f"By hand: fetch {file.path} from {entry.page}, then run distill-bench download {name} {every}, with the paths "
        f"of your files.{hint}"
    )
