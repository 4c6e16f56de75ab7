"""Measures of a distilled set beyond its accuracy."""

from distill_bench.evaluation.measures.continual import Continual, continual
from distill_bench.evaluation.measures.measured import Estimated, Measured
from distill_bench.evaluation.measures.nas import ArchitectureSearch, nas
from distill_bench.evaluation.measures.privacy import Privacy, privacy
from distill_bench.evaluation.measures.robust_scores import RobustScore, ars, lrs
from distill_bench.evaluation.measures.transfer import Transfer, shown, transfer

__all__ = [
    "ArchitectureSearch",
    "Continual",
    "Estimated",
    "Measured",
    "Privacy",
    "RobustScore",
    "Transfer",
    "ars",
    "continual",
    "lrs",
    "nas",
    "privacy",
    "shown",
    "transfer",
]
