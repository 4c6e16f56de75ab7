"""Stored files that were damaged: what needs them notices, and makes them again where it can."""

import shutil
import tempfile
from pathlib import Path

import pytest
from damage_suite import FAULTS, KINDS, Trial, World, figures, in_memory, says_the_same, survive

from distill_bench.benchmark import results, tasks
from distill_bench.datasets import lazy
from distill_bench.distilled import distilled_set
from distill_bench.errors import DataError
from distill_bench.evaluation.result_file import parse
from distill_bench.runtime import checkpoint, stored

TRIES = 100


@pytest.fixture(scope="module")
def world():
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield World(Path(folder).resolve())


def test_no_damage_changes_a_number_without_a_word(world):
    assert world.kinds == [*KINDS]
    found = survive(TRIES, world)
    wrong = [each for each in found if each.verdict == "wrong"]
    table = figures(found)
    assert not wrong and table["wrong"] == 0
    assert table["tried"] == TRIES and {*FAULTS} < {*table["kinds"]} and len(table["kinds"]) > 20
    assert table["harmless"] < TRIES / 10 and table["named"] > TRIES / 2


def everything_is_whole(patch):
    patch.setattr(stored, "is_whole", lambda *_: True)


def no_file_is_compared(patch):
    for module in (stored, distilled_set):
        patch.setattr(module, "is_unchanged", lambda *_: True)


def no_bytes_are_compared(patch):
    for module in (checkpoint, lazy):
        patch.setattr(module, "read_bytes", lambda path: memoryview(path.read_bytes())[:-32])


def results_are_of_any_address(patch):
    patch.setattr(tasks, "stored_result", results._read)


@pytest.mark.parametrize(
    ("defect", "kind", "damage"),
    [
        (everything_is_whole, "networks", "bit flipped"),
        (everything_is_whole, "teachers' test accuracies", "bit flipped"),
        (no_file_is_compared, "sets", "bit flipped"),
        (no_file_is_compared, "whitenings", "block zeroed"),
        (no_file_is_compared, "users' sets", "bit flipped"),
        (everything_is_whole, "networks", "exchanged"),
        (no_bytes_are_compared, "unfinished sets", "exchanged"),
        (no_bytes_are_compared, "sums of pictures", "bit flipped"),
        (results_are_of_any_address, "scores", "exchanged"),
    ],
)
def test_a_check_that_is_missing_is_found(world, monkeypatch, defect, kind, damage):
    """Without each check some damage goes unnoticed, and the suite says so; with it none does."""
    assert "wrong" not in {Trial(world, number, 1).run(kind, damage).verdict for number in range(3)}
    defect(monkeypatch)
    assert any(Trial(world, number, 1).run(kind, damage).verdict == "wrong" for number in range(40))


def test_what_was_put_under_the_name_of_another_is_damaged(tmp_path):
    for name in ("a", "b"):
        stored.write_bytes(tmp_path / f"{name}.bin", name.encode())
        stored.write_json(tmp_path / name / "0.json", {"accuracy": 1.0}, bound=True)
    assert stored.read_bytes(tmp_path / "a.bin") == b"a"
    assert stored.read_json(tmp_path / "a/0.json", bound=True) == {"accuracy": 1.0}
    shutil.copy(tmp_path / "a.bin", tmp_path / "b.bin")
    shutil.copy(tmp_path / "a/0.json", tmp_path / "b/0.json")
    with pytest.raises(stored.Damaged):
        stored.read_bytes(tmp_path / "b.bin")
    assert stored.read_json(tmp_path / "b/0.json", bound=True) is None


@pytest.mark.parametrize("change", [("kind", "kine"), ("score", "scorf")])
def test_a_result_whose_kind_was_damaged_is_named(world, change):
    line = (world.whole / "home/results/damaged.jsonl").read_text().split("\n")[0]
    with pytest.raises(DataError, match="damaged: its sum is not that of its content"):
        parse(line.replace(f'"{change[0]}"', f'"{change[1]}"'))
    assert parse('{"kind": "another", "sum": 3}') is None


def test_json_of_one_value_says_the_same():
    assert says_the_same(b'{"a": 0.5}', b'{"a":  0.50}')
    assert not says_the_same(b'{"a": 0.5}', b'{"a": 0.6}')
    assert says_the_same(b"0" * 64 + b"\n", b"0" * 64)
    assert not says_the_same(b"\x00\n", b"\x00")
    assert not says_the_same(b"\x00", b"\x01")
