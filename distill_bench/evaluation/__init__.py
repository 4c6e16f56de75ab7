"""The fixed evaluator. Knows nothing of how sets are made."""

from distill_bench.evaluation.cache import KeptNetworks, NothingKept, score_key
from distill_bench.evaluation.cost import evaluation_seconds
from distill_bench.evaluation.doubts import pixel_notes, protocol_note
from distill_bench.evaluation.evaluate import evaluate, evaluate_full, network_flops, protocol_for, runs_compiled
from distill_bench.evaluation.protocol import PROTOCOLS, Protocol, load_protocol
from distill_bench.evaluation.result import Failure, Result, Synthesis, data_facts, data_name
from distill_bench.evaluation.teachers import recorded_score, score_teacher

__all__ = [
    "PROTOCOLS",
    "Failure",
    "KeptNetworks",
    "NothingKept",
    "Protocol",
    "Result",
    "Synthesis",
    "data_facts",
    "data_name",
    "evaluate",
    "evaluate_full",
    "evaluation_seconds",
    "load_protocol",
    "network_flops",
    "pixel_notes",
    "protocol_for",
    "protocol_note",
    "recorded_score",
    "runs_compiled",
    "score_key",
    "score_teacher",
]
