"""The limit of memory that binds: the machine's, a control group's, ulimit's, or the user's own."""

import subprocess
import sys
from pathlib import Path

import pytest

from distill_bench.errors import UsageError
from distill_bench.runtime import memory
from distill_bench.runtime.memory import VARIABLE, memory_limit, memory_of_text, set_memory_limit


@pytest.fixture
def no_groups(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(memory, "_OWN_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "fs")
    return tmp_path


def group(folder: Path, own: str, **limits: object) -> None:
    """A process's groups, and the limits in files, by path with __ for a slash."""
    (folder / "cgroup").write_text(own)
    for name, limit in limits.items():
        path = folder / "fs" / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{limit}\n")


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2GB", 2 * 10**9),
        ("2 gb", 2 * 10**9),
        ("1.5GiB", 3 * 2**29),
        ("512MiB", 2**29),
        ("100kB", 10**5),
        ("2000000000", 2 * 10**9),
        ("7B", 7),
        (" 1TB ", 10**12),
    ],
)
def test_amounts_are_read(text, amount):
    assert memory_of_text(text) == amount


@pytest.mark.parametrize(
    "text", ["", "GB", "2 G B", "-1GB", "0", "0.1B", "1e9", "2PB", "two", "2GB2", "1.GB", "٣GB", "9" * 400 + "GB"]
)
def test_what_is_no_amount_is_refused_with_what_would_be(text):
    with pytest.raises(UsageError, match=r"no amount of memory: give one such as 2GB"):
        memory_of_text(text)


def test_the_users_own_limit_counts_and_is_handed_on(no_groups, monkeypatch):
    monkeypatch.setenv(VARIABLE, "1MB")  # so that it is put back
    machine = memory_limit()
    set_memory_limit(None)
    assert memory_limit().bytes == machine.bytes == 10**6 and str(machine) == f"{VARIABLE} allows 0.0 GB"
    set_memory_limit("123MB")
    assert memory_limit().bytes == 123 * 10**6
    with pytest.raises(UsageError, match="`memory_limit` 'lots' is no amount"):
        set_memory_limit("lots")


def test_without_others_it_is_the_machines(no_groups):
    limit = memory_limit()
    assert limit.holder == "this machine has" and limit.bytes > 10**8 and limit.room < limit.bytes


def test_of_groups_v2_that_of_any_above_counts(no_groups):
    group(no_groups, "0::/a/b\n", a__b__memoryDOTmax="max", a__memoryDOTmax=50_000_000, memoryDOTmax="max")
    limit = memory_limit()
    assert limit.bytes == 50_000_000 and limit.holder.endswith("fs/a/memory.max) allows")


def test_of_groups_v1_too_also_where_the_path_is_not_visible(no_groups):
    own = "4:cpu:/x\n3:hugetlb,memory:/gone/away\n0::/\n"
    group(no_groups, own, memory__memoryDOTlimit_in_bytes=60_000_000)
    assert memory_limit().bytes == 60_000_000
    group(no_groups, own, memory__memoryDOTlimit_in_bytes=9223372036854771712)
    assert memory_limit().holder == "this machine has"


@pytest.mark.skipif(sys.platform != "linux", reason="the address space of a process is read from /proc")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_shell_counts_with_what_it_counts(kind, forked_python):
    code = (
        f"import resource; from distill_bench.runtime.memory import memory_limit\n"
        f"resource.setrlimit(resource.{kind}, (12 * 10**9, resource.RLIM_INFINITY))\n"
        "limit = memory_limit(); print(limit.bytes, limit.held > 0, limit)"
    )
    said = subprocess.run([forked_python, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said == f"{12 * 10**9} True {kind} (ulimit) allows 12.0 GB\n"
