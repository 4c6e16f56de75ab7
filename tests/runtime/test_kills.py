"""Work that is killed or stopped, disks that are full or may not be written: nothing is lost, nothing left behind."""

import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from killing import Kill, kill_after

from distill_bench import datasets
from distill_bench.benchmark import BenchConfig, SetCell, planning, run_cells, tasks_of, worker
from distill_bench.datasets import card
from distill_bench.errors import DataError
from distill_bench.evaluation import PROTOCOLS
from distill_bench.runtime import files, progress
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.files import UNFINISHED, write_atomically
from distill_bench.runtime.progress import StreamMonitor

RECIPE = """
base = "dm"
[preset.tiny]
iterations = 3
real_batch = 8
network = "ConvNetD1W4"
"""
SUITE = """
title = "One"
datasets = ["digits"]
methods = ["quick.toml"]
ipc = [1]
preset = "tiny"
reference = "none"
"""
SMALL = ["--set", "iterations=3", "--set", "real_batch=8", "--set", "network=ConvNetD1W4", "--checkpoint-seconds", 0]
EXPERT = ["--count", 2, "--epochs", 3, "--set", "network=ConvNetD1W4", "--set", "segment=[0,1,1]"]
COMMANDS = {
    "synthesize": ["synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--out", "made.safetensors", *SMALL],
    "bench": ["bench", "suite.toml", "--executor", "in-process", "--checkpoint-seconds", 0, "--results", "results"],
    "evaluate": ["evaluate", "random.safetensors", "--protocol", "quick-v1"],
    "measure": ["measure", "random.safetensors", "transfer", "--network", "MLP", "--protocol", "quick-v1"],
    "teachers train": ["teachers", "train", "--dataset", "digits", "--network", "ConvNetD1W4", "--epochs", 3],
    "experts train": ["experts", "train", "mtt", "--dataset", "digits", "--set", "segment_epochs=1", *EXPERT],
}


