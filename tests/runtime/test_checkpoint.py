"""What a checkpoint's file gives back, and that a damaged or hostile one counts as none."""

import io

import pytest
import torch

from distill_bench import UsageError, synthesize
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.stored import write_bytes

STATE = {
    "step": 3,
    "history": [0.5, 0.25],
    "text": "½",
    "optimizers": {"images": {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(4.0)}}}},
}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "work.safetensors"


def test_nested_state_comes_back(file):
    Checkpoint(file).save(STATE)
    loaded = Checkpoint(file).load()
    inner, wanted = (state["optimizers"]["images"]["state"][0] for state in (loaded, STATE))
    assert {name: loaded[name] for name in ("step", "history", "text")} == {
        name: STATE[name] for name in ("step", "history", "text")
    }
    assert inner.keys() == wanted.keys() and all(torch.equal(inner[name], wanted[name]) for name in wanted)


def test_of_a_view_only_what_it_shows_is_written(file):
    leaf = torch.nn.Parameter(torch.zeros(100_000))
    Checkpoint(file).save({"rows": leaf[:2]})
    assert file.stat().st_size < 10_000
    assert not Checkpoint(file).load()["rows"].requires_grad


def test_a_truncated_file_counts_as_none(file, caplog):
    Checkpoint(file).save(STATE)
    content = file.read_bytes()
    for length in range(0, len(content), 101):
        file.write_bytes(content[:length])
        assert Checkpoint(file).load() is None
    assert len(caplog.messages) == len(range(0, len(content), 101))
    assert all("work.safetensors cannot be read" in line for line in caplog.messages)


def test_a_flipped_bit_is_found_or_changes_nothing(file):
    values = torch.arange(64.0)
    Checkpoint(file).save({"values": values})
    content = bytearray(file.read_bytes())
    found = 0
    for place in range(0, len(content), 7):
        content[place] ^= 4
        file.write_bytes(content)
        content[place] ^= 4
        loaded = Checkpoint(file).load()
        found += loaded is None
        assert loaded is None or torch.equal(loaded["values"], values)
    start = bytes(content).index(values.numpy().tobytes())
    content[start + 9] ^= 4
    file.write_bytes(content)
    assert found and Checkpoint(file).load() is None


class RunsCode:
    """Unpickled, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_not_run(file, tmp_path, caplog, zipped):
    evil = {"state": {"x": RunsCode(tmp_path / "ran")}, "seconds": 0.0, "conditions": {}}
    content = io.BytesIO()
    torch.save(evil, content, _use_new_zipfile_serialization=zipped)
    write_bytes(file, content.getvalue())
    assert Checkpoint(file).load() is None
    assert not (tmp_path / "ran").exists()
    (line,) = caplog.messages
    assert "cannot be read (it holds other objects)" in line


@pytest.mark.parametrize("content", [[1], {"state": {}}, {"state": 1, "seconds": 0.0, "conditions": {}}])
def test_another_files_content_counts_as_none(file, caplog, content):
    saved = io.BytesIO()
    torch.save(content, saved)
    write_bytes(file, saved.getvalue())
    assert Checkpoint(file).load() is None
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"ipc": 2}, {"method": "herding"}, {"image_lr": 3.0}, {"holdout": 0.5}],
    ids=lambda other: next(iter(other)),
)
def test_nothing_else_goes_on_from_the_state_of_a_set(file, digits, other):
    given = {"data": digits, "method": "dm", "ipc": 1, "preset": "test", "seed": 0}
    synthesize(**given, checkpoint=Checkpoint(file, every_seconds=0))
    again = synthesize(**given, checkpoint=Checkpoint(file, every_seconds=0))
    assert again.images.equal(synthesize(**given).images)
    changed = given | ({"data": digits.with_holdout(0.5)} if "holdout" in other else other)
    with pytest.raises(UsageError, match="is of something else"):
        synthesize(**changed, checkpoint=Checkpoint(file, every_seconds=0))
    kept = Checkpoint(file, every_seconds=0)
    kept.clear()
    synthesize(**changed, checkpoint=kept)
    with pytest.raises(UsageError, match="is of something else"):
        synthesize(**given, checkpoint=kept)


@pytest.mark.parametrize("name", ["dm", "dm.pt"])
def test_clearing_leaves_what_others_keep_beside_it(tmp_path, name):
    others = [tmp_path / each for each in ("dm.png", "dm.losses.csv", "dm.old.pt", "dm.x.lock", "dm2.pt")]
    for path in others:
        path.write_text("theirs")
    whole = Checkpoint(tmp_path / name)
    for each in (whole, whole.part("one"), whole.part("one").part("two")):
        each.save(STATE)
    assert len(whole.files) == 3
    whole.clear()
    assert sorted(tmp_path.iterdir()) == sorted(others)


def test_other_instructions_are_said_when_work_goes_on(file, caplog):
    Checkpoint(file, conditions={"threads": 1, "instructions": "AVX512"}).save(STATE)
    Checkpoint(file, conditions={"threads": 1, "instructions": "AVX2"}).load()
    assert "made with instructions AVX512 goes on with instructions AVX2" in caplog.text


def test_what_an_earlier_version_did_not_record_is_unknown_when_work_goes_on(file, caplog):
    Checkpoint(file, conditions={"threads": 1}).save(STATE)
    Checkpoint(file, conditions={"threads": 1, "torch": "2.14.1", "instructions": "AVX2"}).load()
    assert "made with instructions unknown, torch unknown goes on with instructions AVX2, torch 2.14.1" in caplog.text
