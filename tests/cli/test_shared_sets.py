"""``synthesize`` and suites find each other's sets; losses go to a CSV file, and to trackers on request."""

import csv
import json
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from distill_bench.errors import UsageError
from distill_bench.runtime.tracking import losses_csv, tracked

MAKE = ("synthesize", "dm", "--dataset", "digits", "--ipc", 1, "--preset", "test")
SUITE = 'title = "t"\ndatasets = ["digits"]\nmethods = ["dm"]\nipc = [1]\npreset = "test"\nreference = "none"\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    return tmp_path


def test_a_set_is_made_once_by_whichever_comes_first(command, place, monkeypatch):
    (place / "s.toml").write_text(SUITE)
    assert command(*MAKE, "-o", "a.safetensors", "-q")[0] == 0
    (stored,) = (place / "home/store/sets").glob("*.safetensors")
    assert stored.read_bytes() == (place / "a.safetensors").read_bytes()
    assert "partial" in command("bench", "s.toml", "--dry-run")[1]  # the set is there, and not scored

    with monkeypatch.context() as patch:
        patch.setattr("distill_bench.methods.stored_sets.make_set", None)  # any work would be an error
        code, out, error = command(*MAKE, "-o", "b.safetensors")
    assert code == 0 and "made 20" in out and "in the store already" in error
    assert (place / "b.safetensors").read_bytes() == stored.read_bytes()
    assert (place / "b.losses.csv").read_text() == (place / "a.losses.csv").read_text()

    about = json.loads(stored.with_suffix(".run.json").read_text())
    from distill_bench.runtime.stored import write_json

    write_json(stored.with_suffix(".run.json"), about | {"threads": 7})
    assert "last digits from one made here: threads 7, here 1" in command(*MAKE, "-o", "b.safetensors")[2]
    made = command(*MAKE, "-o", "c.safetensors", "--fresh")
    assert made[0] == 0 and "in the store" not in made[2]
    assert (place / "c.safetensors").read_bytes() == stored.read_bytes()


def test_losses_of_every_step_lie_beside_the_set(command, place):
    assert command(*MAKE, "-o", "a.safetensors", "--set", "iterations=4", "-q")[0] == 0
    with open(place / "a.losses.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    history = json.loads((place / "a.run.json").read_text())["history"]
    assert [float(row["loss"]) for row in rows] == history
    assert losses_csv([0.1, 2]) == "step,loss\n0,0.1\n1,2\n"
    assert command("synthesize", "random", *MAKE[2:6], "-o", "r.safetensors", "-q")[0] == 0
    assert not (place / "r.losses.csv").exists()  # it takes no step


def test_trackers_are_told_every_step_and_closed(command, place, monkeypatch):
    told = []

    class Writer:
        def __init__(self, folder):
            told.append(folder)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            told.append("closed")

        def add_scalar(self, *what):
            told.append(what)

    run = SimpleNamespace(log=lambda values, step: told.append((values, step)), finish=lambda: told.append("finished"))
    wandb = SimpleNamespace(init=lambda **how: told.append(how) or run)
    for name, module in {
        "tensorboard": SimpleNamespace(),
        "torch.utils.tensorboard": SimpleNamespace(SummaryWriter=Writer),
        "wandb": wandb,
    }.items():
        monkeypatch.setitem(sys.modules, name, module)
    words = (*MAKE, "-o", "a.safetensors", "--set", "iterations=2", "--log", "tensorboard", "--log", "wandb")
    assert command(*words)[0] == 0
    folder, how, (name, first, zero), (values, step), *_, finished, closed = told
    assert (folder, finished, closed) == ("a.tensorboard", "finished", "closed")
    assert (name, zero, values, step) == ("dm/loss", 0, {"dm/loss": first}, 0)
    assert how["project"] == "distill_bench" and how["mode"] == "offline" and how["config"]["iterations"] == 2
    assert len(told) == 2 + 2 * 2 + 2


@pytest.mark.parametrize(("name", "said"), [("wandb", r"distill_bench\[wandb\]"), ("wand", "Did you mean wandb")])
def test_a_tracker_that_is_not_there_is_named_with_its_extra(name, said, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(UsageError, match=said), tracked([name], tmp_path / "x.safetensors", {}):
        pass


@contextmanager
def _never(place, about):
    raise AssertionError


def test_without_trackers_nothing_is_opened(monkeypatch, tmp_path):
    monkeypatch.setattr("distill_bench.runtime.tracking.TRACKERS", {"tensorboard": _never})
    with tracked([], tmp_path / "x", {}) as log:
        log(0, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []
