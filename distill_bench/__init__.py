"""distill_bench: a benchmark suite for dataset distillation.

Methods turn a training set into a few synthetic images per class; one fixed evaluator trains freshly initialised
networks on them; a suite tabulates the result.

A name is imported when it is first used, so that the command's help does not wait for torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill_bench.api.boards import Board, bench, leaderboard
    from distill_bench.api.compare import compare
    from distill_bench.api.released import export, import_sets, publish, verify, verify_claim
    from distill_bench.api.sets import evaluate, evaluate_full, render, synthesize
    from distill_bench.benchmark.results import load_results
    from distill_bench.datasets import Dataset, Split, list_datasets, load_dataset
    from distill_bench.distilled.card import Card
    from distill_bench.distilled.distilled_set import DistilledSet
    from distill_bench.distilled.playback import Playback, stored_projector, stored_teacher
    from distill_bench.errors import DataError, DistillBenchError, Interrupted, RunFailed, UsageError
    from distill_bench.evaluation import Protocol, Result, list_protocols
    from distill_bench.hub.registry.published import load_distilled
    from distill_bench.methods import (
        Config,
        Objective,
        Run,
        SynthesisResult,
        list_methods,
        method,
        optimise,
    )

__version__ = "0.1.0"

_HOMES = {
    "api.boards": ("Board", "bench", "leaderboard"),
    "api.compare": ("compare",),
    "api.released": ("export", "import_sets", "publish", "verify", "verify_claim"),
    "api.sets": ("evaluate", "evaluate_full", "render", "synthesize"),
    "benchmark.results": ("load_results",),
    "datasets": ("Dataset", "Split", "list_datasets", "load_dataset"),
    "distilled.card": ("Card",),
    "distilled.distilled_set": ("DistilledSet",),
    "distilled.playback": ("Playback", "stored_projector", "stored_teacher"),
    "errors": ("DataError", "DistillBenchError", "Interrupted", "RunFailed", "UsageError"),
    "evaluation": ("Protocol", "Result", "list_protocols"),
    "hub.registry.published": ("load_distilled",),
    "methods": (
        "Config",
        "Objective",
        "Run",
        "SynthesisResult",
        "list_methods",
        "method",
        "optimise",
    ),
}
"""The modules that the public names come from."""
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(f"{__name__}.runtime.loading")  # torch first, so that its limits are told
    globals()[name] = value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})


__all__ = [
    "Board",
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
    "bench",
    "compare",
    "evaluate",
    "evaluate_full",
    "export",
    "import_sets",
    "leaderboard",
    "list_datasets",
    "list_methods",
    "list_protocols",
    "load_dataset",
    "load_distilled",
    "load_results",
    "method",
    "optimise",
    "publish",
    "render",
    "stored_projector",
    "stored_teacher",
    "synthesize",
    "verify",
    "verify_claim",
]
