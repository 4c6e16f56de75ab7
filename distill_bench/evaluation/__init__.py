"""The fixed evaluator. Knows nothing of how sets are made."""

from distill_bench.evaluation.cache import ScoreCache, networks_key, score_folder, score_key
from distill_bench.evaluation.doubts import pixel_notes, protocol_note
from distill_bench.evaluation.evaluate import evaluate, evaluate_full, protocol_for, protocols_for
from distill_bench.evaluation.protocol import (
    PROTOCOLS,
    Protocol,
    known_protocol,
    list_protocols,
    load_protocol,
    members,
)
from distill_bench.evaluation.result import Failure, Result, Synthesis, data_facts, data_name
from distill_bench.evaluation.teachers import recorded_score, score_teacher
