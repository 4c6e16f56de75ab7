"""Every command with every awkward value of ``awkward_values.py`` at every one of its arguments and options.

A case ends with a documented exit code and one line that says why, within ten seconds, and without a file lost. What
takes arguments is found in the command itself, so that a new option joins by itself.
"""

import copy
import functools
import hashlib
import os
import random
import resource
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import awkward_values as awkward
import pytest
import torch
import typer
from test_commands import commands

from distill_bench import DistilledSet, cli, evaluate, load_dataset, synthesize
from distill_bench.errors import Interrupted
from distill_bench.hub.publish import ENTRY, release
from distill_bench.methods import make_set
from distill_bench.networks import build_network
from distill_bench.runtime.names import is_printable
from distill_bench.runtime.seeds import generator

CODES = {0, 1, 2, 3, 4, 130}
"""Documented: of ``errors.py``, and of ``verify`` where a result does not hold."""
DEADLINE = 10.0
MEMORY = 500 * 2**20
"""Bytes that a case may want besides what is taken."""
PROTOCOL = 'id = "short"\nsource = "test"\nepochs = 1\nnetworks = 1\n'
SUITE = 'title = "t"\ndatasets = ["digits"]\nmethods = ["random"]\nipc = [1]\nreference = "none"\n'
RECIPE = 'title = "mine"\nfunction = "distill_bench.methods.selection.selection:random_selection"\n'

SOUND: dict[str, dict[str, str]] = {
    "synthesize": {"method": "random", "--dataset": "digits", "--ipc": "1", "--out": "new/made.safetensors"},
    "evaluate": {"file": "set.safetensors", "--protocol": "short.toml", "--network": "ConvNetD1W4"},
    "measure": {"file": "set.safetensors", "what": "transfer", "--protocol": "short.toml", "--network": "ConvNetD1W4"},
    "compare": {"a": "set.safetensors", "b": "other.safetensors", "--protocol": "short.toml"},
    "bench": {"suite": "mini.toml", "--results": "new/results"},
    "leaderboard": {"--results": "results"},
    "render": {"file": "set.safetensors", "--out": "new/made.png"},
    "info": {"file": "set.safetensors"},
    "download": {"names": "random-digits-ipc1", "--registry": "registry.toml", "--file": "set.safetensors"},
    "import": {"files": "tensors.pt", "--dataset": "digits", "--out": "new/imported.safetensors"},
    "export": {"files": "set.safetensors", "--to": "res", "--out": "new/res.pt"},
    "publish": {"file": "set.safetensors", "--to": "folder", "--out": "new/published", "--result": "result.json"},
    "verify": {"file": "set.safetensors", "result": "result.json"},
    "list": {},
    "recipe show": {"method": "dm"},
    "recipe validate": {"file": "mine.toml"},
    "teachers train": {"--dataset": "digits", "--network": "ConvNetD1W4", "--epochs": "1"},
    "experts train": {"--dataset": "digits", "method": "mtt", "--set": "network=ConvNetD1W4"},
    "experts import": {
        "files": "replay_buffer_0.pt", "--dataset": "digits", "--space": "normalized", "--network": "ConvNetD1W4",
    },
    "experts show": {"key": "0"},
    "cache clear": {"kinds": "scores"},
}  # fmt: skip
"""What each command is given besides; of a command that is not named here nothing."""
TOGETHER: dict[tuple[str, str], dict[str, str | None]] = {
    ("synthesize", "--method"): {"method": None},
    ("synthesize", "--set"): {"method": "dm"},
    ("evaluate", "--registry"): {"file": "dm-cifar10-ipc1"},
    ("verify", "--registry"): {"file": "dm-cifar10-ipc1"},
    **{("verify", name): {"result": None, "--claim": "66.8"} for name in ("--std", "--claimed-networks", "--labels")},
    **{("verify", name): {"result": None, "--claim": "66.8"} for name in ("--protocol", "--network")},
    ("verify", "--claim"): {"result": None},
    ("compare", "--registry"): {"a": "dm-cifar10-ipc1", "b": "dc-cifar10-ipc1"},
    **{("compare", name): {"a": "random", "b": "full", "--protocol": None} for name in ("--ipc", "--results")},
    **{("measure", name): {"what": "continual"} for name in ("--steps", "--orders")},
    ("measure", "--random"): {"what": "lrs"},
    ("bench", "--executor"): {},
    ("import", "--zca-eps"): {"--space": "zca"},
    ("import", "--zca-input"): {"--space": "zca"},
    ("import", "--mean"): {"--space": "normalized", "--std": "0.3"},
    ("import", "--std"): {"--space": "normalized", "--mean": "0.3"},
    ("experts import", "--zca-eps"): {"--space": "zca"},
    ("publish", "--repo"): {"--to": "huggingface", "--out": None},
    ("export", "--out"): {"--to": "folder"},
    ("list", "--registry"): {"what": "published"},
    ("experts train", "--set"): {"--set": None},
}
"""What goes with one option, or (None) is left out beside it."""

