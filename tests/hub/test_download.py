"""Downloads from a real server on this machine, which stalls, breaks off, lies, and has other bytes than it should."""

import errno
import hashlib
import io
import os
import shutil
import sys
import tarfile
import threading
import time
import types
import zipfile
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy
import pytest
import torch
from filelock import FileLock
from PIL import Image

from distill_bench import DataError, DistilledSet, Interrupted, Protocol, UsageError, load_distilled
from distill_bench.hub.registry import published as published_room
from distill_bench.hub.registry.cached_file import CachedFile, take
from distill_bench.hub.registry.download import Patience, fetch
from distill_bench.hub.registry.published import is_id, obtain
from distill_bench.hub.registry.registry import Entry, RemoteFile
from distill_bench.hub.registry.unpack import unpack
from distill_bench.runtime import locks
from distill_bench.runtime.hashing import sha256_of
from distill_bench.runtime.progress import SilentMonitor

CONTENT = numpy.random.default_rng(0).bytes(300_000)
SUM = hashlib.sha256(CONTENT).hexdigest()
QUICK = Patience(timeout=10.0, attempts=3, pause=0.001)
STALL = 0.5
PAGE = "https://example.org/sets"


@dataclass
class Behaviour:
    """What the server does with one path. Counters that are above 0 go down with every request they spoil."""

    content: bytes = CONTENT
    ranges: bool = True
    fail: int = 0
    status: int = 503
    stall: int = 0
    truncate: int = 0
    said_length: int | None = None
    unsaid: bool = False
    redirect: str | None = None
    delay: float = 0.0
    asked: list[str | None] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        it = self.server.paths.get(self.path)
        self.close_connection = True
        if it is None:
            return self.answer(404, b"")
        it.asked.append(self.headers.get("Range"))
        if it.redirect:
            self.send_response(302)
            self.send_header("Location", it.redirect)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            return self.end_headers()
        if it.fail:
            it.fail -= 1
            return self.answer(it.status, b"")
        time.sleep(it.delay)
        start = 0
        wanted = self.headers.get("Range")
        if it.ranges and wanted:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(it.content):
                return self.answer(416, b"")
        body, headers = it.content[start:], {}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(it.content) - 1}/{len(it.content)}"
        if not it.unsaid:
            headers["Content-Length"] = str(it.said_length if it.said_length is not None else len(body))
        if it.truncate:
            it.truncate -= 1
            body = body[: len(body) // 2]
        self.answer(206 if start else 200, body[: len(body) // 2], headers)
        if it.stall:
            it.stall -= 1
            self.wfile.flush()
            return time.sleep(3 * STALL)
        self.wfile.write(body[len(body) // 2 :])

    def answer(self, status, body, headers=None):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} if headers is None else headers).items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # a client that goes away is part of the tests
    server.paths = {}
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def online(server, tmp_path, monkeypatch):
    """The server's paths, an empty cache, and the network allowed."""
    monkeypatch.delenv("DISTILL_BENCH_OFFLINE")
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server.paths.clear()
    server.paths["/set.pt"] = Behaviour()
    return server


def entry_of(*files: RemoteFile, **fields) -> Entry:
    usual = {"method": "dm", "dataset": "digits", "ipc": 1, "importer": "mtt", "protocol": "dsa-v1", "page": PAGE}
    return Entry.model_validate(usual | fields | {"files": files})


def remote(server, *paths: str, sha256: str | None = SUM, size: int | None = len(CONTENT)) -> RemoteFile:
    urls = [server.address + path for path in paths or ("/set.pt",)]
    return RemoteFile(path="IPC1/set.pt", urls=urls, sha256=sha256, bytes=size)


def kept_at(file: RemoteFile):
    return CachedFile(file, entry_of(file)).path


def get(file: RemoteFile, **options):
    return fetch(file, "a-set", entry_of(file), **({"patience": QUICK} | options))


def test_a_file_is_downloaded_once_and_checked(online):
    file = remote(online)
    path = get(file)
    assert path.read_bytes() == CONTENT
    assert path.name == "set.pt"
    assert get(file) == path
    assert online.paths["/set.pt"].asked == [None]
    assert sorted(item.name for item in path.parent.iterdir()) == [".lock", "set.pt"]


def test_what_broke_off_is_gone_on_with(online):
    it = online.paths["/set.pt"] = Behaviour(truncate=2)
    assert get(remote(online)).read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=")[:-1]) for asked in it.asked[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] < starts[1] < len(CONTENT)


def test_a_server_that_stalls_is_left_and_asked_for_the_rest(online):
    it = online.paths["/set.pt"] = Behaviour(stall=1)
    patience = Patience(timeout=STALL, attempts=9, pause=0.001)  # a busy machine may seem to stall too
    assert get(remote(online), patience=patience).read_bytes() == CONTENT
    assert it.asked[0] is None
    assert int(it.asked[-1].removeprefix("bytes=")[:-1]) > 0


def test_coming_further_is_not_failing(online):
    online.paths["/set.pt"] = it = Behaviour(truncate=3)
    assert get(remote(online), patience=replace(QUICK, attempts=2)).read_bytes() == CONTENT
    assert len(it.asked) == 4


def test_a_server_without_ranges_starts_over(online):
    it = online.paths["/set.pt"] = Behaviour(ranges=False, truncate=1)
    assert get(remote(online)).read_bytes() == CONTENT
    assert len(it.asked) == 2
    assert it.asked[1].startswith("bytes=")


def test_a_later_process_goes_on_with_the_partial_file(online):
    online.paths["/set.pt"] = it = Behaviour(truncate=1, fail=0)
    file = remote(online)
    with pytest.raises(DataError, match="gave up after 1 attempts"):
        get(file, patience=replace(QUICK, attempts=1))
    part = kept_at(file).with_name("set.pt.part")
    have = part.stat().st_size
    assert 0 < have < len(CONTENT)
    assert get(file).read_bytes() == CONTENT
    assert it.asked == [None, f"bytes={have}-"]


def test_a_partial_file_of_another_version_is_not_continued(online):
    """Without a sum nothing would tell that the pieces are of two."""
    online.paths["/set.pt"] = Behaviour(truncate=1)
    file = remote(online, sha256=None, size=None)
    with pytest.raises(DataError):
        get(file, patience=replace(QUICK, attempts=1))
    later = CONTENT[::-1]
    online.paths["/set.pt"] = Behaviour(content=later)
    assert get(file).read_bytes() == later


def test_without_a_sum_a_download_starts_over(online):
    it = online.paths["/set.pt"] = Behaviour(truncate=1)
    assert get(remote(online, sha256=None, size=None)).read_bytes() == CONTENT
    assert it.asked == [None, None]


@pytest.mark.parametrize("status", [500, 503, 429])
def test_two_failures_are_waited_out(online, status):
    it = online.paths["/set.pt"] = Behaviour(fail=2, status=status)
    assert get(remote(online)).read_bytes() == CONTENT
    assert len(it.asked) == 3


def test_pauses_double(online, monkeypatch):
    pauses = []
    monkeypatch.setattr("distill_bench.hub.registry.download.time.sleep", lambda seconds: pauses.append(seconds))
    online.paths["/set.pt"] = Behaviour(fail=9)
    with pytest.raises(DataError, match="gave up after 4 attempts: status 503"):
        get(remote(online), patience=Patience(attempts=4, pause=0.5))
    assert pauses == [0.5, 1.0, 2.0]


def test_what_is_not_there_is_asked_for_once_then_the_next_mirror(online):
    online.paths["/gone.pt"] = gone = Behaviour(fail=9, status=404)
    assert get(remote(online, "/gone.pt", "/set.pt")).read_bytes() == CONTENT
    assert len(gone.asked) == 1


def test_what_a_bad_mirror_left_does_not_spoil_a_good_one(online):
    online.paths["/wrong.pt"] = Behaviour(content=CONTENT[::-1], truncate=99)
    good = online.paths["/set.pt"]
    assert get(remote(online, "/wrong.pt", "/set.pt"), patience=replace(QUICK, attempts=1)).read_bytes() == CONTENT
    assert good.asked[0] is not None
    assert good.asked[1:] == [None]


def test_every_mirror_is_named_when_none_has_it(online):
    online.paths["/broken.pt"] = Behaviour(fail=99)
    with pytest.raises(DataError) as error:
        get(remote(online, "/gone.pt", "/broken.pt"))
    text = str(error.value)
    assert "/gone.pt: status 404." in text
    assert "/broken.pt: gave up after 3 attempts: status 503." in text
    assert f"By hand: fetch IPC1/set.pt from {PAGE}, then run distill-bench download a-set --file set.pt" in text


def test_redirects_are_followed_but_not_to_plain_http(online):
    online.paths["/here.pt"] = Behaviour(redirect=online.address + "/set.pt")
    assert get(remote(online, "/here.pt")).read_bytes() == CONTENT
    foreign = online.address.replace("127.0.0.1", "127.0.0.2")
    online.paths["/away.pt"] = Behaviour(redirect=foreign + "/set.pt")
    with pytest.raises(DataError, match=r"it leads to http://127\.0\.0\.2.*give an https address"):
        get(remote(online, "/away.pt", sha256="0" * 64))


def test_wrong_bytes_are_set_aside_and_the_next_mirror_is_asked(online):
    wrong = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    online.paths["/wrong.pt"] = Behaviour(content=wrong)
    path = get(remote(online, "/wrong.pt", "/set.pt"))
    assert path.read_bytes() == CONTENT
    assert path.with_name("set.pt.bad").read_bytes() == wrong


def test_wrong_bytes_everywhere_are_an_error_with_both_sums(online):
    wrong = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    online.paths["/set.pt"] = Behaviour(content=wrong)
    file = remote(online)
    with pytest.raises(DataError) as error:
        get(file)
    assert error.value.exit_code == 3
    assert SUM in str(error.value)
    assert hashlib.sha256(wrong).hexdigest() in str(error.value)
    assert not kept_at(file).exists()
    assert kept_at(file).with_name("set.pt.bad").read_bytes() == wrong


def test_a_file_damaged_in_the_cache_is_set_aside_not_deleted(online):
    file = remote(online)
    path = get(file)
    damaged = path.read_bytes()[:-1] + b"?"
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged in the cache\. Its sha256 is .* it must be " + SUM):
        get(file)
    assert path.with_name("set.pt.bad").read_bytes() == damaged
    assert get(file).read_bytes() == CONTENT


def test_a_length_that_is_not_the_registrys_is_refused_before_the_body(online):
    online.paths["/set.pt"] = it = Behaviour(said_length=len(CONTENT) + 5)
    with pytest.raises(DataError, match=r"it has a file of 300,005 bytes; 300,000 are right"):
        get(remote(online))
    assert len(it.asked) == 1


def test_a_server_that_says_more_than_it_sends_is_not_believed(online):
    online.paths["/set.pt"] = Behaviour(said_length=len(CONTENT) + 5, ranges=False)
    with pytest.raises(DataError, match="gave up after 3 attempts"):
        get(remote(online, size=None))


def test_a_server_that_does_not_say_how_much_is_read_to_the_end_and_no_further(online):
    online.paths["/set.pt"] = Behaviour(unsaid=True)
    assert get(remote(online)).read_bytes() == CONTENT
    online.paths["/endless.pt"] = Behaviour(unsaid=True, content=CONTENT * 3)
    with pytest.raises(DataError, match="sends more than 300,000 bytes"):
        get(remote(online, "/endless.pt", sha256="0" * 64))
    with pytest.raises(DataError, match="sends more than 200,000 bytes"):
        get(remote(online, "/endless.pt", sha256=None, size=None), patience=replace(QUICK, most_bytes=200_000))


def test_a_partial_file_that_is_too_long_starts_over(online):
    file = remote(online)
    part = kept_at(file).with_name("set.pt.part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT + b"more")
    assert get(file).read_bytes() == CONTENT
    part.write_bytes(CONTENT + b"more")
    kept_at(file).unlink()
    assert get(remote(online, size=None)).read_bytes() == CONTENT


def test_an_unknown_sum_is_pinned_at_the_first_download_and_holds(online, caplog):
    file = remote(online, sha256=None, size=None)
    path = get(file)
    assert path.with_name("set.pt.sha256").read_text() == SUM + "\n"
    assert f"That of this one, sha256 {SUM}, is kept" in caplog.text
    path.unlink()
    caplog.clear()
    online.paths["/set.pt"].content = CONTENT[::-1]
    with pytest.raises(DataError, match=rf"it must be {SUM}.*delete .*set\.pt\.sha256"):
        get(file)
    assert path.with_name("set.pt.sha256").read_text() == SUM + "\n"
    assert caplog.text == ""


def test_pinned_files_are_told_apart_by_page_and_path_whatever_their_addresses(online):
    def kept(path="a/x.pt", page=PAGE, urls=()):
        file = RemoteFile(path=path, urls=urls)
        return CachedFile(file, entry_of(file, page=page)).path

    assert kept(urls=["https://example.org/x.pt"]) == kept()
    assert len({kept(), kept(path="b/x.pt"), kept(page="https://example.org/other")}) == 3


def test_a_file_without_a_pin_is_kept_and_pinned(online):
    file = remote(online, sha256=None, size=None)
    path = get(file)
    path.with_name("set.pt.sha256").unlink()
    assert get(file) == path
    assert path.with_name("set.pt.sha256").read_text() == SUM + "\n"


def test_a_request_to_stop_is_heard_while_a_server_is_dead(online):
    class Stopping(SilentMonitor):
        stop_requested = True

    online.paths["/set.pt"] = it = Behaviour(fail=99)
    with pytest.raises(Interrupted):
        get(remote(online), monitor=Stopping())
    assert len(it.asked) == 1


def test_a_request_to_stop_is_heard_while_another_process_fetches(online, monkeypatch):
    class Stopping(SilentMonitor):
        stop_requested = True

    monkeypatch.setattr(locks, "LOCK_POLL_SECONDS", 0.05)
    file = remote(online)
    lock = kept_at(file).parent / ".lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(Interrupted, match="fetches the same file"):
        get(file, monitor=Stopping())


@pytest.mark.parametrize(("size", "totals"), [(len(CONTENT), [300]), (None, [])])
def test_progress_has_an_end_or_is_not_shown(online, size, totals):
    class Listening(SilentMonitor):
        def stage(self, title, total, done=0):
            seen.append(total)
            return super().stage(title, total, done)

    seen: list[int] = []
    online.paths["/set.pt"] = Behaviour(unsaid=True)
    get(remote(online, size=size), monitor=Listening())
    assert seen == totals


def test_a_cache_that_cannot_be_written_is_said(online, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "file" / "home"))
    with pytest.raises(DataError, match=r"a-set: cannot keep set\.pt in .*: Not a directory"):
        get(remote(online))


def test_a_sum_is_pinned_before_the_file_is_there(online, monkeypatch):
    """A kill between the two must not leave a file that nothing holds to its sum."""

    replaced = os.replace

    def killed_at_the_end(source, target):
        if target == kept_at(file):
            raise KeyboardInterrupt
        replaced(source, target)

    file = remote(online, sha256=None, size=None)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed_at_the_end)
        with pytest.raises(KeyboardInterrupt):
            get(file)
    assert kept_at(file).with_name("set.pt.sha256").read_text() == SUM + "\n"


def test_two_callers_fetch_once(online):
    online.paths["/set.pt"] = it = Behaviour(delay=0.1)
    file, got = remote(online), []
    threads = [threading.Thread(target=lambda: got.append(get(file))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in got] == [True, True]
    assert it.asked == [None]


def test_a_request_to_stop_keeps_what_there_is(online):
    class Stopping(SilentMonitor):
        stop_requested = True

    file = remote(online)
    with pytest.raises(Interrupted, match=r"of set\.pt kept"):
        get(file, monitor=Stopping())
    assert 0 < kept_at(file).with_name("set.pt.part").stat().st_size < len(CONTENT)
    assert get(file).read_bytes() == CONTENT


def test_offline_takes_what_is_there_and_says_what_is_not(online, monkeypatch):
    file = remote(online)
    with pytest.raises(DataError, match=rf"set.pt \(sha256 {SUM}, 300,000 bytes\) is not in the cache, and it may not"):
        get(file, may_download=False)
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")
    with pytest.raises(DataError, match="DISTILL_BENCH_OFFLINE is set: unset it"):
        get(file)
    assert online.paths["/set.pt"].asked == []
    monkeypatch.delenv("DISTILL_BENCH_OFFLINE")
    path = get(file)
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")
    assert get(file) == path


def drive_file(sha256=SUM):
    return RemoteFile(path="set.pt", urls=["https://drive.google.com/uc?id=abc"], sha256=sha256)


def test_google_drive_goes_through_gdown(online, monkeypatch):
    def download(url, output, quiet):
        assert url == "https://drive.google.com/uc?id=abc"
        with open(output, "wb") as out:
            out.write(CONTENT)
        return output

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
    assert get(drive_file()).read_bytes() == CONTENT
    with pytest.raises(DataError, match=f"it must be {'0' * 64}"):
        get(drive_file("0" * 64))


def test_google_drive_without_gdown_says_what_to_install(online, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DataError, match=r"needs gdown: pip install 'distill_bench\[hub\]'"):
        get(drive_file())

    def refuse(url, output, quiet):
        raise RuntimeError("too many\nusers")

    for download, said in ((refuse, "too many users"), (lambda *_, **__: None, "does not give it")):
        monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=download))
        with pytest.raises(DataError, match=said):
            get(drive_file())


def test_a_file_fetched_by_hand_is_checked_copied_and_left_alone(online, tmp_path, caplog):
    file = RemoteFile(path="IPC1/set.pt", sha256=SUM, bytes=len(CONTENT))
    entry = entry_of(file, RemoteFile(path="lr.pt"), manual_steps="Mind the gap.")
    with pytest.raises(
        DataError, match=r"has no stable address\. By hand: .* --file set.pt --file lr.pt.* Mind the gap"
    ):
        fetch(file, "a-set", entry)
    mine = tmp_path / "renamed.bin"
    mine.write_bytes(CONTENT)
    take([mine], "a-set", entry)
    assert fetch(file, "a-set", entry).read_bytes() == mine.read_bytes() == CONTENT
    wrong = tmp_path / "set.pt"
    wrong.write_bytes(b"wrong")
    with pytest.raises(DataError, match=f"is not the set.pt of a-set.*it must be {SUM}. It was left as it is"):
        take([wrong], "a-set", entry)
    assert wrong.read_bytes() == b"wrong"
    (tmp_path / "other.pt").write_bytes(b"other")
    with pytest.raises(UsageError, match=r"not one of the files of a-set, which are set.pt, lr.pt"):
        take([tmp_path / "other.pt"], "a-set", entry)
    with pytest.raises(DataError, match="no such file"):
        take([tmp_path / "nothing"], "a-set", entry)
    (tmp_path / "lr.pt").write_bytes(b"rate")
    take([tmp_path / "lr.pt"], "a-set", entry)
    assert "the registry has no sum for lr.pt" in caplog.text


def test_a_full_disk_while_a_file_by_hand_is_copied_is_said(online, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    mine = tmp_path / "set.pt"
    mine.write_bytes(CONTENT)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(DataError, match=r"cannot write .*set\.pt: No space left on device"):
        take([mine], "a-set", entry_of(RemoteFile(path="set.pt", sha256=SUM)))


def zipped(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def taped(path, members: dict[str, bytes], link: str | None = None):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    return path


@pytest.mark.parametrize("pack", [zipped, taped])
def test_a_member_is_taken_by_its_exact_name(tmp_path, pack):
    archive = pack(tmp_path / "archive", {"sets/IPC1/a.pt": b"a", "sets/IPC1/b.pt": b"b"})
    assert unpack(archive, "sets/IPC1/b.pt", tmp_path / "out").read_bytes() == b"b"
    assert [path.name for path in (tmp_path / "out").rglob("*.pt")] == ["b.pt"]
    with pytest.raises(DataError, match=r"has no b.pt; it has sets/IPC1/a.pt, sets/IPC1/b.pt"):
        unpack(archive, "b.pt", tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("pack", [zipped, taped])
def test_everything_is_the_folder_that_has_more_than_one(tmp_path, pack):
    members = {"set/new000/a.jpg": b"a", "set/new001/b.jpg": b"b", "__MACOSX/set/._x": b"c"}
    found = unpack(pack(tmp_path / "archive", members), ".", tmp_path / "out")
    assert found == tmp_path / "out" / "set"
    assert sorted(path.name for path in found.iterdir()) == ["new000", "new001"]


@pytest.mark.parametrize("pack", [zipped, taped])
@pytest.mark.parametrize("name", ["../evil", "/evil", "a/../../evil", "C:\\evil"])
def test_no_member_leaves_the_folder(tmp_path, pack, name):
    archive = pack(tmp_path / "archive", {"good": b"g", name: b"evil"})
    with pytest.raises(DataError, match="a member's name leads elsewhere"):
        unpack(archive, ".", tmp_path / "a" / "out")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "a" / "out").exists()


@pytest.mark.parametrize("form", ["tar.gz", "deflate", "lzma"])
def test_a_flipped_bit_in_an_archive_is_an_error_or_changes_nothing(tmp_path, form):
    content = numpy.random.default_rng(1).bytes(150)
    if form == "tar.gz":
        taped(tmp_path / "archive", {"x": content})
    else:
        method = zipfile.ZIP_LZMA if form == "lzma" else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(tmp_path / "archive", "w", method) as archive:
            archive.writestr("x", content * 2)
    whole, caught = (tmp_path / "archive").read_bytes(), 0
    for place in range(0, len(whole), 3):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        (tmp_path / "flipped").write_bytes(flipped)
        try:
            found = unpack(tmp_path / "flipped", "x", tmp_path / str(place))
        except DataError:
            caught += 1
        else:
            assert found.read_bytes() in (content, content * 2)
    assert caught > 40


def test_links_bombs_and_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="link is a link or a device"):
        unpack(taped(tmp_path / "a.tgz", {"x": b"x"}, link="/etc/passwd"), ".", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link is a link, which is refused"):
        unpack(tmp_path / "b.zip", ".", tmp_path / "out")
    with pytest.raises(DataError, match="unfolds to more than 1,000 bytes"):
        unpack(zipped(tmp_path / "c.zip", {"zeros": bytes(5000)}), ".", tmp_path / "out", most=1000)
    (tmp_path / "d").write_bytes(b"neither")
    with pytest.raises(DataError, match="neither a zip nor a tar"):
        unpack(tmp_path / "d", ".", tmp_path / "out")
    damaged = bytearray(zipped(tmp_path / "e.zip", {"x": bytes(range(256)) * 9}).read_bytes())
    damaged[60] ^= 255
    (tmp_path / "e.zip").write_bytes(damaged)
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(tmp_path / "e.zip", ".", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def saved(*tensors) -> list[bytes]:
    found = []
    for tensor in tensors:
        out = io.BytesIO()
        torch.save(tensor, out)
        found.append(out.getvalue())
    return found


def registry_of(path, name: str, server, files: dict[str, bytes], **fields):
    """A registry with one set, whose files are on the server."""
    lines = [f"[{name}]", f'page = "{PAGE}"']
    lines += [f"{key} = {value!r}".replace("'", '"') for key, value in fields.items()]
    for file, content in files.items():
        server.paths[f"/{file}"] = Behaviour(content=content)
        lines += [f"[[{name}.files]]", f'path = "{file}"', f'urls = ["{server.address}/{file}"]']
        lines += [f'sha256 = "{hashlib.sha256(content).hexdigest()}"', f"bytes = {len(content)}"]
        lines += ['member = "."'] if file.endswith(".zip") else []
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def mtt_registry(online, tmp_path):
    noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images, labels = saved(noise, torch.arange(10))
    fields = {"method": "mtt", "dataset": "digits", "ipc": 1, "importer": "mtt", "protocol": "quick-v1"}
    fields |= {"paper": "Mine, 2024", "note": "Of noise."}
    files = {"i.pt": images, "l.pt": labels}
    toml = registry_of(tmp_path / "own.toml", "mtt-digits-ipc1", online, files, **fields)
    more = 'space = { kind = "normalized" }\nclaim = { accuracy = 12.5, source = "a guess" }\nnote'
    toml.write_text(toml.read_text().replace("note", more, 1))
    return toml


def test_an_id_becomes_a_set_by_command_and_from_python(command, mtt_registry, online, monkeypatch):
    code, _, said = command("evaluate", "mtt-digits-ipc1", "--registry", mtt_registry)
    assert code == 3
    assert "i.pt (sha256 " in said and "run distill-bench download mtt-digits-ipc1" in said
    code, out, said = command("download", "mtt-digits-ipc1", "--registry", mtt_registry)
    assert code == 0, said
    path, _, about = out.partition(": ")
    assert about.startswith("mtt, 10 images, ipc 1, normalized pixels, hard labels, its protocol quick-v1")
    assert "claimed: 12.5 % (a guess)" in said and "Of noise." in said and "learning rate 0.01" in said
    monkeypatch.setenv("DISTILL_BENCH_REGISTRY", str(mtt_registry))
    monkeypatch.setenv("DISTILL_BENCH_OFFLINE", "1")
    made = load_distilled("mtt-digits-ipc1")
    assert made.card == load_distilled(path).card
    assert (made.card.paper, made.card.protocol) == ("Mine, 2024", "quick-v1")
    plan = Protocol.plan
    monkeypatch.setattr(Protocol, "plan", lambda *args, **options: replace(plan(*args, **options), epochs=2))
    code, out, said = command("evaluate", "mtt-digits-ipc1", "--networks", "1", "--compile", "off")
    assert code == 0, said
    verdict = "not resolved: claimed 12.5 %; measured "
    assert "protocol quick-v1" in out and f"claimed: 12.5 % (a guess)\n{verdict}" in out
    assert command("download", "mtt-digits-ipc1", "--offline")[0] == 0
    assert len(online.paths["/i.pt"].asked) == 1


def test_python_downloads_only_when_asked(mtt_registry):
    with pytest.raises(DataError, match="pass download=True"):
        load_distilled("mtt-digits-ipc1", registry=mtt_registry)
    assert load_distilled("mtt-digits-ipc1", download=True, registry=mtt_registry).card.method == "mtt"
    with pytest.raises(UsageError, match="no published set is called 'mtt-nothing'"):
        load_distilled("mtt-nothing", download=True)


def test_the_projects_own_format_needs_no_import_and_a_flipped_byte_is_caught(command, online, tmp_path, digits):
    noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    made = DistilledSet.from_tensors(noise, torch.arange(10), digits, method="dm", protocol="quick-v1")
    fields = {"method": "dm", "dataset": "digits", "ipc": 1, "protocol": "quick-v1"}
    toml = registry_of(tmp_path / "own.toml", "dm-digits-ipc1", online, {"dm.safetensors": made.to_bytes()}, **fields)
    code, out, said = command("download", "dm-digits-ipc1", "--registry", toml)
    assert code == 0, said
    kept = obtain("dm-digits-ipc1", registry=toml, may_download=False).paths[0]
    assert out.startswith(f"{kept}: dm, 10 images")
    assert load_distilled("dm-digits-ipc1", registry=toml).sha256 == made.sha256
    flipped = bytearray(made.to_bytes())
    flipped[-1] ^= 1
    kept.write_bytes(flipped)
    with pytest.raises(DataError, match="damaged in the cache"):
        load_distilled("dm-digits-ipc1", registry=toml)
    online.paths["/dm.safetensors"].content = bytes(flipped)
    code, _, said = command("download", "dm-digits-ipc1", "--registry", toml)
    assert code == 3
    assert made.sha256 in said and sha256_of(kept.with_name(kept.name + ".bad")) in said
    toml.write_text(toml.read_text().replace("ipc = 1\n", "ipc = 2\n"))
    online.paths["/dm.safetensors"].content = made.to_bytes()
    with pytest.raises(DataError, match="the registry says ipc 2, its files have 1"):
        obtain("dm-digits-ipc1", registry=toml)


def test_files_beside_a_registry_are_taken_from_there_if_their_sum_is_right(command, tmp_path, digits):
    noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    made = DistilledSet.from_tensors(noise, torch.arange(10), digits, method="dm", protocol="quick-v1")
    lies = tmp_path / "theirs" / "sets" / "dm.safetensors"
    made.save(lies)
    toml = tmp_path / "theirs" / "registry.toml"
    toml.write_text(
        f'[dm-mine]\npage = "{PAGE}"\nmethod = "dm"\ndataset = "digits"\nipc = 1\nprotocol = "quick-v1"\n'
        f'[[dm-mine.files]]\npath = "sets/dm.safetensors"\nsha256 = "{made.sha256}"\n'
    )
    whole = lies.read_bytes()
    lies.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=f"dm.safetensors of dm-mine. Its sha256 is .* it must be {made.sha256}"):
        obtain("dm-mine", registry=toml)
    lies.write_bytes(whole)
    code, out, said = command("download", "dm-mine", "--registry", toml, "--offline")
    assert code == 0, said
    assert out.partition(": ")[0] != str(lies) and lies.read_bytes() == whole
    lies.unlink()
    assert load_distilled("dm-mine", registry=toml).sha256 == made.sha256


def test_an_archive_of_pictures_becomes_a_set(online, tmp_path):
    def picture(value: int) -> bytes:
        out = io.BytesIO()
        Image.fromarray(numpy.full((8, 8), value, numpy.uint8)).save(out, "PNG")
        return out.getvalue()

    archive = zipped(tmp_path / "p.zip", {f"out/new{k:03d}/class{k:03d}_id000.png": picture(20 * k) for k in range(10)})
    fields = {"method": "sre2l", "dataset": "digits", "ipc": 1, "importer": "folder", "protocol": "quick-v1"}
    toml = registry_of(tmp_path / "own.toml", "sre2l-digits-ipc1", online, {"p.zip": archive.read_bytes()}, **fields)
    made = load_distilled("sre2l-digits-ipc1", download=True, registry=toml)
    assert made.card.method == "sre2l"
    assert made.images[:, 0, 0, 0].tolist() == [20 * k for k in range(10)]
    assert made.labels.tolist() == list(range(10))


def test_a_damaged_imported_set_is_imported_again(mtt_registry, caplog):
    path = obtain("mtt-digits-ipc1", registry=mtt_registry).paths[0]
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert obtain("mtt-digits-ipc1", registry=mtt_registry, may_download=False).paths == (path,)
    assert path.read_bytes() == good
    assert "is damaged; its sets are imported again" in caplog.text


def test_callers_at_once_import_once(mtt_registry, monkeypatch):
    calls, original = [], published_room.import_release
    monkeypatch.setattr(published_room, "import_release", lambda *a, **k: calls.append(1) or original(*a, **k))
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(obtain("mtt-digits-ipc1", registry=mtt_registry).paths))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(set(got)), calls) == (3, 1, [1])


def test_two_members_of_one_archive_are_kept_apart(online, tmp_path):
    noise = [torch.full((10, 1, 8, 8), float(value)) for value in (1, 2)]
    members = dict(zip(("a.pt", "b.pt"), saved(*noise), strict=True))
    archive = zipped(tmp_path / "x.zip", members).read_bytes()
    fields = {"method": "mtt", "dataset": "digits", "ipc": 1, "importer": "mtt", "protocol": "quick-v1"}
    for value, member in enumerate(members, 1):
        name = f"mtt-{value}-digits-ipc1"
        toml = registry_of(tmp_path / f"{value}.toml", name, online, {"x.zip": archive}, **fields)
        text = toml.read_text().replace('member = "."', f'member = "{member}"')
        toml.write_text(text.replace("method", 'space = { kind = "normalized" }\nmethod', 1))
        assert load_distilled(name, download=True, registry=toml).images.unique().tolist() == [value]


def test_what_is_an_id_and_what_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_id("dm-cifar10-ipc1")
    (tmp_path / "dm-cifar10-ipc1").write_bytes(b"")
    for name in ("dm-cifar10-ipc1", "dm.safetensors", "sets/dm", tmp_path / "dm"):
        assert not is_id(name)


def test_usage_of_the_command(command, tmp_path):
    assert command("download", "nothing-of-that-name")[0] == 2
    code, _, said = command("download", "dm-cifar10-ipc1", "dc-cifar10-ipc1", "--file", "x")
    assert code == 2 and "--file goes with one id" in said
    code, _, said = command("download", "dm-cifar10-ipc1", "--registry", tmp_path / "none.toml")
    assert code == 3 and "none.toml cannot be read" in said
    code, _, said = command("download", "dm-cifar10-ipc10")
    assert (
        code == 3 and "has no stable address. By hand: fetch DM/CIFAR10/IPC10/res_DM_CIFAR10_ConvNet_10ipc.pt" in said
    )
