"""Measures of a distilled set beyond its accuracy."""

from distill_bench.analysis.transfer import Transfer, shown, transfer

__all__ = ["Transfer", "shown", "transfer"]
