"""What networks took that several sets share: beside the seconds of each set, and among those of none."""

import json

import pytest
import torch

from distill_bench.distilled.budget import Budget
from distill_bench.methods import experts, load_method
from distill_bench.methods.decoupled import relabel
from distill_bench.methods.recipe import TEST
from distill_bench.methods.stored_sets import StoredSet
from distill_bench.runtime import checkpoint
from distill_bench.runtime.checkpoint import Checkpoint
from distill_bench.runtime.stored import beside

LONG = 10_000.0


class Clock:
    """Time that passes when told."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    own = Clock()
    monkeypatch.setattr(checkpoint, "time", own)
    return own


def test_what_happens_in_a_pause_is_counted_nowhere(clock, tmp_path):
    whole = Checkpoint(tmp_path / "set.safetensors")
    parts = whole.part("labels"), whole.independent("images"), whole.independent("images").part("one")
    clock.now += 1
    for part in parts:
        with part.paused():
            clock.now += LONG
        clock.now += 1
    assert whole.seconds == parts[0].seconds == 4
    assert parts[1].seconds == 4 + 2 * LONG, "an independent part has a clock of its own"


def made(digits, name, ipc, **values):
    method = load_method(name)
    stored = StoredSet.of(digits, method, method.config_on(digits, Budget(ipc), TEST, **values), Budget(ipc), TEST, 0)
    stored.make()
    return stored.history()


@pytest.fixture
def slow(monkeypatch, tmp_path, clock):
    """A cache of its own, and a teacher or experts take long to find or to train."""
    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path))

    def slowly(get):
        def wrapped(*asked, **how):
            clock.now += LONG
            return get(*asked, **how)

        return wrapped

    monkeypatch.setattr(relabel, "get_or_train_teacher", slowly(relabel.get_or_train_teacher))
    monkeypatch.setattr(experts, "get_or_train_experts", slowly(experts.get_or_train_experts))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("random-soft", {}),
        ("random-soft", {"images": "mtt"}),
        ("sre2l", {}),
        ("random-projector", {}),
        ("mtt", {}),
        ("herding", {}),
    ],
)
def test_all_sets_that_share_networks_say_what_these_took_and_none_counts_it(digits, slow, name, values):
    """As far as the networks were trained, whoever asked first."""
    first, second = made(digits, name, 1, **values), made(digits, name, 2, **values)
    pieces = [*slow.glob("pretrained/*/*.safetensors")]
    took = sum(json.loads(beside(path).read_text())["seconds"] for path in pieces)
    assert first["pretraining_seconds"] == second["pretraining_seconds"] == pytest.approx(took)
    assert pieces
    assert first["seconds"] == second["seconds"] == 0, "no time passes here but that of networks"


def test_a_set_that_needs_no_network_says_so(digits, slow):
    assert made(digits, "random", 1)["pretraining_seconds"] == 0


def test_what_came_from_elsewhere_took_nobody_knows_how_long(digits, slow):
    from distill_bench.datasets.training_view import TrainingData
    from distill_bench.pretrained.experts import adopt_experts, get_or_train_experts

    method = load_method("mtt")
    config = method.config_on(digits, Budget(1), TEST)
    training = TrainingData(digits, config.pixel_space_on(digits), torch.device("cpu"))
    own = get_or_train_experts(training, config.network, config.expert, 1)
    rows = [own.pieces[0].tensors()["trajectory"]]
    adopt_experts(training, config.network, rows, 1, "theirs")
    facts = made(digits, "mtt", 1, experts_from="theirs")
    assert facts["pretraining_seconds"] is None
