"""Help, version and completion: at once, without torch; the names that help lists are those that there are."""

import subprocess
import sys

import pytest

from distill_bench import __version__, benchmark, hub
from distill_bench.benchmark.cached import KINDS
from distill_bench.cli import choices
from distill_bench.datasets.pixel_space import SPACES
from distill_bench.evaluation import PROTOCOLS
from distill_bench.methods.recipe import PAPER
from distill_bench.training.compilation import Choice

CODE = """
import sys
from distill_bench.cli.commands import app
for words in {words}:
    try:
        app(words, prog_name="distill-bench")
    except SystemExit as stop:
        assert not stop.code, words
heavy = {{"torch", "numpy", "pandas", "torchvision", "sklearn", "scipy", "matplotlib"}} & sys.modules.keys()
assert not heavy, heavy
"""


def test_help_of_every_command_and_the_version_import_no_torch():
    groups = {"recipe": "show validate", "teachers": "train list", "experts": "train import list show"}
    groups |= {"cache": "list check clear"}
    single = (
        "synthesize evaluate measure compare bench leaderboard render info download import export publish verify list"
    )
    words = [["--help"], ["--version"], *([name, "--help"] for name in [*single.split(), "list", *groups])]
    words += [[name, command, "-h"] for name, commands in groups.items() for command in commands.split()]
    done = subprocess.run([sys.executable, "-c", CODE.format(words=words)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"distill-bench {__version__}\n" in done.stdout
    unwrapped = " ".join(done.stdout.split()).replace("- ", "-")  # lines end at hyphens too
    for known in ("synthesize", "-o, --out", "-q, --quiet", "-v, --verbose", *PROTOCOLS, *hub.writable_formats()):
        assert known in unwrapped, known


def test_names_that_help_lists_are_those_of_the_modules():
    assert choices.PAPER == PAPER
    assert tuple(PROTOCOLS) == choices.PROTOCOLS
    assert choices.SPACES == SPACES
    assert set(choices.COMPILE) == set(Choice.__args__)
    assert choices.EXECUTORS == benchmark.EXECUTORS
    assert tuple(hub.all_formats()) == choices.FORMATS
    assert tuple(hub.writable_formats()) == choices.WRITABLE_FORMATS
    assert tuple(kind.name for kind in KINDS if not kind.own) == choices.CLEARED


@pytest.mark.parametrize(("typed", "offered"), [("synth", "synthesize"), ("synthesize --data", "--dataset")])
def test_the_shell_completes_commands_and_options(typed, offered):
    code = "from distill_bench.cli import main; main()"
    asked = {"_DISTILL_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": f"distill-bench {typed}", "PATH": ""}
    asked["COMP_CWORD"] = str(len(typed.split()))
    done = subprocess.run([sys.executable, "-c", code], env=asked, check=False, capture_output=True, text=True)
    assert offered in done.stdout.split(), done


def test_what_was_looked_up_is_said_on_request_alone(command, tmp_path):
    words = ("synthesize", "random", "--dataset", "digits", "--ipc", 1, "-o", tmp_path / "x.safetensors")
    assert "preset paper" not in command(*words, "-q")[2]
    code, _, error = command(*words, "-v")
    assert code == 0 and "random, preset paper" in error
    assert command("info", tmp_path / "x.safetensors", "-q")[0] == 0
