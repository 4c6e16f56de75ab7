"""Options that the user has set once and for all, by the environment or a file, and that the command line overrides."""

import os
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from distill_bench.errors import UsageError, did_you_mean
from distill_bench.runtime.settings import CONFIG, PREFIX, SETTINGS, config_file, read_config

COMMON = ("device", "compile", "quiet", "verbose", "checkpoint_seconds")
"""Options that mean the same wherever they are: they can be set for all commands together."""
ONE_OF = ({"ipc", "fraction"}, {"holdout", "split"})
"""Options of which a command takes one: where that is typed, a setting of the other does not count, nor where the
environment has it does the file's."""
_CLOSE = 0.85


class Option(NamedTuple):
    """An option of a command.

    Attributes:
        parameter: what its function calls it.
        repeatable: whether it takes several values.
        text: whether a value is text, so that a yes or a list of the file is written as on the command line.
    """

    parameter: str
    repeatable: bool
    text: bool

    def values(self, value: Any) -> Any:
        """A setting as the command line has it."""
        if not self.repeatable:
            return self._written(value)
        return [self._written(each) for each in (value if isinstance(value, list) else [value])]

    def _written(self, value: Any) -> Any:
        if self.text and isinstance(value, bool):
            return "yes" if value else "no"
        if self.text and isinstance(value, list):
            from distill_bench.datasets.classes import as_words  # here: it imports torch

            return as_words([*map(str, value)])
        return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~/") else value


Words = tuple[str, ...]
Options = Mapping[Words, Mapping[str, Option]]
"""The options of every command, by the words that name it, and by their own with ``_`` for hyphens."""


def options_typed(words: Iterable[str]) -> set[str]:
    """The long options among the words of a command line, with ``_`` for hyphens."""
    return {word.partition("=")[0][2:].replace("-", "_") for word in words if word.startswith("--")}


def defaults(options: Options, typed: Collection[str] = ()) -> dict[str, Any]:
    """The values that take the place of the commands' own defaults.

    What is set for one command counts before what is set for all, and the environment before the file.

    Args:
        options: of all commands.
        typed: the words of the command line.

    Returns:
        Values by parameter, in a dictionary a command; those of a group's commands in one of its own.

    Raises:
        UsageError: a key of the file is no setting, or a variable comes close to one; names what was meant.
    """
    file = read_config()
    _check_known(file, {*SETTINGS, *COMMON, *(words[0] for words in options)}, f"{config_file()}: there is no setting")
    _check_environment(options)
    replaced = {name for names in ONE_OF if names & options_typed(typed) for name in names}
    tree: dict[str, Any] = {}
    for words, names in options.items():
        table = _table(file, words, options)
        near = {name for name in names if os.environ.get(_variable(*words, name))}
        farther = {name for group in ONE_OF if group & near for name in group - near}
        for name, option in names.items():
            value = _value(words, name, table, file)
            if value is not None and name not in replaced | farther:
                inner = tree
                for word in words:
                    inner = inner.setdefault(word, {})
                inner[option.parameter] = option.values(value)
    return tree


def _value(words: Words, name: str, table: Mapping[str, Any], file: Mapping[str, Any]) -> Any:
    """What an option is set to; None where it is not."""
    candidates = [os.environ.get(_variable(*words, name)), table.get(name)]
    if name in COMMON:
        candidates += [os.environ.get(_variable(name)), file.get(name)]
    return next((value for value in candidates if value not in (None, "")), None)


def _table(file: Mapping[str, Any], words: Words, options: Options) -> dict[str, Any]:
    """What the file says of a command. Raises UsageError for a key that is none of its options."""
    table: Any = file
    for depth, word in enumerate(words):
        table = table.get(word, {})
        name = ".".join(words[: depth + 1])
        if not isinstance(table, dict):
            raise UsageError(f"{config_file()}: {name} is a command: its options stand in a table, [{name}].")
        commands = {other[depth + 1] for other in options if other[: depth + 1] == words[: depth + 1] != other}
        if commands:
            _check_known(table, commands, f"{config_file()}: {name} has no command")
    table = {key.replace("-", "_"): value for key, value in table.items()}
    _check_known(table, options[words], f"{config_file()}: {' '.join(words)} has no option")
    return table


def _variable(*words: str) -> str:
    return PREFIX + "_".join(words).upper().replace("-", "_")


def _check_environment(options: Options) -> None:
    """A variable that comes close to a setting is a slip; others of that beginning may be another program's."""
    known = {CONFIG, *map(_variable, (*SETTINGS, *COMMON))}
    known |= {_variable(*words, name) for words, names in options.items() for name in names}
    ends = {name.removeprefix(PREFIX) for name in known}  # what begins alike would come close in any case
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and (hint := did_you_mean(name[len(PREFIX) :], ends, _CLOSE)):
            for word in (" mean ", " or "):
                hint = hint.replace(word, word + PREFIX)
            raise UsageError(f"the environment variable {name} is no setting.{hint}")


def _check_known(keys: Collection[str], known: Collection[str], wrong: str) -> None:
    for key in keys:
        if key not in known:
            raise UsageError(f"{wrong} {key!r}.{did_you_mean(key, known)} Known: {', '.join(sorted(known))}.")
