"""One process at a time: who waits says for whom, and since when."""

import os
import re
import subprocess
import sys

import pytest

from distill_bench.runtime import locks
from distill_bench.runtime.locks import file_lock, is_locked
from distill_bench.runtime.progress import SILENT

HOLD = (
    "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="the system does not say who holds a lock")
def test_waiting_is_said_with_the_process_and_the_time(tmp_path, caplog, monkeypatch):
    path = tmp_path / "x.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n" and is_locked(path)
        monkeypatch.setattr(locks, "LOCK_POLL_SECONDS", 0.01)
        monkeypatch.setattr(locks, "_SAY_AFTER_SECONDS", 0.0)
        said = locks.log.warning

        def say_and_release(*words):
            said(*words)
            holder.stdin.close()

        monkeypatch.setattr(locks.log, "warning", say_and_release)
        with file_lock(path, SILENT, "trains the same"):
            (line,) = caplog.messages
        expected = (
            rf"waiting since \d\d:\d\d:\d\d for the process {holder.pid} that trains the same \(it holds {path}\)\."
        )
        assert re.fullmatch(expected, line)
    finally:
        holder.kill()
        holder.stdout.close()
        holder.wait(timeout=60)


def test_a_lock_that_is_free_is_taken_without_a_word(tmp_path, caplog):
    with file_lock(tmp_path / "deep/x.lock", SILENT, "trains the same"):
        assert is_locked(tmp_path / "deep/x.lock")
    assert not is_locked(tmp_path / "deep/x.lock") and caplog.messages == []
