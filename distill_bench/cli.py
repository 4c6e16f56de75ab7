"""The command: its subcommands by name. Results on standard output, progress on the error."""

import sys
from collections.abc import Callable
from typing import NoReturn

import typer

from distill_bench.commands import download, lists, pretrained, publish, released, sets, suites
from distill_bench.errors import (
    MEMORY_ADVICE,
    DistillBenchError,
    Interrupted,
    RunFailed,
    first_line,
    is_out_of_memory,
)
from distill_bench.runtime.malloc import keep_freed_memory
from distill_bench.runtime.progress import StoppedEarly, stop_at_once
from distill_bench.runtime.text import for_terminal

app = typer.Typer(
    help="A benchmark suite for dataset distillation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS: dict[str, Callable[..., None]] = {
    "synthesize": sets.synthesize_command,
    "evaluate": sets.evaluate_command,
    "measure": sets.measure_command,
    "bench": suites.bench_command,
    "leaderboard": suites.leaderboard_command,
    "render": sets.render_command,
    "info": sets.info_command,
    "download": download.download_command,
    "import": released.import_command,
    "export": released.export_command,
    "publish": publish.publish_command,
    "verify": publish.verify_command,
    "list": lists.list_command,
}
for name, function in COMMANDS.items():
    app.command(name)(function)
app.add_typer(lists.recipe_app, name="recipe")
app.add_typer(pretrained.teachers_app, name="teachers")
app.add_typer(pretrained.experts_app, name="experts")


def main() -> NoReturn:
    """Run the command; errors of the package become a line on standard error, or few, and their exit code."""
    keep_freed_memory()
    stop_at_once()
    try:
        app(prog_name="distill-bench", standalone_mode=True)
    except StoppedEarly:
        _complain("stopped on request, before any work began.")
        sys.exit(Interrupted.exit_code)
    except DistillBenchError as error:
        _complain(*map(str, error.args))
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _complain(MEMORY_ADVICE.format(first_line(error)))
        sys.exit(RunFailed.exit_code)
    sys.exit(0)


def _complain(*lines: str) -> None:
    sys.stderr.write("error: " + "\n".join(map(for_terminal, lines)) + "\n")
