"""What a result says of the code it was made with."""

import pytest
import torch

from distill_bench.runtime import run_info


@pytest.fixture
def checkout(monkeypatch, tmp_path):
    """A package in a checkout, whose code is clean until the test says otherwise."""
    (tmp_path / ".git").mkdir()
    changes: list[str] = []
    monkeypatch.setattr(run_info, "__file__", str(tmp_path / "distill_bench" / "runtime" / "run_info.py"))
    monkeypatch.setattr(run_info, "_output", lambda command: "\n".join(changes) if "status" in command else "abc")
    run_info.code_state.cache_clear()
    yield changes
    run_info.code_state.cache_clear()


def test_code_edited_while_a_process_works_is_not_what_it_runs(checkout):
    assert run_info.code_state() == {"git_commit": "abc", "dirty": False}
    checkout.append(" M distill_bench/training/train.py")
    assert run_info.run_block(1.0)["dirty"] is False
    run_info.code_state.cache_clear()  # as in a new process
    assert run_info.run_block(1.0)["dirty"] is True


def test_the_device_is_part_of_it():
    block = run_info.run_block(1.23456, torch.device("cpu"))
    assert (block["device"], block["seconds"], block["threads"]) == ("cpu", 1.235, 1)


@pytest.mark.parametrize("name", run_info.LIMITS)
def test_a_limit_on_the_processors_instructions_is_part_of_it_because_it_changes_the_digits(name, monkeypatch):
    for other in run_info.LIMITS:
        monkeypatch.delenv(other, raising=False)
    plain = run_info.run_block(0.0)["instructions"]
    assert plain == torch.backends.cpu.get_cpu_capability()
    monkeypatch.setenv(name, "AVX2")
    assert run_info.run_block(0.0)["instructions"] == f"{plain}, {name}=AVX2"


def test_no_peak_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr(run_info.Path, "read_text", lambda self: "Name: python\nVmRSS: 5 kB\n")
    assert run_info.peak_memory_mb() is None
