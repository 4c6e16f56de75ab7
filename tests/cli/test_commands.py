"""Every command and sub-command with its arguments and options, as committed in ``commands.json`` beside this file."""

import inspect
import json
import types
import typing
from functools import partial
from pathlib import Path
from typing import Any

import typer

from distill_bench import cli

FILE = Path(__file__).with_name("commands.json")


def commands(app: typer.Typer, above: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """What each command takes, by the words that are typed."""
    found = {f"{above}{command.name}": parameters(command.callback) for command in app.registered_commands}
    for group in app.registered_groups:
        found |= commands(group.typer_instance, f"{above}{group.name} ")
    return found


def parameters(function: Any) -> dict[str, dict[str, Any]]:
    """By an option's spellings, or an argument's name: what a script that gives it depends on."""
    found = {}
    hints = typing.get_type_hints(function, include_extras=True)
    for name, taken in inspect.signature(function).parameters.items():
        annotation, about = typing.get_args(hints[name])
        of = next(iter(typing.get_args(annotation))) if isinstance(annotation, types.UnionType) else annotation
        repeatable = typing.get_origin(of) is list
        (of,) = typing.get_args(of) if repeatable else (of,)
        required = taken.default is inspect.Parameter.empty
        facts = {
            "type": of.__name__,
            "choices": list(typing.get_args(of)) or None,  # of a Literal
            "metavar": about.metavar,
            "min": about.min,
            "max": about.max,
            "required": required or None,
            "repeatable": repeatable or None,
            "default": None if required else taken.default,
        }
        option = isinstance(about, typer.models.OptionInfo)
        spelt = " ".join([about.default, *about.param_decls]) if option else name  # its first is called default
        found[spelt] = {key: value for key, value in facts.items() if value is not None}
    return found


def as_text() -> str:
    """The file's content: a line for each argument and option."""
    as_json = partial(json.dumps, ensure_ascii=False, default=str)
    lines = []
    for words, taken in commands(cli.app).items():
        inner = ",\n".join(f"  {as_json(name)}: {as_json(facts)}" for name, facts in taken.items())
        lines.append(f" {as_json(words)}: {{\n{inner}\n }}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def test_commands_arguments_and_options_are_the_committed_ones():
    """A flag for every hyper-parameter would become unmanageable: a new one has to be meant.

    ``python tests/cli/test_commands.py`` writes the file anew.
    """
    committed = FILE.read_text(encoding="utf-8")
    assert len(json.loads(committed)) >= 21 and committed.count('"type"') >= 180
    assert as_text() == committed


if __name__ == "__main__":
    FILE.write_text(as_text(), encoding="utf-8")
