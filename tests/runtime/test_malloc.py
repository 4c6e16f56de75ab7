"""The allocator's setting: what it changes in a process of its own, and that it is not there on import."""

import platform
import subprocess
import sys

import pytest

from distill_bench.runtime.malloc import disable_trim

FAULTS = """
import resource, torch
from distill_bench.runtime.malloc import disable_trim
if {setting}: assert disable_trim()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(13_000_000).fill_(1.0)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(min(faults() for _ in range(5)))
"""


def faults(python: str, setting: bool) -> int:
    """Pages that a tensor of 52 MB faults in, the fewest of five times."""
    code = FAULTS.format(setting=setting)
    environment = {"PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_freed_memory_is_used_again_without_faulting_in_and_only_where_asked_for(forked_python):
    assert faults(forked_python, setting=False) > 10_000
    # on a busy machine a thread may be given another of malloc's arenas, to which the setting does not reach
    assert any(faults(forked_python, setting=True) < 100 for _ in range(3))


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert disable_trim() is False
