"""The fixed evaluator. Knows nothing of how sets are made."""

from distill_bench.evaluation.evaluate import evaluate, evaluate_full
from distill_bench.evaluation.kept import KeptNetworks, score_key
from distill_bench.evaluation.protocol import PROTOCOLS, Protocol, load_protocol
from distill_bench.evaluation.score import Score

__all__ = [
    "PROTOCOLS",
    "KeptNetworks",
    "Protocol",
    "Score",
    "evaluate",
    "evaluate_full",
    "load_protocol",
    "score_key",
]
