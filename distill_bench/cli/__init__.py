"""The command ``distill-bench``: a file a command, named as the command."""

from distill_bench.cli.commands import app, main
