"""Measures of a distilled set beyond its accuracy."""

from distill_bench.evaluation.measures.transfer import Transfer, shown, transfer

__all__ = ["Transfer", "shown", "transfer"]
