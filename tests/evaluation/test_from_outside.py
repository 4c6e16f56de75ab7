"""Protocols and networks of a user's own: a TOML file, or module:name."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from distill_bench import DataError, evaluate, stored_teacher, synthesize
from distill_bench.cli import commands
from distill_bench.cli.commands import app
from distill_bench.errors import UsageError
from distill_bench.evaluation import load_protocol, score_key
from distill_bench.methods import load_method

PROTOCOL = (
    'id = "mine-v1"\nsource = "here"\nepochs = 3\nnetwork = "own_network:small"\nnetworks = 1\naugmentation = "none"\n'
)
NETWORK = """
import torch
from torch import nn
from distill_bench.evaluation import Protocol
from distill_bench.networks import Network

MINE = Protocol(id="mine-v2", source="here", epochs=2, networks=1)

def small(shape, classes):
    return Network(nn.Conv2d(shape[0], 2, 3), nn.Linear(2 * (shape[1] - 2) * (shape[2] - 2), classes))

def plain(shape, classes):
    return nn.Linear(3, classes)

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
    def forward(self, images):
        return self.scale * images

def odd(shape, classes):
    return Network(Scaled(), nn.Linear(64, classes))

class Whole(Network):
    def initialise(self, generator):
        for values in self.parameters():
            nn.init.normal_(values, generator=generator)

def dropping(shape, classes):
    return Network(nn.Dropout(0.5), nn.Linear(64, classes))

class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.ones(1))
    def forward(self, images):
        return images + self.shift

def buffered(shape, classes):
    return Network(Buffered(), nn.Linear(64, classes))

class Forgetful(Network):
    def initialise(self, generator):
        nn.init.zeros_(self.classifier.bias)

def forgetful(shape, classes):
    return Forgetful(nn.Identity(), nn.Linear(64, classes))

def wide(shape, classes):
    return Network(nn.Identity(), nn.Linear(64, classes + 1))

def raising(shape, classes):
    raise ValueError("no")

def large(shape, classes):
    return Network(nn.Conv2d(1, 2, 9), nn.Linear(64, classes))

class Fickle(nn.Module):
    def forward(self, images):
        if self.training:
            raise KeyError("no")
        return images

def fickle(shape, classes):
    return Network(Fickle(), nn.Linear(64, classes))

class Tired(nn.Module):
    def forward(self, images):
        if self.training and len(images) > 2:
            raise KeyError("no more")
        return images

def tired(shape, classes):
    return Network(Tired(), nn.Linear(64, classes))

def whole(shape, classes):
    return Whole(Scaled(), nn.Linear(64, classes))
