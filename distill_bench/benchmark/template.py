"""The file that a suite of one's own begins with."""

import os
import tomllib
from pathlib import Path

from pydantic import ValidationError

from distill_bench.benchmark.suite import Suite
from distill_bench.errors import UsageError, describe
from distill_bench.runtime.files import check_ending, write_atomically

TEMPLATE = Path(__file__).with_name("new_suite.toml")


def new_suite(path: Path, force: bool = False) -> None:
    """Write a suite's file to begin with, in which every key is explained.

    Args:
        path: of the file; its name becomes the suite's.
        force: replace a file that is there.

    Raises:
        UsageError: there is a file and it is not to be replaced, or the name is none of a suite.
        DataError: it cannot be written.
    """
    check_ending(path, ".toml")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already, and is left as it is: give another name, or `force`.")
    content = TEMPLATE.read_text(encoding="utf-8")
    try:
        Suite.model_validate({"name": path.stem} | tomllib.loads(content))
    except ValidationError as error:
        raise UsageError(f"{path}: {describe(error)}.") from error
    write_atomically(path, content)
