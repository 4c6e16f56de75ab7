"""``python -m distill_bench``."""

from distill_bench.cli import main

main()
