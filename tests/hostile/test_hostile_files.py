"""Each file ends in an error of the documented kind or is a sound set; no code is run, no file harmed."""

import json
import os
import subprocess
import sys
from itertools import islice

import arena as arenas
import pytest
import strategies
from hypothesis import HealthCheck, Phase, given, settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bounds are read from Linux's /proc")

FEW, MANY = 2, 180
COMMANDS = 3
TROUBLED = ("nan", "loss", "explodes", "memory", "cpu", "plain_nan", "plain_bug", "fine")
PLANTS = {
    "unpickler_follows_everything": ("malicious pickles", "code of the file was run|guard: "),
    "compressed_records_unfold": ("lying .pt files", " MB"),
    "archives_unfold": ("arrays", " MB"),
    "pictures_are_any_size": ("tables", " MB|exit code"),
    "sets_are_not_checked": ("wrong values", "accepted, but|exit code 0"),
    "cards_take_any_key": ("cards", "exit code 0"),
    "errors_escape": ("broken sets", "an error of no documented kind"),
    "outputs_are_written_first": ("malicious pickles", "files changed: out/set.safetensors"),
    "labels_make_classes": ("arrays", " MB|no documented kind"),
    "content_is_followed_without_end": ("lying .pt files", "hung|no documented kind|died|exit code 0"),
}


def try_all(strategy, count, attempt):
    """Draw the same cases each time, and try each."""
    quick = settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )
    quick(given(strategy)(lambda case: attempt(case)))()


@pytest.mark.slow
def test_sound_files_are_accepted(tmp_path):
    """Otherwise it would be no wonder that the others are not."""
    sandbox = arenas.Arena(tmp_path / "sandbox")
    try:
        cases = list(strategies.sound_cases())
        assert len(cases) >= 27
        for case in cases:
            sandbox.try_case(case)
    finally:
        sandbox.close()


def test_there_are_as_many_kinds_as_there_were():
    assert len(strategies.ALL) >= 16


@pytest.mark.parametrize("kind", strategies.ALL)
def test_a_few_of_every_kind(arena, kind):
    try_all(strategies.ALL[kind], FEW, arena.try_case)


@pytest.mark.slow
@pytest.mark.parametrize("kind", strategies.ALL)
def test_many_of_every_kind(arena, kind):
    try_all(strategies.ALL[kind], MANY, arena.try_case)


@pytest.mark.slow
def test_no_cell_of_a_troubled_suite_is_lost(arena, tmp_path, command, monkeypatch):
    """Methods that diverge, want too much memory or have a bug, beside one that is fine."""
    from distill_bench.evaluation import PROTOCOLS

    monkeypatch.setenv("DISTILL_BENCH_HOME", str(tmp_path / "home"))
    short = PROTOCOLS["quick-v1"].model_copy(update={"epochs": 1, "networks": 1, "network": "ConvNetD1W4"})
    monkeypatch.setitem(PROTOCOLS, "quick-v1", short)
    methods = [f"troubled:{name}" for name in TROUBLED]
    suite = tmp_path / "mine.toml"
    suite.write_text(
        'title = "t"\ndatasets = ["digits"]\nipc = [1, 2]\nseeds = [0, 1]\nreference = "none"\n'
        f"methods = {json.dumps(methods)}\n"
    )
    options = ("--executor", "in-process", "--results", tmp_path / "results", "--json", "--quiet")
    code, out, _ = command("bench", suite, *options)
    rows = json.loads(out)
    arena.tally.cells += len(methods) * 2 * 2
    arena.tally.lost += arena.tally.cells - sum(row["seeds"] for row in rows)
    assert (code, arena.tally.lost) == (1, 0)
    assert {row["method"] for row in rows if row["status"] == "done"} == {"troubled:fine"}


@pytest.mark.slow
def test_there_were_as_many_as_promised(arena):
    """Runs after the others: the slow suite tries 2,000 different files or more."""
    assert len(arena.tally.digests) >= 2000 or arena.tally.digests == set()


@pytest.mark.slow
@pytest.mark.parametrize("kind", strategies.ALL)
def test_the_installed_command_does_the_same(tmp_path, kind):
    """The real command, a process a file."""
    cases = []
    try_all(strategies.ALL[kind], 12, cases.append)
    assert len(cases) >= COMMANDS
    for case in islice(reversed(cases), COMMANDS):
        root = tmp_path / case.digest[:8]
        for name, content in {arenas.OUT: arenas.PRECIOUS, **case.files}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        arguments = [part.format(root=root, out=root / arenas.OUT) for part in case.command]
        environment = os.environ | {"DISTILL_BENCH_HOME": str(root / "home"), "PYTHONPATH": str(arenas.ROOT)}
        command = [sys.executable, "-m", "distill_bench", *arguments]
        done = subprocess.run(command, capture_output=True, cwd=root, env=environment, timeout=300)
        said = done.stderr.decode(errors="replace")
        assert done.returncode in case.codes, f"{case}: {done.returncode}\n{said}"
        assert "Traceback" not in said
        assert not (root / "ran").exists()
        assert done.returncode == 0 or (root / arenas.OUT).read_bytes() == arenas.PRECIOUS


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS)
def test_planted_defects_are_found(tmp_path, plant):
    """The harness fails where it should."""
    kind, said = PLANTS[plant]
    planted = arenas.Arena(tmp_path / "sandbox", plant)
    try:
        with pytest.raises(AssertionError, match=said):
            try_all(strategies.ALL[kind], MANY, planted.try_case)
    finally:
        planted.close()
