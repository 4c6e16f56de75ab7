"""Processes that die between two writes."""

import os

import pytest

from distill_bench.runtime import files


class Kill(BaseException):
    """Instead of SIGKILL: nothing catches it."""


def kill_after(patch: pytest.MonkeyPatch, writes: int) -> None:
    """Have the process die once it has written so many files."""
    left, replace = [writes], os.replace

    def counted(before, after):
        replace(before, after)
        left[0] -= 1
        if not left[0]:
            raise Kill

    patch.setattr(files.os, "replace", counted)
