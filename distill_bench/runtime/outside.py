"""Functions from outside the package, named ``module:function``."""

import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from distill_bench.errors import UsageError, did_you_mean

PACKAGE = __name__.partition(".")[0]
_IMPORTED: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()
"""The sums of modules' files when they were imported."""


def import_named(spec: str, what: str, kinds: Iterable[str] = ()) -> Any:
    """What ``module:name`` names.

    Args:
        spec: the module as Python imports it, a colon, and a name in it.
        what: such as ``"method"``, for errors.
        kinds: other words that may stand before a colon, of which one was perhaps meant.

    Returns: the object of that name.

    Raises:
        UsageError: it cannot be imported, or its file has changed since it was.
    """
    name, _, attribute = spec.partition(":")
    meant = did_you_mean(name, kinds)
    try:
        module = importlib.import_module(name)
        meant = did_you_mean(attribute, dir(module))
        named = getattr(module, attribute)
    except (Exception, SystemExit) as error:  # what a module raises while it is imported may be anything
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"cannot load the {what} {spec!r}: {reason.rstrip('.')}.{meant} Give module:function, with the "
            "module's name as import takes it (no path, no .py), importable from here."
        ) from error
    file = getattr(module, "__file__", None)
    if file:
        found = hashlib.sha256(Path(file).read_bytes()).hexdigest()
        if _IMPORTED.setdefault(module, found) != found:
            raise UsageError(f"{spec}: {file} has changed since it was imported: restart Python.")
    return named


def import_function(spec: str, what: str, kinds: Iterable[str] = ()) -> Callable[..., Any]:
    """As ``import_named``, of a function. Raises UsageError for what is none."""
    function = import_named(spec, what, kinds)
    if not callable(function):
        raise UsageError(f"{spec} is a {type(function).__name__}, not a function.")
    return function


def file_and_sum(spec: str, what: str) -> str:
    """Name and sha256 of the file of a protocol or network from outside: a ``.toml``, or that of a ``module:name``."""
    if ":" in spec:
        import_named(spec, what)
        module = sys.modules[spec.partition(":")[0]]
        return f"{Path(module.__file__ or '').name}, sha256 {_IMPORTED[module]}" if module in _IMPORTED else "no file"
    return f"{Path(spec).name}, sha256 {hashlib.sha256(Path(spec).read_bytes()).hexdigest()}"


def source_sha256(function: Callable[..., Any], spec: str, what: str) -> str | None:
    """The sha256 of the file that defines a function, so that edited code is new work; None for this package's own.

    Args:
        function: written in Python.
        spec: its name, for errors.
        what: such as ``"method"``, for errors.

    Returns:
        The hash in hexadecimal, or None.

    Raises:
        UsageError: it is no function written in Python.
    """
    if function.__module__.partition(".")[0] == PACKAGE:
        return None
    try:
        file = inspect.getsourcefile(function)
    except TypeError:
        kind = type(function).__name__
        raise UsageError(f"{spec} is a {kind}; a {what} is a function written in Python.") from None
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None
