"""The examples in docstrings come out as they say."""

import doctest
import importlib
from pathlib import Path

import pytest

import distill_bench

PACKAGE = Path(distill_bench.__file__).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


def test_there_are_examples():
    assert sum(path.read_text(encoding="utf-8").count(">>> ") for path in FILES) >= 10


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples_come_out_as_they_say(path):
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert (failed, attempted) == (0, path.read_text(encoding="utf-8").count(">>> "))
