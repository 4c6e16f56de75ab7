"""The library speaks of arguments, the command line of its options."""

import ast
import re
from pathlib import Path

import pytest

import distill_bench
from distill_bench.cli.output import CommandMonitor, as_flags
from distill_bench.errors import UsageError

PACKAGE = Path(distill_bench.__file__).parent
COMMANDS = re.compile(
    "distill-bench |--dataset … --out|evaluate --json|evaluate --results|import --form|export --to|"
    "--set|--offline|--file "
)
"""Options in the library's text that are parts of whole commands, or of the reader of ``--set``."""


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("`size=N` settles it", "--size N settles it"),
        (
            "give `flip_invariant=False`, `networks` or `allow_leak=True`.",
            "give --flip-invariant no, --networks or --allow-leak.",
        ),
        (
            "lower `image_lr=…` (now 1), or `teacher.epochs=3`",
            "lower --set image_lr=… (now 1), or --set teacher.epochs=3",
        ),
        ("`labels='x'`: give stored or hard", "--labels x: give stored or hard"),
        ("no `word` of ours, ``double`` neither", "no `word` of ours, ``double`` neither"),
    ],
)
def test_arguments_become_options(said, shown):
    assert as_flags(said) == shown


def test_a_command_says_options_wherever_it_says_something(command, capsys):
    CommandMonitor().say("give `size`")
    assert capsys.readouterr().err == "give --size\n"
    code, _, error = command("synthesize", "dm", "--dataset", "digits", "--ipc", 0, "--out", "x.safetensors")
    assert (code, error) == (2, "error: --ipc 0: at least one image per class is needed.\n")


def test_python_is_told_of_arguments(digits):
    with pytest.raises(UsageError, match=r"^`ipc=0`: at least one image per class is needed"):
        distill_bench.synthesize(digits, "dm", 0)


def test_no_text_of_the_library_names_an_option():
    texts = 0
    for path in PACKAGE.rglob("*.py"):
        if "cli" in path.relative_to(PACKAGE).parts or path.name in (
            "losses.py",
            "exporting.py",
            "run_info.py",
            "card.py",
        ):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts += 1
                if re.fullmatch(r"--[a-z-]+", node.value.strip()):
                    continue  # a word of a command that is put together
                wrong = re.search(r"(?<![\w-])--[a-z]", COMMANDS.sub("", " ".join(node.value.split())))
                assert not wrong, f"{path.name}:{node.lineno}: {node.value[:120]}"
    assert texts > 2000
