"""The command: its subcommands by name. Results on standard output, progress on the error."""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn, get_args, get_origin

import typer
from typer.models import OptionInfo

from distill_bench import __version__
from distill_bench.cli.bench import bench_command
from distill_bench.cli.cache import cache_app
from distill_bench.cli.command import as_command
from distill_bench.cli.compare import compare_command
from distill_bench.cli.download import download_command
from distill_bench.cli.evaluate import evaluate_command
from distill_bench.cli.experts import experts_app
from distill_bench.cli.export import export_command
from distill_bench.cli.import_ import import_command
from distill_bench.cli.info import info_command
from distill_bench.cli.leaderboard import leaderboard_command
from distill_bench.cli.list import list_command
from distill_bench.cli.measure import measure_command
from distill_bench.cli.output import as_flags, show
from distill_bench.cli.publish import publish_command
from distill_bench.cli.recipe import recipe_app
from distill_bench.cli.render import render_command
from distill_bench.cli.settings import Option, Words, defaults
from distill_bench.cli.streams import guarded_streams
from distill_bench.cli.synthesize import synthesize_command
from distill_bench.cli.teachers import teachers_app
from distill_bench.cli.verify import verify_command
from distill_bench.errors import (
    MEMORY_ADVICE,
    DataError,
    DistillBenchError,
    Interrupted,
    RunFailed,
    UsageError,
    first_line,
    is_out_of_memory,
)
from distill_bench.runtime.progress import StopBeforeStart, stop_at_once
from distill_bench.runtime.text import for_terminal

app = typer.Typer(
    help="A benchmark suite for dataset distillation.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help that is drawn by rich takes twice as long, and breaks names that are long
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Misuse: type[Exception] = typer.BadParameter.__bases__[0]
"""Of all errors in what was typed, of options and commands."""
_END = 2000
"""Characters kept of the beginning and of the end of an error."""
_COMMANDS: dict[str, Callable[..., None]] = {
    "synthesize": synthesize_command,
    "evaluate": evaluate_command,
    "measure": measure_command,
    "compare": compare_command,
    "bench": bench_command,
    "leaderboard": leaderboard_command,
    "render": render_command,
    "info": info_command,
    "download": download_command,
    "import": import_command,
    "export": export_command,
    "publish": publish_command,
    "verify": verify_command,
    "list": list_command,
}
_GROUPS = {"recipe": recipe_app, "teachers": teachers_app, "experts": experts_app, "cache": cache_app}
for name, function in _COMMANDS.items():
    app.command(name)(as_command(function))
for name, group in _GROUPS.items():
    for each in group.registered_commands:
        assert each.callback is not None
        each.callback = as_command(each.callback)
    app.add_typer(group, name=name)


def _show_version(asked: bool) -> None:
    if asked:
        show(f"distill-bench {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A benchmark suite for dataset distillation."""


def main() -> NoReturn:
    """Run the command; errors of the package become a line on standard error, or few, and their exit code."""
    stop_at_once()
    # a method, network or protocol written beside the data is found from here, after all that is installed
    sys.path.append(os.getcwd())
    with guarded_streams():
        sys.exit(_run())


def _run() -> int:
    """The exit code of the command, which is run here."""
    try:
        tree = defaults(_OPTIONS, sys.argv[1:])
        code = app(prog_name="distill-bench", standalone_mode=False, default_map=tree)
        return code if isinstance(code, int) else 0  # one where a command ends in one
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except _Misuse as error:
        return _misused(error)
    except BrokenPipeError:  # who reads the output has enough
        return DataError.exit_code
    except StopBeforeStart:
        _complain("stopped on request, before any work began.")
        return Interrupted.exit_code
    except DistillBenchError as error:
        _complain(*map(str, error.args))
        return error.exit_code
    except OSError as error:  # what the system refuses, such as a name too long, wherever it was asked
        where = f"{error.filename}: " if error.filename else ""
        _complain(
            f"{where}{error.strerror or error}. Allow it, or give another path (DISTILL_BENCH_HOME is the cache's), "
            "and run the same command again."
        )
        return DataError.exit_code
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _complain(MEMORY_ADVICE.format(first_line(error)))
        return RunFailed.exit_code
    return 0


def options_of(of: typer.Typer, above: Words = ()) -> dict[Words, dict[str, Option]]:
    """The options of all commands, as ``settings.Options``."""
    found = dict[Words, dict[str, Option]]()
    for command in of.registered_commands:
        assert command.callback is not None and command.name is not None
        found[*above, command.name] = taken = dict[str, Option]()
        for name, parameter in inspect.signature(command.callback).parameters.items():
            kind, about = get_args(parameter.annotation)
            if isinstance(about, OptionInfo):
                flags = (str(about.default), *(about.param_decls or ()))  # its first is called default
                (long,) = [flag for flag in flags if flag.startswith("--")]
                repeatable = any(get_origin(each) is list for each in (kind, *get_args(kind)))
                text = str in {kind, *get_args(kind), *(each for inner in get_args(kind) for each in get_args(inner))}
                taken[long[2:].replace("-", "_")] = Option(name, repeatable, text)
    for group in of.registered_groups:
        assert group.typer_instance is not None and group.name is not None
        found |= options_of(group.typer_instance, (*above, group.name))
    return found


_OPTIONS = options_of(app)


def _misused(error: Any) -> int:
    """Say what is wrong with the words that were typed, in the form of all errors; the help where there are none."""
    said = error.format_message()
    if "\n" in said:
        error.show()
    else:
        end = "" if said.endswith((".", "?")) else "."
        _complain(f"{said}{end} See {error.ctx.command_path if error.ctx else 'distill-bench'} --help.")
    return UsageError.exit_code


def _complain(*lines: str) -> None:
    sys.stderr.write("error: " + "\n".join(for_terminal(as_flags(_shortened(line))) for line in lines) + "\n")


def _shortened(line: str) -> str:
    """A line without its middle where it is endless, as with a value of thousands of characters in it."""
    return line if len(line) <= 2 * _END else f"{line[:_END]} … {line[-_END:]}"
