"""Measures of a distilled set beyond its accuracy."""

from distill_bench.analysis.transfer import Transfer, transfer

__all__ = ["Transfer", "transfer"]