WHOLE_DISKS = dict.fromkeys(
    (("leaderboard", "--results"), ("leaderboard", "--beside"), ("compare", "--results")), ("root", "link to the root")
)
"""Results are read at any depth, which takes as long as it takes."""

KINDS = {
    "int": awkward.NUMBERS | {name: awkward.TEXTS[name] for name in ("empty", "NUL", "JSON", "two hyphens", "option")},
    "Path": awkward.PATHS | awkward.TEXTS,
    "str": awkward.TEXTS | awkward.NUMBERS | awkward.PATHS | awkward.DATA | awkward.SETTINGS,
}
KINDS["float"] = KINDS["int"]
OPTIONS = {
    (words, spelt.split()[0]): facts["type"]
    for words, taken in commands(cli.app).items()
    for spelt, facts in taken.items()
    if facts["type"] != "bool"
}


class TooLong(BaseException):
    """The deadline has passed. No Exception, which something on the way may catch."""


def chosen(option: tuple[str, str]) -> list[str]:
    """The names of some values for an option, always the same: those of a command's options are a third of all.

    Where a command has more options than that, one that is dealt none has one drawn.
    """
    of_kind = [other for other in OPTIONS if other[0] == option[0] and OPTIONS[other] == OPTIONS[option]]
    names = list(KINDS[OPTIONS[option]])
    random.Random(option[0]).shuffle(names)
    dealt = names[of_kind.index(option) :: 3 * len(of_kind)]
    return dealt or [random.Random(str(option)).choice(names)]


def contents(folder: Path) -> dict[str, str]:
    """Every file that somebody put there, with its sum; links and pipes by name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        kept = path.is_file() and not path.is_symlink()
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if kept else "there"
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to be in: what the commands need, what the values name, and the cache beside it."""
    place = tmp_path_factory.mktemp("awkward") / "place"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISTILL_BENCH_HOME", str(place.parent / "cache"))
        patch.setenv("HOME", str(place.parent / "user"))
        patch.chdir(place)
        awkward.plant(place)
        digits = load_dataset("digits")
        labels = torch.arange(10)
        DistilledSet.from_tensors(digits.train.images(labels), labels, digits).save("set.safetensors")
        made = cli_made(place, digits)
        torch.save({"data": [[made.images.float() / 100, labels]], "accs_all_exps": {}}, "tensors.pt")
        networks = [build_network("ConvNetD1W4", (1, 8, 8), 10, generator(index)) for index in range(3)]
        torch.save([[[p.detach() for p in network.parameters()] for network in networks]], "replay_buffer_0.pt")
        yield place


@pytest.fixture(scope="module")
def given(place: Path) -> dict[str, str]:
    """What the user has. What commands write anew is theirs."""
    return contents(place)


def cli_made(place: Path, digits: Any) -> DistilledSet:
    """A set with its result, as a file and as a suite's, and what goes with it."""
    for name, text in (("short.toml", PROTOCOL), ("mini.toml", SUITE), ("mine.toml", RECIPE)):
        (place / name).write_text(text)
    made = synthesize(digits, "random", 1)
    made.save("set.safetensors")
    synthesize(digits, "random", 1, seed=1).save("other.safetensors")
    result = evaluate(made, digits, "short.toml", network="ConvNetD1W4")
    result = result.model_copy(update={"protocol": "quick-v1"})  # which anybody can repeat
    (place / "result.json").write_text(result.model_dump_json())
    (place / "results" / "own").mkdir(parents=True)
    (place / "results" / "own" / "0.json").write_text(result.model_dump_json())
    ready = release(place / "set.safetensors", (), url="https://example.org/sets")
    (place / "registry.toml").write_bytes(ready.files[ENTRY])
    return made


