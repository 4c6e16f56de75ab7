"""distill_bench: a benchmark suite for dataset distillation.

Methods turn a training set into a few synthetic images per class; one fixed evaluator trains freshly initialised
networks on them; a suite tabulates the result.
"""

import distill_bench.runtime.loading  # noqa: F401 (torch first, so that its limits are told)
from distill_bench.benchmark.results import load_results
from distill_bench.datasets import Dataset, Split, list_datasets, load_dataset
from distill_bench.distilled.distilled_set import Card, DistilledSet
from distill_bench.distilled.playback import Playback, stored_teacher
from distill_bench.errors import DataError, DistillBenchError, Interrupted, RunFailed, UsageError
from distill_bench.evaluation import PROTOCOLS, Protocol, Result, evaluate, evaluate_full
from distill_bench.hub.registry.published import load_distilled
from distill_bench.methods import Config, Objective, Run, SynthesisResult, list_methods, method, optimise, synthesize

__version__ = "0.1.0"


def list_protocols() -> list[str]:
    """The ids of the evaluation protocols."""
    return list(PROTOCOLS)


__all__ = [
    "Card",
    "Config",
    "DataError",
    "Dataset",
    "DistillBenchError",
    "DistilledSet",
    "Interrupted",
    "Objective",
    "Playback",
    "Protocol",
    "Result",
    "Run",
    "RunFailed",
    "Split",
    "SynthesisResult",
    "UsageError",
    "evaluate",
    "evaluate_full",
    "list_datasets",
    "list_methods",
    "list_protocols",
    "load_dataset",
    "load_distilled",
    "load_results",
    "method",
    "optimise",
    "stored_teacher",
    "synthesize",
]