@pytest.fixture
def folder(tmp_path, monkeypatch, command):
    """Where commands run: a cache of its own, a suite, a set, and a protocol that takes a moment."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(work / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 2, "networks": 2, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    (work / "quick.toml").write_text(RECIPE)
    (work / "suite.toml").write_text(SUITE)
    assert command("synthesize", "random", "--dataset", "digits", "--ipc", 1, "--out", "random.safetensors")[0] == 0
    return work


def content(folder: Path) -> dict[str, str]:
    """Every finished file below a folder by its hash, JSON without what says when and where it was made."""
    found = {}
    for path in [*folder.rglob("*.safetensors"), *folder.rglob("*.json"), *folder.rglob("*.jsonl")]:
        going_on = "checkpoints" in path.parts or "unfinished" in path.parts
        if going_on or path.name.endswith(".run.json") or "leaderboard" in path.name:
            continue
        data = path.read_bytes()
        for part in data.splitlines() if path.suffix == ".jsonl" else [data]:
            name = str(path.relative_to(folder))
            if path.suffix != ".safetensors":
                facts = json.loads(part)
                if "results" in path.parts:  # a result moves from its small file into the lines
                    name = f"result {facts['method']} {facts['ipc']} {facts['seed']} {facts['kind']}"
                part = repr([facts[key] for key in sorted({*facts} - {"run", "synthesis", "seconds", "sum"})]).encode()
            found[name] = hashlib.sha256(part).hexdigest()
    return found


@pytest.fixture
def whole(command, folder, monkeypatch):
    """What a command leaves, and says, when it is not disturbed."""

    def run(words: list) -> tuple[dict[str, str], str]:
        other = shutil.copytree(folder, folder.with_name("whole"))
        with monkeypatch.context() as patch:
            patch.chdir(other)
            patch.setenv("DISTILL_BENCH_HOME", str(other / "home"))
            code, said, error = command(*words)
        assert code == 0, error
        assert len(content(other)) > len(content(folder))
        return content(other), said

    return run


# ---- one file


def test_a_file_that_a_killed_process_left_is_taken_over(tmp_path):
    path = tmp_path / "file.json"
    (tmp_path / f"file.json{UNFINISHED}").write_text("what is left of something longer")
    write_atomically(path, "short")
    assert path.read_text() == "short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_writer_waits_for_the_first(tmp_path):
    path, unfinished = tmp_path / "file", tmp_path / f"file{UNFINISHED}"
    first = open(unfinished, "ab")  # noqa: SIM115 (closed below)
    fcntl.flock(first, fcntl.LOCK_EX)
    second = threading.Thread(target=write_atomically, args=(path, "second"))
    second.start()
    second.join(0.2)
    assert second.is_alive() and not path.exists()
    first.write(b"first")
    first.flush()
    os.replace(unfinished, path)
    assert path.read_text() == "first"
    first.close()
    second.join(10)
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_where_files_cannot_be_locked_writers_have_a_file_each(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    (tmp_path / f"file{UNFINISHED}").write_text("another's")
    write_atomically(tmp_path / "file", "mine")
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / f"file{UNFINISHED}").read_text() == "another's"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, call, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    path = tmp_path / "file"
    write_atomically(path, "before")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, fail)
        with pytest.raises(DataError, match=f"cannot write {path}: {os.strerror(number)}.*Make room or allow writing"):
            write_atomically(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_larger_than_allowed_leaves_what_was_there(tmp_path, forked_python):
    """The system's own limit on the size of files, as a quota or a full disk would have it."""
    code = (
        "import resource, sys; from pathlib import Path; from distill_bench.runtime.files import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomically(Path(sys.argv[1]), b'x' * 100_000)\n"
    )
    path = tmp_path / "file"
    path.write_text("before")
    found = subprocess.run([forked_python, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert f"DataError: cannot write {path}: File too large" in found.stderr
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


# ---- checkpoints


def test_forgetting_a_checkpoint_takes_its_parts_and_half_written_files_and_no_others(tmp_path):
    checkpoint = Checkpoint(tmp_path / "work.safetensors")
    others = ["work.json", "work.toml", "work2.safetensors", "work.theirs.safetensors", "other.part.safetensors"]
    for name in [*others, f"work.part-one.safetensors{UNFINISHED}", f"work.safetensors{UNFINISHED}"]:
        (tmp_path / name).write_text("")
    assert checkpoint.files == []
    checkpoint.part("first").save({})
    assert checkpoint.files == [tmp_path / "work.part-first.safetensors"]
    checkpoint.clear()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_the_time_of_killed_work_is_that_of_its_last_part(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("distill_bench.runtime.checkpoint.time.monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path / "work.safetensors", _began=0.0, _saved=0.0)
    for name, second in (("first", 10.0), ("second", 25.0)):
        now[0] = second
        checkpoint.part(name).save({})
    now[0] = 100.0
    again = Checkpoint(tmp_path / "work.safetensors", _began=100.0, _saved=100.0)
    for name in ("first", "second"):
        now[0] += 1
        assert again.part(name).load() is not None
    assert again.seconds == again.part("second").seconds == 25 + 2


# ---- cells


def test_a_cell_killed_between_any_two_writes_goes_on_to_the_same_files(folder, whole, monkeypatch):
    expected, _ = whole(COMMANDS["bench"])
    cell = SetCell("digits", "quick.toml", 1, 0, "tiny", ("quick-v1",))
    setting = BenchConfig("suite", folder / "results", checkpoint_seconds=0.0)
    states, kills = [], 0
    for kills in range(50):
        work = tasks_of(cell, setting)
        states.append(work.state())
        try:
            with monkeypatch.context() as patch:
                kill_after(patch, 1 + kills % 2)  # a set is written in two files
                work.run(progress.SILENT)
            break
        except Kill:
            continue
    assert kills >= 6 and tasks_of(cell, setting).state() == "done"
    assert (states[0], {*states[1:-1]}) == ("missing", {"partial"})
    assert content(folder) == expected
    assert not [*(folder / "home/store/checkpoints").iterdir(), *folder.rglob(f"*{UNFINISHED}")]


def test_a_cell_killed_before_its_checkpoint_is_forgotten_leaves_none(folder, monkeypatch):
    work = tasks_of(
        SetCell("digits", "quick.toml", 1, 0, "tiny", ("quick-v1",)), BenchConfig("suite", folder / "results")
    )
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Kill):
            work.run(progress.SILENT)
    left = folder / f"home/store/checkpoints/{work.key}.part-one.safetensors"
    left.parent.mkdir(exist_ok=True)
    left.write_text("")
    assert work.set_path.exists() and work.state() == "partial"
    work.run(progress.SILENT)
    assert not left.exists()


def test_a_failure_is_forgotten_before_the_cell_is_done(folder, monkeypatch):
    """Else a kill between the two would leave both a score and a failure on file."""
    work = tasks_of(SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",)), BenchConfig("suite", folder / "results"))
    work.record_failure("killed")
    assert work.state() == "failed"
    with monkeypatch.context() as patch:
        kill_after(patch, 3)  # the set, its facts, and the first network
        with pytest.raises(Kill):
            work.run(progress.SILENT)
    assert work.set_path.exists() and work.state() == "partial"


class Said(StreamMonitor):
    said = ""

    def say(self, text):
        self.said += text


def test_a_worker_whose_parent_died_before_it_said_what_to_do_ends(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert worker.main() == 1


def test_a_worker_that_was_killed_alone_is_a_failed_cell_and_its_suite_goes_on(folder, monkeypatch):
    monkeypatch.setattr("distill_bench.benchmark.executor.WORKER", "import os; os.kill(os.getpid(), 9)")
    work = tasks_of(SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",)), BenchConfig("suite", folder / "results"))
    monitor = Said()
    assert run_cells([work], "local", 1, monitor) == 1
    assert "killed by signal 9" in json.loads(work.result_path("failed").read_text())["error"]
    assert f"failed, see {work.result_path('failed')}" in monitor.said
    assert run_cells([work], "in-process", 1, StreamMonitor(quiet=True)) == 0
    assert work.state() == "done" and not work.result_path("failed").exists()


def test_a_worker_that_is_killed_when_its_cell_is_done_has_done_it(folder, monkeypatch):
    def start(line):
        work.run(progress.SILENT)
        code = "import os; os.kill(os.getpid(), 9)"
        return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)

    monkeypatch.setattr("distill_bench.benchmark.executor._process", start)
    work = tasks_of(SetCell("digits", "random", 1, 0, "cpu", ("quick-v1",)), BenchConfig("suite", folder / "results"))
    assert run_cells([work], "local", 1, StreamMonitor(quiet=True)) == 0
    assert work.state() == "done" and not work.result_path("failed").exists()


# ---- commands


def signal_after(patch: pytest.MonkeyPatch, number: int, steps: int) -> None:
    """Have a signal come after so many steps of work."""
    left, advance = [steps], progress._Stage.advance

    def counted(stage, done=1):
        advance(stage, done)
        left[0] -= 1
        if not left[0]:
            signal.raise_signal(number)

    patch.setattr(progress._Stage, "advance", counted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_stopped_command_exits_with_130_and_goes_on(command, folder, whole, monkeypatch, name, number):
    expected, said = whole(COMMANDS[name])
    with monkeypatch.context() as patch:
        signal_after(patch, number, 3)
        code, out, error = command(*COMMANDS[name])
    assert (code, out) == (130, ""), error
    assert "error: stopped on request" in error and "Run the same command again" in error
    assert content(folder) != expected
    code, out, error = command(*COMMANDS[name])
    assert (code, error.count("Traceback")) == (0, 0)
    assert content(folder) == expected
    assert name in ("bench", "synthesize") or out == said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_stop_while_data_loads_exits_with_130(command, folder, monkeypatch, name, number):
    def interrupted(*_, **__):
        signal.raise_signal(number)
        raise AssertionError("went on")

    for module in (datasets, card, planning):
        monkeypatch.setattr(module, "load_dataset", interrupted)
    code, out, error = command(*COMMANDS[name])
    assert (code, out, error) == (130, "", "error: stopped on request, before any work began.\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_stops_a_command_and_harms_nothing(command, folder, whole, monkeypatch, name):
    """At every write in turn: what was written before stays, and the command goes on from there."""
    expected, _ = whole(COMMANDS[name])
    fsync, failures = os.fsync, 0
    for failures in range(50):
        before, left = content(folder), [1 + 2 * failures]

        def full(file, left=left):
            left[0] -= 1
            if left[0] <= 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(file)

        with monkeypatch.context() as patch:
            patch.setattr(files.os, "fsync", full)
            code, _, error = command(*COMMANDS[name])
        assert not list(folder.rglob(f"*{UNFINISHED}"))
        if code == 0:
            break
        assert code == 3, error
        assert "cannot write" in error and "No space left on device" in error and "Make room" in error
        assert "Traceback" not in error
        kept = content(folder)
        assert all(kept[path] == digest for path, digest in before.items())
    assert failures >= 1
    assert command(*COMMANDS[name])[0] == 0
    assert content(folder) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_a_cache_that_cannot_be_written_is_one_clear_error(command, folder, monkeypatch, name):
    (folder / "file").write_text("")
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(folder / "file/home"))
    code, _, error = command(*COMMANDS[name])
    assert "Traceback" not in error
    if name == "bench":  # its results lie elsewhere
        (failed,) = (folder / "results").rglob("*.failed.json")
        code, error = code + 2, json.loads(failed.read_text())["error"]
    assert code == 3, error
    assert f"cannot write {folder}/file/home" in error and "DISTILL_BENCH_HOME" in error
