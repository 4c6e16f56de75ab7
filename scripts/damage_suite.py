"""Damage stored files at random, read what needs them, and compare with what was there before.

    python scripts/damage_suite.py --tries 5000 --out results/reliability

A small world is made once: sets of five methods with their teachers, experts, whitening, networks, scores and results;
work of each that was cut off; test accuracies of teachers, sums of pictures, published sets with their archives, and a
user's own sets. Every try copies it, harms one file of a kind that is drawn, and has what needs the file read it, by
the functions that the commands use; what would make the reading unnecessary is deleted before. One try in so many meets
a disk that is full or may not be written at a write that is drawn, or a standard stream that is full.

What a try comes to:

- made again: what was there before is there again, byte by byte but for times;
- noticed: it is not (or need not be), and a line of the log or an error names the file;
- harmless: the file says the same as before, such as a number with another last digit that no float has;
- wrong: something differs without a word, or the store's file was not made again.
"""

import argparse
import contextlib
import dataclasses
import errno
import hashlib
import io
import json
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy
import torch
from PIL import Image

from distill_bench import DistilledSet, cli, load_dataset, load_distilled
from distill_bench.benchmark import BenchConfig, SetCell, tasks_of
from distill_bench.benchmark.leaderboard import board
from distill_bench.benchmark.results import fold, read_results
from distill_bench.datasets.lazy import file_digests
from distill_bench.datasets.pixel_space import PixelSpace
from distill_bench.datasets.training_view import TrainingData
from distill_bench.errors import DistillBenchError, Interrupted
from distill_bench.evaluation import PROTOCOLS
from distill_bench.evaluation.teachers import recorded_score, score_teacher
from distill_bench.hub.registry import registry
from distill_bench.hub.registry.cached_file import PIN
from distill_bench.hub.registry.published import obtain
from distill_bench.pretrained.store import list_stored
from distill_bench.pretrained.teachers import TeacherRecipe, get_or_train_teacher
from distill_bench.runtime import files
from distill_bench.runtime.files import UNFINISHED
from distill_bench.runtime.log import log
from distill_bench.runtime.progress import SILENT, SilentMonitor, clock
from distill_bench.runtime.run_info import run_block
from distill_bench.runtime.stored import write_with_sum

SUITE, PROTOCOL, NETWORK = "damaged", "quick-v1", "ConvNetD1W4"
METHODS: dict[str, dict[str, Any]] = {
    "dm": {},
    "mtt": {"iterations": 3},
    "random-soft": {},
    "random-zca": {},
    "sre2l": {},
}
"""What is other than in their test presets."""
STEPS, STEPS_IN_BATCHES = 2, 4
"""After which work is cut off: of batches, in the second."""
SEEDS = (0, 1)
WHEN_AND_WHERE = ("run", "synthesis", "seconds", "sum")
"""What two makings of one thing may differ in."""
FAULTS = ("full disk", "read-only folder", "full stream")
ONE_IN = 25
"""One try in so many is a fault of those, not of a file."""
PROGRESS_SECONDS = 15.0
_IMPORTED = {"mtt-digits-ipc1": True, "sre2l-digits-ipc1": False}
"""Published sets, and whether the registry has the sums of their files."""