@pytest.fixture(scope="module")
def idle() -> Iterator[None]:
    """Work that would take its time stops where it begins: it is what comes before that is tried here."""

    def stop(*_: object, **__: object) -> NoReturn:
        raise Interrupted("stopped on request, before any work.")

    def quick(data: Any, method: Any, *arguments: Any, **options: Any) -> DistilledSet:
        return make_set(data, method, *arguments, **options) if method.name == "random" else stop()

    tree = typer.main.get_command(cli.app)
    with pytest.MonkeyPatch.context() as patch:
        for room in ("evaluation.scoring", "pretrained.training"):
            patch.setattr(sys.modules[f"distill_bench.{room}"], "train", stop)
        patch.setattr("distill_bench.methods.stored_sets.make_set", quick)
        patch.setattr("distill_bench.benchmark.planning.run_cells", stop)
        patch.setattr(typer.main, "get_command", lambda _: tree)  # it takes longer than the rest of most cases
        read = functools.cache(tomllib.loads)  # recipes are read thousands of times
        patch.setattr(tomllib, "loads", lambda text: copy.deepcopy(read(text)))
        patch.setattr(sys, "path", [*sys.path])
        yield


@pytest.fixture
def limited() -> Iterator[None]:
    """Memory is scarce, and time too: a case that takes all of it fails, and not the machine."""

    def stop(*_: object) -> None:
        raise TooLong

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    alarm, clock = signal.getsignal(signal.SIGALRM), signal.setitimer(signal.ITIMER_REAL, 0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, *clock)


def request(option: tuple[str, str], value: str) -> list[str]:
    """The words of a command, with one of its values replaced."""
    words, spelt = option
    given = SOUND.get(words, {}) | TOGETHER.get(option, {}) | {spelt: value}
    order = [name for of, name in OPTIONS if of == words]
    typed = [*words.split()]
    for name in order:
        if given.get(name) is not None:
            typed += [name, given[name]] if name.startswith("-") else [given[name]]  # type: ignore[list-item]
    return typed


def fault(command: Any, words: list[str]) -> str | None:
    """What is wrong with how a command ends; None if nothing."""
    shutil.rmtree("new", ignore_errors=True)  # what the case before has made
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, DEADLINE)
    try:
        code, said, error = command(*words)
    except TooLong:
        return f"took more than {DEADLINE:g} s"
    except BaseException as raised:
        return f"raised {type(raised).__name__}: {str(raised)[:200]}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if time.monotonic() - began > DEADLINE:
        return "took long"
    if code not in CODES:
        return f"exit code {code}: {error[-300:]}"
    if "Traceback" in said + error:
        return f"a traceback: {error[-300:]}"
    lines = [line for line in error.split("\n") if line]
    last = lines[-1] if lines else ""
    if code not in (0, 4) and not last.startswith("error: "):
        return f"exit code {code}, and its last line is {last[:200]!r}"
    if any(words in last for words in ("out of memory", "enough memory", "allocate", "malloc")):
        return f"wanted memory: {last[:200]}"
    if odd := [character for character in set(said + error) if character != "\n" and not is_printable(character)]:
        return f"printed {odd[:5]!a}"
    return None


def try_all(command: Any, place: Path, given: dict[str, str], option: tuple[str, str], names: list[str]) -> None:
    faults = []
    for name in names:
        if name in WHOLE_DISKS.get(option, ()):
            continue
        words = request(option, KINDS[OPTIONS[option]][name])
        if wrong := fault(command, words):
            faults.append(f"{name}: {wrong}")
        assert os.getcwd() == str(place)
    after = contents(place)
    lost = [path for path, content in given.items() if after.get(path) != content]
    assert not faults and not lost, "\n".join([f"{' '.join(option)}:", *faults, *(f"lost: {path}" for path in lost)])


@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_some_values_at_every_option(command, place, given, idle, limited, option):
    try_all(command, place, given, option, chosen(option))


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_all_values_at_every_option(command, place, given, idle, limited, option):
    try_all(command, place, given, option, list(KINDS[OPTIONS[option]]))


HOMES = {
    name: awkward.PATHS[name]
    for name in ("below proc", "below a file", "text", "pipe", "null device", "circular link", "5000 characters")
} | {"newline": "new\nhome", "lone surrogate": "a\udcffhome", "name too long": "x" * 300}


@pytest.mark.parametrize("name", HOMES)
def test_a_cache_that_cannot_be(command, place, given, idle, limited, monkeypatch, name):
    monkeypatch.setenv("DISTILL_BENCH_HOME", HOMES[name])
    ended = {words: fault(command, request((words, ""), "")) for words in commands(cli.app)}
    after = contents(place)
    assert not [f"{words}: {wrong}" for words, wrong in ended.items() if wrong]
    assert not [path for path, content in given.items() if after.get(path) != content]


def test_sound_values_are_taken(command, place, idle):
    codes = {words: command(*request((words, ""), ""))[::2] for words in SOUND if words not in ("experts show",)}
    assert {words: found for words, found in codes.items() if found[0] not in (0, 130)} == {}