"""


@pytest.fixture
def made(tmp_path, monkeypatch, digits):
    (tmp_path / "mine.toml").write_text(PROTOCOL)
    (tmp_path / "own_network.py").write_text(NETWORK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "own_network", raising=False)
    return synthesize(digits, "random", 1)


def test_both_from_outside_are_told_in_the_notes_and_give_the_same_twice(made, digits):
    first, again = (evaluate(made, digits, "mine.toml") for _ in range(2))
    assert first.accuracies == again.accuracies
    assert (first.protocol, first.network) == ("mine.toml", "own_network:small")
    protocol, network = (note for note in first.notes if "not one of this project's: " in note)
    assert "project's: mine.toml, sha256 " in protocol and "project's: own_network.py, sha256 " in network


def test_a_changed_file_is_another_key(made, digits):
    before = score_key(digits, "mine.toml", made)
    Path("mine.toml").write_text(PROTOCOL + "momentum = 0.5\n")
    assert score_key(digits, "mine.toml", made) != before
    score_key(digits, "quick-v1", made, network="own_network:small")
    Path("own_network.py").write_text(NETWORK + "# changed\n")
    with pytest.raises(UsageError, match="has changed since it was imported: restart"):  # the old code would run
        score_key(digits, "quick-v1", made, network="own_network:small")


def test_a_protocol_of_a_module_and_a_network_with_its_own_initial_values(made, digits):
    found = evaluate(made, digits, "own_network:MINE", network="own_network:whole")
    assert (found.protocol, found.network) == ("own_network:MINE", "own_network:whole")


def test_dropout_draws_the_same_twice_and_nothing_of_the_users(made, digits):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = evaluate(made, digits, "own_network:MINE", network="own_network:dropping")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert evaluate(made, digits, "own_network:MINE", network="own_network:dropping").accuracies == first.accuracies


@pytest.mark.parametrize(
    ("network", "complaint"),
    [
        ("own_network:plain", r"returned a Linear: return distill_bench.networks.Network"),
        ("own_network:odd", r"no initialisation is known for Scaled: .* initialise\(generator\)"),
        ("own_network:none", "cannot load the network"),
        ("own_network:plainn", r"has no attribute 'plainn'\. Did you mean plain\?"),
        ("no_such_module:none", "cannot load the network"),
        ("own_network:buffered", r"no initialisation is known for Buffered, it has buffers: .* initialise"),
        ("own_network:forgetful", "leaves classifier.weight without finite values"),
        ("own_network:wide", r"logits \[images, 10\]; of 2 images came \(2, 11\)"),
        ("own_network:raising", "cannot be built for images of 1×8×8 .* ValueError: no"),
        ("own_network:large", "cannot be run for images of 1×8×8 .*too small"),
        ("own_network:fickle", "cannot be trained for images of 1×8×8 .* KeyError: 'no'"),
        ("own_network:tired", "network 0: own_network:tired failed in training or testing: KeyError: 'no more'"),
    ],
)
def test_a_network_that_is_none_is_refused(made, digits, network, complaint):
    with pytest.raises(UsageError, match=complaint):
        evaluate(made, digits, "own_network:MINE", network=network)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epochs = 1", "id: Field required"),
        (PROTOCOL.replace("mine-v1", "quick-v1"), "give your own another"),
        (PROTOCOL + "x = 1", "x: Extra"),
        (PROTOCOL.replace("epochs = 3", "epochs = 0"), "epochs: Input should be greater than 0"),
        (PROTOCOL + "batch_size = 0", "batch_size: Input should be greater than 0"),
        (PROTOCOL + "learning_rate = inf", "learning_rate: Input should be a finite number"),
        (PROTOCOL + "[overrides.digits]\nepoch = 1", "epoch: Extra"),
        (PROTOCOL + "[overrides.digits]\nepochs = 0", "epochs: Input should be greater than 0"),
    ],
)
def test_a_wrong_protocol_is_one_clear_error(tmp_path, text, complaint):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint):
        load_protocol(str(path))
    with pytest.raises(UsageError, match=r"unknown protocol .*module:NAME"):
        load_protocol("nothing")


def test_what_a_file_names_is_never_imported(digits):
    labels = {"label_kind": "teacher", "teacher": "own_network:small"}
    plain = synthesize(digits, "random", 1)
    card = plain.card.model_copy(update=labels)
    claimed = copy.copy(plain)
    claimed.__dict__["card"] = card
    with pytest.raises(DataError, match="own_network:small is no network of this project"):
        stored_teacher(claimed)


@pytest.mark.parametrize(
    ("method", "values"),
    [("dm", {"network": "own_network:small"}), ("sre2l", {"teacher": {"network": "own_network:small"}})],
)
def test_sets_are_made_with_our_networks_alone(digits, method, values):
    with pytest.raises(UsageError, match="own_network:small is not one of this project's"):
        load_method(method).config("digits", 1, "cpu", **values)


def test_import_takes_ids_alone(made, tmp_path):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (tmp_path / "x.pt").touch()
    command = ["import", "x.pt", "--dataset", "digits", "--out", "o.safetensors", "--protocol", "evil:x"]
    taken = CliRunner().invoke(app, command)
    assert isinstance(taken.exception, UsageError) and "unknown protocol 'evil:x'" in str(taken.exception)


def test_the_working_directory_hides_no_installed_module(tmp_path):
    (tmp_path / "typer.py").write_text("raise SystemExit('imported')")
    code = "import sys, distill_bench.cli.commands as c; c.app = lambda **_: print(sys.path.index(c.os.getcwd()))"
    path = os.pathsep.join(filter(None, [str(Path(commands.__file__).parents[2]), *sys.path]))
    shown = subprocess.run(
        [sys.executable, "-P", "-c", f"{code}; c.main()"],
        cwd=tmp_path, env={"PYTHONPATH": path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert int(shown.stdout) > 0