Content = dict[str, str]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of stored file.

    Attributes:
        name: of the kind.
        patterns: of its files in a copy of the world.
        reader: what needs it, see ``READERS``.
        downstream: kinds that are deleted first, so that it is read.
        own: whether it is the user's: it is named, and need not be made again.
        slow: whether making it again takes long: such are drawn a third as often.
    """

    name: str
    patterns: tuple[str, ...]
    reader: str
    downstream: tuple[str, ...] = ()
    own: bool = False
    slow: bool = False


_PUBLISHED = "home/published/files/*/*"
KINDS = {
    kind.name: kind
    for kind in (
        Kind("sets", ("home/store/sets/*.safetensors",), "bench"),
        Kind("sets' facts", ("home/store/sets/*.run.json",), "bench"),
        Kind("scores", ("home/store/scores/*.json",), "bench"),
        Kind("networks", ("home/store/networks/*/[0-9]*.json",), "bench", ("scores",)),
        Kind("how networks run", ("home/store/networks/*/settled.json",), "bench", ("scores", "networks")),
        Kind("teachers", ("home/pretrained/teachers/*.safetensors",), "bench", ("sets",), slow=True),
        Kind("experts", ("home/pretrained/experts/*.safetensors",), "bench", ("sets",), slow=True),
        Kind("teachers' and experts' facts", ("home/pretrained/*/*.run.json",), "bench", ("sets",), slow=True),
        Kind("whitenings", ("home/zca/*.safetensors",), "bench", ("sets",)),
        Kind("whitenings' facts", ("home/zca/*.run.json",), "bench", ("sets",)),
        Kind("unfinished sets", ("home/store/checkpoints/*.safetensors",), "bench"),
        Kind("unfinished teachers and experts", ("home/pretrained/*/unfinished/*.safetensors",), "bench", slow=True),
        Kind("results, a file each", ("home/results/*/**/*.json",), "results", (), True),
        Kind("results, a line each", ("home/results/*.jsonl",), "results", (), True),
        Kind("teachers' test accuracies", ("home/pretrained/teachers/*.test.json",), "tests"),
        Kind("sums of pictures", ("home/digests/*",), "digests"),
        Kind("published files", tuple(_PUBLISHED + end for end in (".pt", ".zip")), "published", ("imported sets",)),
        Kind("published files' first sums", (_PUBLISHED + PIN,), "published", ("imported sets",)),
        Kind("unpacked archives", (_PUBLISHED + ".unpacked-*/**/*",), "published", ("imported sets",)),
        Kind("sums of unpacked archives", (_PUBLISHED + ".sums.json",), "published", ("imported sets",)),
        Kind("imported sets", ("home/published/sets/*/*.safetensors",), "published"),
        Kind("sums of imported sets", ("home/published/sets/*/sums.json",), "published"),
        Kind("users' sets", ("user/*.safetensors",), "user", (), True),
        Kind("users' sets' facts", ("user/*.run.json",), "user", (), True),
    )
}


# ---- the world


class World:
    """Where everything is as it was made.

    Args:
        folder: an empty one.

    Attributes:
        whole: the folder that tries copy: ``home``, a cache, and ``user``.
        begun: folders with work that was cut off, for each kind of it, with its cell and the file that it becomes.
        cells_of: the cells that need a file of ``whole``.
        expected: see ``outcome``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.whole = folder, folder / "whole"
        self.digits = load_dataset("digits")
        self.cells = [
            SetCell("digits", name, 1, seed, "test", (PROTOCOL,), of=name, settings=settings)
            for name, settings in METHODS.items()
            for seed in SEEDS
        ]
        self.cells_of = defaultdict[str, list[SetCell]](list)
        self.begun = defaultdict[str, list[tuple[Path, SetCell, str]]](list)
        (self.whole / "user").mkdir(parents=True)
        for number, cell in enumerate(self.cells):
            self._make(cell, number)
        with cache_at(self.whole / "home"):
            self._results()
            self._tests()
            self._pictures()
            self._published()
            self._users()
        for lock in self.whole.rglob("*.lock"):
            lock.unlink()
        self.expected = outcome(self.whole)
        self.rows = rows(self.whole / "home/results")
        self.files = {name: self.of_kind(self.whole, name) for name in KINDS}
        self.kinds = [name for name in KINDS if self.files[name] or self.begun[name]]

    def of_kind(self, work: Path, name: str) -> list[str]:
        """The files of a kind in a copy, by their path in it."""
        found = {path for pattern in KINDS[name].patterns for path in work.glob(pattern) if path.is_file()}
        return sorted(str(path.relative_to(work)) for path in found)

    def _make(self, cell: SetCell, number: int) -> None:
        """A cell in a cache of its own, which shows what it needs; then work of it that was cut off."""
        home = self.folder / "made" / str(number) / "home"
        with cache_at(home):
            made = bench([cell], home / "results", self.digits)[0].set_path.relative_to(home)
        for path in home.rglob("*"):
            if path.is_file() and path.suffix != ".lock":
                name = str(path.relative_to(home.parent))
                self.cells_of[name].append(cell)
                if not (self.whole / name).exists():
                    (self.whole / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, self.whole / name)
        self._cut_off(cell, home, "unfinished sets", made)
        for path in sorted(home.glob("pretrained/*/*.safetensors")):
            self._cut_off(cell, home, "unfinished teachers and experts", path.relative_to(home))

    def _cut_off(self, cell: SetCell, home: Path, kind: str, missing: Path) -> None:
        """Keep the checkpoints of a cell that lacks one file, stopped after some steps; quick ones have none."""
        steps = STEPS_IN_BATCHES if cell.method == "sre2l" and missing.parts[0] == "store" else STEPS
        place = self.folder / "begun" / f"{len(self.begun[kind])}-{kind.split()[1]}"
        with cache_at(place / "home"):
            shutil.copytree(home, place / "home", ignore=shutil.ignore_patterns("*.lock"))
            for name in [missing, *(path.relative_to(home) for path in home.glob("store/sets/*.safetensors"))]:
                for path in self.with_facts(place / "home" / name):
                    path.unlink(missing_ok=True)
            with contextlib.suppress(Interrupted):
                bench([cell], place / "home/none", self.digits, Stopping(steps), every=0.0)
        kept = self.of_kind(place, kind)
        for path in place.rglob("*"):
            if path.is_file() and str(path.relative_to(place)) not in kept:
                path.unlink()
        if kept:
            self.begun[kind].append((place, cell, str("home" / missing)))
        else:
            shutil.rmtree(place)

    @staticmethod
    def with_facts(path: Path) -> list[Path]:
        return [path, path.with_suffix(".run.json")]

    def _results(self) -> None:
        """Those of the first seed as lines, of the others as files."""
        results = self.whole / "home/results"
        shutil.rmtree(results, ignore_errors=True)
        bench([cell for cell in self.cells if cell.seed == SEEDS[0]], results, self.digits)
        fold(results, SUITE)
        bench([cell for cell in self.cells if cell.seed != SEEDS[0]], results, self.digits)

    def _tests(self) -> None:
        self.tests = teacher_tests(self.digits)

    def _pictures(self) -> None:
        draw = numpy.random.default_rng(0)
        for name in ("first", "second"):
            (self.folder / "pictures" / name).mkdir(parents=True)
            for k in range(6):
                pixels = draw.integers(0, 255, (8, 8, 3), dtype=numpy.uint8)
                Image.fromarray(pixels).save(self.folder / "pictures" / name / f"{k}.png")
        self.prints = fingerprints(self.folder / "pictures")

    def _published(self) -> None:
        """Two sets of a registry without addresses, whose files were fetched by hand."""
        noise = torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        self.given, lines = defaultdict[str, list[Path]](list), []
        given = self.folder / "given"
        given.mkdir()
        for name, tensor in (("i.pt", noise), ("l.pt", torch.arange(10))):
            torch.save(tensor, given / name)
            self.given["mtt-digits-ipc1"].append(given / name)
        with zipfile.ZipFile(given / "p.zip", "w") as archive:
            for k in range(10):
                out = io.BytesIO()
                Image.fromarray(numpy.full((8, 8), 20 * k, numpy.uint8)).save(out, "PNG")
                archive.writestr(f"out/new{k:03d}/class{k:03d}_id000.png", out.getvalue())
        self.given["sre2l-digits-ipc1"].append(given / "p.zip")
        for name, has_sums in _IMPORTED.items():
            method = name.split("-")[0]
            importer = 'importer = "mtt"\nspace = { kind = "normalized" }' if method == "mtt" else 'importer = "folder"'
            lines.append(f'[{name}]\npage = "https://example.org/sets"\nmethod = "{method}"\n{importer}')
            lines.append(f'dataset = "digits"\nipc = 1\nprotocol = "{PROTOCOL}"')
            for path in self.given[name]:
                lines.append(f'[[{name}.files]]\npath = "{path.name}"\nurls = []\nbytes = {path.stat().st_size}')
                lines += [f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"'] * has_sums
                lines += ['member = "."'] * (path.suffix == ".zip")
        self.registry = self.folder / "registry.toml"
        self.registry.write_text("\n".join(lines) + "\n")
        for name in _IMPORTED:
            obtain(name, given=self.given[name], registry=self.registry)

    def _users(self) -> None:
        noise = torch.randn(2, 10, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        for name, images in zip(("mine", "yours"), noise, strict=True):
            made = DistilledSet.from_tensors(images, torch.arange(10), self.digits, protocol=PROTOCOL)
            write_with_sum(self.whole / f"user/{name}.safetensors", made.to_bytes(), {"seconds": 1.0})
        self.sums = user_sums(self.whole)


_read_registry = cache(registry.read_registry)
"""What is read of the package's registry takes most of an import's time."""


class Stopping(SilentMonitor):
    """Asks to stop after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    @property
    def stop_requested(self) -> bool:  # type: ignore[override]
        return self.left <= 0

    @contextmanager
    def stage(self, title: str, total: int, done: int = 0) -> Iterator["Stopping"]:
        yield self

    def advance(self, steps: int = 1) -> None:
        self.left -= steps

    def note(self, text: str) -> None: ...


@contextmanager
def cache_at(home: Path) -> Iterator[None]:
    """Commands keep what they keep in this folder, offline, and evaluate in a moment."""
    short = PROTOCOLS[PROTOCOL].model_copy(update={"epochs": 2, "networks": 2, "network": NETWORK})
    with (
        mock.patch.dict(os.environ, DISTILL_BENCH_HOME=str(home), DISTILL_BENCH_OFFLINE="1"),
        mock.patch.dict(PROTOCOLS, {PROTOCOL: short}),
        mock.patch.object(registry, "read_registry", _read_registry),
    ):
        yield


def bench(cells: list[SetCell], results: Path, digits: Any, monitor: Any = SILENT, every: float = 30.0) -> list[Any]:
    """What ``bench`` does of cells, in this process, but boards and what it says of failures."""
    setting = BenchConfig(SUITE, results, "cpu", checkpoint_seconds=every, compile="off")
    works = [tasks_of(cell, setting, digits) for cell in cells]
    for work in works:
        if work.state() != "done":
            work.run(monitor)
    return works


def teacher_tests(digits: Any) -> dict[str, float]:
    """The test accuracy of every stored teacher, measured where it is not recorded, as ``teachers train`` does."""
    found = {}
    for stored in list_stored("teachers"):
        percent = recorded_score(stored)
        if percent is None:
            space = PixelSpace.model_validate(stored.identity["pixel_space"])
            training = TrainingData(digits, space, torch.device("cpu"))
            recipe = TeacherRecipe.model_validate(stored.identity["recipe"])
            percent = score_teacher(get_or_train_teacher(training, recipe, stored.identity["seed"]), digits, "cpu")
        found[stored.key] = percent
    return found


def fingerprints(pictures: Path) -> list[str]:
    """The sums of the pictures, on which addresses depend, as data sets of large pictures take them."""
    return [file_digests(sorted((pictures / name).glob("*.png"))).hex() for name in ("first", "second")]


def rows(results: Path) -> str:
    """The rows of the leaderboard, as ``leaderboard --json`` prints them."""
    return json.dumps(board(results), sort_keys=True)


def canonical(path: Path) -> str:
    """What must come out again of a file's content."""
    content = path.read_bytes()
    if path.suffix == PIN:
        return repr(content.strip())
    if path.suffix == ".json":
        try:
            facts = json.loads(content)
            left = ["sha256"] if path.name.endswith(".run.json") else sorted(facts.keys() - {*WHEN_AND_WHERE})
            return json.dumps([facts.get(name) for name in left])
        except (ValueError, RecursionError, AttributeError):
            return f"no object: {content!r}"
    return hashlib.sha256(content).hexdigest()


def outcome(work: Path, results: str = "home/results") -> Content:
    """What every file of a copy says, but when and where it was made, and every result by what it is of."""
    found, left_out = {}, (".lock", ".bad", ".copy")
    for path in sorted(work.rglob("*")):
        name = str(path.relative_to(work))
        if path.is_file() and not name.startswith(("home/results", "home/again")) and path.suffix not in left_out:
            found[name] = canonical(path)
    return found | result_contents(work / results)


def result_contents(folder: Path) -> Content:
    """Every result by what it is of."""
    found = {}
    for result in read_results(folder) if folder.is_dir() else []:
        how = f"{getattr(result, 'protocol', 'failed')}{' strict' * getattr(result, 'strict', False)}"
        name = f"result {result.data} {result.method} {result.ipc} {result.seed} {how}"
        found[name] = result.model_dump_json(exclude={*WHEN_AND_WHERE})
    return found


# ---- damage


def flip_bit(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]


def other_byte(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + bytes([(content[at] + draw.randrange(1, 256)) % 256]) + content[at + 1 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def emptied(content: bytes, draw: random.Random) -> bytes:
    return b""


def extended(content: bytes, draw: random.Random) -> bytes:
    return content + draw.choice([draw.randbytes(draw.randrange(1, 64)), content])


def zeroed(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    size = min(draw.randrange(1, 4096), len(content) - at)
    return content[:at] + bytes(size) + content[at + size :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bit flipped": flip_bit,
    "byte replaced": other_byte,
    "cut": cut,
    "emptied": emptied,
    "extended": extended,
    "block zeroed": zeroed,
}
EXCHANGED = "exchanged"
"""With another file of its kind."""
SHARES = {"bit flipped": 12, "byte replaced": 2, "cut": 4, "emptied": 1, "extended": 2, "block zeroed": 2, EXCHANGED: 2}


# ---- a try


class Heard(logging.Handler):
    """What the log says, and errors."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += record.getMessage() + "\n"


@contextmanager
def hearing() -> Iterator[Heard]:
    heard, spread = Heard(), log.propagate
    log.addHandler(heard)
    log.propagate = False
    try:
        yield heard
    finally:
        log.removeHandler(heard)
        log.propagate = spread


@dataclasses.dataclass
class Try:
    """What came of a try.

    Attributes:
        what: the kind of file, or the fault.
        damage: what was done.
        verdict: as this module says.
        named: whether a line named the file.
        about: which file, and what is wrong.
    """

    what: str
    damage: str
    verdict: str
    named: bool
    about: str = ""


class Trial:
    """One try in a copy of its own.

    Args:
        world: what is copied.
        number: of the try.
        seed: of the whole.
    """

    def __init__(self, world: World, number: int, seed: int) -> None:
        self.world, self.draw = world, random.Random(f"{seed} {number}")
        self.work = world.folder / "tries" / str(number)
        self.home = self.work / "home"
        self.number = number

    def run(self, kind: str = "", damage: str = "") -> Try:
        """Damage a file as is drawn, unless kind and damage are given."""
        try:
            with cache_at(self.home), hearing() as heard:
                if not kind and self.number % ONE_IN == ONE_IN - 1:
                    return self._fault(FAULTS[self.number // ONE_IN % len(FAULTS)])
                kinds = [KINDS[name] for name in self.world.kinds]
                drawn = self.draw.choices(kinds, [1 if each.slow else 3 for each in kinds])[0]
                how = self.draw.choices(list(SHARES), list(SHARES.values()))[0]
                return self._damage(KINDS[kind] if kind else drawn, damage or how, heard)
        finally:
            shutil.rmtree(self.work, ignore_errors=True)

    def _copy(self, names: list[str]) -> None:
        """Have these files of the world, and expect them, and results of their cells, to be as they are."""
        for name in names:
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.world.whole / name, self.work / name)
        self.expected = {name: self.world.expected[name] for name in names if name in self.world.expected}

    def _copy_cells(self, cells: list[SetCell]) -> None:
        """Have what these cells need."""
        needed = [name for name, of in self.world.cells_of.items() if not {*of}.isdisjoint(cells)]
        self._copy([name for name in needed if not name.startswith("home/results")])
        for cell in cells:
            what = f"result {cell.data} {cell.method} {cell.ipc} {cell.seed} "
            self.expected |= {name: each for name, each in self.world.expected.items() if name.startswith(what)}

    def _copy_below(self, *folders: str) -> None:
        """Have all of some folders."""
        paths = [path for folder in folders for path in (self.world.whole / folder).rglob("*") if path.is_file()]
        self._copy([str(path.relative_to(self.world.whole)) for path in paths])
        if not {"home", "home/results"}.isdisjoint(folders):
            self.expected |= {name: each for name, each in self.world.expected.items() if name.startswith("result ")}

    # -- a file

    def _damage(self, kind: Kind, damage: str, heard: Heard) -> Try:
        targets, cells = self._targets(kind, damage == EXCHANGED)
        before = {name: (self.work / name).read_bytes() for name in targets}
        if len(targets) == 1:
            (name,) = targets
            damaged = {name: DAMAGES["emptied" if damage == EXCHANGED else damage](before[name], self.draw)}
            damage = "emptied" if damage == EXCHANGED else damage
        else:
            damaged = dict(zip(targets, reversed(before.values()), strict=True))
        for name, content in damaged.items():
            (self.work / name).write_bytes(content)
        wrong = self._read(kind, cells, heard)
        named = any(self._is_named(name, heard.text) for name in targets)
        verdict = self._verdict(kind, before, damaged, wrong, named)
        about = "" if verdict != "wrong" else f"{targets}: {'; '.join(wrong) or 'unread'}; said: {heard.text[:500]}"
        return Try(kind.name, damage, verdict, named, about)

    def _targets(self, kind: Kind, two: bool) -> tuple[list[str], list[SetCell]]:
        """Files to damage, and the cells that need them; what would make reading them unnecessary is gone."""
        if self.world.begun[kind.name]:
            return self._begun(kind, two)
        known = self.world.files[kind.name]
        targets = self.draw.sample(known, 2 if two and len(known) > 1 else 1)
        if kind.reader != "bench":
            self._copy_below(*_NEEDED[kind.reader])
            self._forget_imported(kind)
            return targets, []
        needed = {name: self.world.cells_of[name] for name in targets}
        cells = list(dict.fromkeys(self.draw.choice(each) for each in needed.values() if each))
        self._copy_cells(cells)
        for gone in kind.downstream:
            for name in self.world.files[gone]:
                if name not in targets:
                    self._delete(name)
        return targets, cells

    def _delete(self, name: str) -> None:
        for path in World.with_facts(self.work / name):
            path.unlink(missing_ok=True)

    def _forget_imported(self, kind: Kind) -> None:
        if "imported sets" in kind.downstream:
            shutil.rmtree(self.home / "published/sets")
        if kind.name.startswith("published files"):
            for path in self.home.glob("published/files/*/*.unpacked-*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _begun(self, kind: Kind, two: bool) -> tuple[list[str], list[SetCell]]:
        """Checkpoints that were left of one cell; of two of one method, to exchange them."""
        known = self.world.begun[kind.name]
        first = self.draw.choice(known)
        like = [each for each in known if each[1].method == first[1].method and each[2] != first[2]]
        chosen = [first, self.draw.choice(like)] if two and like else [first]
        targets, cells = [], list(dict.fromkeys(cell for _, cell, _ in chosen))
        self._copy_cells(cells)
        for place, cell, missing in chosen:
            shutil.copytree(place, self.work, dirs_exist_ok=True, copy_function=shutil.copyfile)
            targets.append(self.draw.choice(self.world.of_kind(place, kind.name)))
            gone = [missing]
            if not missing.startswith("home/store/sets"):
                gone += [name for name in self.world.files["sets"] if cell in self.world.cells_of[name]]
            for name in gone:
                self._delete(name)
        return targets, cells

    def _read(self, kind: Kind, cells: list[SetCell], heard: Heard) -> list[str]:
        """Have the files read, as often as errors ask for; what differs from before."""
        for again in range(3):
            try:
                return READERS[kind.reader](self, cells)
            except DistillBenchError as error:
                heard.text += f"{error}\n"
                if kind.own:
                    return ["refused"]
                if again == 1 and kind.name == "published files' first sums":
                    for name in self.world.files[kind.name]:  # what the error says: delete it
                        (self.work / name).unlink(missing_ok=True)
            except Exception as error:
                return [f"{type(error).__name__}: {error}"]
        return ["an error each time"]

    def _bench(self, cells: list[SetCell]) -> list[str]:
        bench(cells, self.home / "again", self.world.digits)
        fold(self.home / "again", SUITE)
        return differences(self.expected, outcome(self.work, "home/again"))

    def _results(self, cells: list[SetCell]) -> list[str]:
        bench(self.world.cells, self.home / "results", self.world.digits)
        fold(self.home / "results", SUITE)
        found = [] if rows(self.home / "results") == self.world.rows else ["rows"]
        return found + differences(self.expected, outcome(self.work))

    def _tests(self, cells: list[SetCell]) -> list[str]:
        found = [] if teacher_tests(self.world.digits) == self.world.tests else ["accuracies"]
        return found + differences(self.expected, outcome(self.work))

    def _digests(self, cells: list[SetCell]) -> list[str]:
        found = [] if fingerprints(self.world.folder / "pictures") == self.world.prints else ["fingerprints"]
        return found + differences(self.expected, outcome(self.work))

    def _published(self, cells: list[SetCell]) -> list[str]:
        for name in _IMPORTED:
            try:
                obtain(name, may_download=False, registry=self.world.registry)
            except DistillBenchError as error:
                log.warning("%s", error)  # and the files are fetched by hand again
                obtain(name, given=self.world.given[name], registry=self.world.registry)
        if not list(self.home.glob("published/files/*/*.unpacked-*")):
            return ["not unpacked"]
        return differences(self.expected, outcome(self.work))

    def _user(self, cells: list[SetCell]) -> list[str]:
        found = [] if user_sums(self.work) == self.world.sums else ["sets"]
        return found + differences(self.expected, outcome(self.work))

    def _is_named(self, name: str, text: str) -> bool:
        """Whether lines have the path of a file, or of the folder that is one piece with it."""
        path = self.work / name
        pieces = [path, *(each for each in path.parents if ".unpacked-" in each.name or each.parent.name == "sets")]
        if path.name.endswith(".run.json"):
            pieces.append(path.with_name(path.name.replace(".run.json", ".safetensors")))
        if path.name.endswith(".sums.json"):
            pieces.append(path.with_name(path.name.removesuffix(".sums.json")))
        return any(str(each) in text for each in pieces)

    def _verdict(
        self, kind: Kind, before: dict[str, bytes], damaged: dict[str, bytes], wrong: list[str], named: bool
    ) -> str:
        paths = {name: self.work / name for name in damaged}
        as_damaged = [name for name, path in paths.items() if path.exists() and path.read_bytes() == damaged[name]]
        if before == damaged:
            return "harmless"
        if named:
            return "noticed" if kind.own and (wrong or as_damaged) else "wrong" if wrong else "made again"
        if wrong:
            return "wrong"
        if not as_damaged:
            return "made again"
        told = all(says_the_same(before[name], damaged[name]) for name in as_damaged)
        return "harmless" if told else "wrong"

    # -- a fault

    def _fault(self, fault: str) -> Try:
        return self._stream() if fault == "full stream" else self._disk(fault)

    def _disk(self, fault: str) -> Try:
        """A cell lacks files, and meets a disk that cannot be written from some write on; then it can."""
        number = errno.ENOSPC if fault == "full disk" else errno.EROFS
        cell, gone = self.draw.choice(self.world.cells), self.draw.choice(["sets", "scores", "networks"])
        lacks = {"sets": ("sets", "scores", "networks"), "scores": ("scores",), "networks": ("scores", "networks")}
        self._copy_cells([cell])
        for kind in lacks[gone]:
            for name in self.world.files[kind]:
                self._delete(name)
        before, said = outcome(self.work, "home/again"), ""
        writes = self.draw.randrange(24)
        with unwritable(number, writes) as met:
            try:
                self._bench([cell])
            except DistillBenchError as error:
                said = str(error)
        kept, left = outcome(self.work, "home/again"), list(self.work.rglob(f"*{UNFINISHED}"))
        wrong = [f"{name} changed" for name in before if kept.get(name) != before[name]]
        wrong += [f"{path} left" for path in left]
        if met and os.strerror(number) not in said:
            wrong.append(f"the error is {said!r}")
        wrong += self._bench([cell])
        verdict = "wrong" if wrong else "made again" if met else "harmless"
        return Try(fault, f"from a write on ({gone} lacking)", verdict, bool(met), "; ".join(wrong))

    def _stream(self) -> Try:
        """A command whose output, or error, is full."""
        user = self.draw.choice(["mine", "yours"])
        words = self.draw.choice(
            [
                ["info", f"user/{user}.safetensors"],
                ["evaluate", f"user/{user}.safetensors", "--protocol", PROTOCOL, "--networks", "1", "--compile", "off"],
                ["leaderboard", "--results", "home/results", "--json"],
                ["cache", "list"],
                ["teachers", "list"],
            ]
        )
        full = self.draw.choice(["output", "error"])
        self._copy_below("home", "user")
        with contextlib.chdir(self.work):
            expected = command(words)
            found = command(words, full)
            after = command(words)
        wrong = differences(self.expected, outcome(self.work))
        code, out, error = found
        if expected[0] or after[:2] != expected[:2]:
            wrong.append(f"{words}: {expected}, then {after}")
        if full == "output" and (code != 3 or "cannot write to standard output" not in error):
            wrong.append(f"{words}: code {code}, {error!r}")
        if full == "error" and (code, out) != expected[:2]:
            wrong.append(f"{words}: code {code}, {out!r}")
        return Try("full stream", f"standard {full}", "wrong" if wrong else "noticed", not wrong, "; ".join(wrong))


_NEEDED = {
    "results": ("home/store", "home/pretrained", "home/zca", "home/results"),
    "tests": ("home/pretrained/teachers",),
    "digests": ("home/digests",),
    "published": ("home/published",),
    "user": ("user",),
}
"""What a reader needs of the world."""
READERS: dict[str, Callable[[Trial, list[SetCell]], list[str]]] = {
    "bench": Trial._bench,
    "results": Trial._results,
    "tests": Trial._tests,
    "digests": Trial._digests,
    "published": Trial._published,
    "user": Trial._user,
}


def differences(expected: Content, found: Content) -> list[str]:
    """Names of what is missing or differs."""
    return [name for name in expected if found.get(name) != expected[name]]


def says_the_same(one: bytes, other: bytes) -> bool:
    """Whether two contents are JSON of one value, or a sum in hexadecimal but for what ends the line."""
    if one.strip() == other.strip() and re.fullmatch(rb"\s*[0-9a-f]{64}\s*", one):
        return True
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


def user_sums(work: Path) -> dict[str, str]:
    """What ``evaluate`` is given of users' sets."""
    return {path.name: load_distilled(path).sha256 for path in sorted((work / "user").glob("*.safetensors"))}


def command(words: list[str], full: str = "") -> tuple[int, str, str]:
    """Run the command in this process, one of its streams full: exit code, standard output, standard error."""
    out, error = io.StringIO(), io.StringIO()
    handlers, path = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}, list(sys.path)
    with open("/dev/full", "w") as nowhere:
        streams = {"stdout": nowhere if full == "output" else out, "stderr": nowhere if full == "error" else error}
        try:
            with mock.patch.multiple(sys, argv=["distill-bench", *words], path=path, **streams):
                cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return code, out.getvalue(), error.getvalue()


class _Half(io.FileIO):
    """A file of which a disk has room for half."""

    def write(self, content: Any) -> int:
        super().write(bytes(content)[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def unwritable(number: int, after: int) -> Iterator[list[str]]:
    """From some call on nothing can be written: opening, writing, syncing and renaming of ``write_atomically``, locks.

    Args:
        number: of the system's error: ENOSPC, after which files are still begun, or EROFS.
        after: how many calls succeed.

    Yields:
        The names of calls that failed.
    """
    met: list[str] = []
    calls = iter(range(1 << 30))
    opened, fsync, replace, os_open = open, os.fsync, os.replace, os.open

    def fails(name: str) -> bool:
        if next(calls) < after:
            return False
        met.append(name)
        return True

    def refuse() -> None:
        raise OSError(number, os.strerror(number))

    def open_file(name: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or not fails("open"):
            return opened(name, mode, *rest, **options)
        return _Half(name, mode.replace("b", "")) if number == errno.ENOSPC else refuse()

    def open_number(path: Any, flags: int, *rest: Any, **options: Any) -> int:
        if number == errno.EROFS and flags & (os.O_WRONLY | os.O_RDWR) and fails("lock"):
            refuse()
        return os_open(path, flags, *rest, **options)

    def synced(file: int) -> None:
        if fails("sync"):
            refuse()
        fsync(file)

    def renamed(one: Any, other: Any, **options: Any) -> None:
        if fails("rename"):
            refuse()
        replace(one, other, **options)

    with (
        mock.patch.object(files, "open", open_file, create=True),
        mock.patch.multiple(os, fsync=synced, replace=renamed, open=open_number),
    ):
        yield met


# ---- the whole


def survive(tries: int, world: World, seed: int = 0, say: bool = False) -> list[Try]:
    """Harm copies of a world so often, or until told to stop, and say what came of each try."""
    found = []
    began = said = time.monotonic()
    for number in range(tries):
        try:
            found.append(Trial(world, number, seed).run())
        except KeyboardInterrupt:
            return found
        now = time.monotonic()
        if found[-1].verdict == "wrong":
            sys.stderr.write(f"try {number}: {found[-1]}\n")
        if say and now - said > PROGRESS_SECONDS:
            left = (now - began) / (number + 1) * (tries - number - 1)
            sys.stderr.write(f"{number + 1} of {tries} tries, {clock(left)} left\n")
            said = now
    return found


def figures(found: list[Try]) -> dict[str, Any]:
    """How often each kind was tried, and what came of it."""
    verdicts = ("made again", "noticed", "harmless", "wrong")
    table = {}
    for what in [*KINDS, *FAULTS]:
        of_kind = [each for each in found if each.what == what]
        if of_kind:
            table[what] = {"tried": len(of_kind)} | {
                verdict: sum(each.verdict == verdict for each in of_kind) for verdict in verdicts
            }
    damages = Counter(each.damage for each in found if each.what in KINDS)
    total = {name: sum(row[name] for row in table.values()) for name in ("tried", *verdicts)}
    return total | {
        "named": sum(each.named for each in found if each.what in KINDS),
        "flips": sum(damages[name] for name in ("bit flipped", "byte replaced")),
        "damages": dict(sorted(damages.items())),
        "kinds": table,
    }


def in_memory() -> Path | None:
    """A folder in memory, where thousands of copies take no disk's time; None where there is none."""
    place = Path("/dev/shm")
    return place if os.access(place, os.W_OK) else None


def sum_speed(megabytes: int = 256) -> float:
    """Seconds that a GB's sha256 takes here."""
    content = bytes(1 << 20)
    digest, began = hashlib.sha256(), time.monotonic()
    for _ in range(megabytes):
        digest.update(content)
    return (time.monotonic() - began) / (megabytes * (1 << 20) / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the folder that damage.json is written to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ |= {"DISTILL_BENCH_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        found = figures(survive(arguments.tries, World(Path(folder).resolve()), arguments.seed, say=True))
    report = {"kind": "reliability", "harness": "damage", "seed": arguments.seed, **found}
    report["sha256_seconds_a_gb"] = round(sum_speed(), 2)
    report["run"] = run_block(time.monotonic() - began)
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "damage.json").write_text(text)
    sys.exit(bool(found["wrong"]))


if __name__ == "__main__":
    main()
