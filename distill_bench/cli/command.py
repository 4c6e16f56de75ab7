"""What every command does before its own work, so that its help need not: torch is loaded, ``-v`` and ``-q``."""

import functools
import inspect
import logging
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from distill_bench.errors import DistillBenchError
from distill_bench.runtime.log import log
from distill_bench.runtime.malloc import disable_trim

Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say on standard error what is looked up and decided.")]


_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error; here there is none.")]


class _ToStandardError(logging.StreamHandler):
    """To whatever is standard error now."""

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, given: Any) -> None:
        """What it was when the handler was made does not count."""


_SAID = _ToStandardError()


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """A command's function with what all have: ``--verbose``, and ``--quiet`` where it shows no progress of its own.

    Args:
        function: of the command; it may import what takes its time, torch above all, which is loaded before.

    Returns:
        The function that typer is given.
    """
    own = inspect.signature(function, eval_str=True)
    common = {"verbose": Verbose} | ({} if "quiet" in own.parameters else {"quiet": _Quiet})

    @functools.wraps(function)
    def run(*, verbose: bool, **given: Any) -> None:
        begin(verbose)
        function(**{name: value for name, value in given.items() if name in own.parameters})

    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in common.items()
    ]
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    run.__annotations__ = {**{name: each.annotation for name, each in own.parameters.items()}, **common}
    return run


def begin(verbose: bool) -> None:
    """Make this process one that computes.

    Raises:
        DistillBenchError: torch cannot be loaded.
    """
    log.setLevel(logging.INFO if verbose else logging.NOTSET)
    (log.addHandler if verbose else log.removeHandler)(_SAID)
    disable_trim()
    try:
        from distill_bench.runtime import loading  # noqa: F401
    except ImportError as error:
        raise DistillBenchError(str(error)) from error
    from distill_bench.training.compilation import name_inductor_cache

    name_inductor_cache()
