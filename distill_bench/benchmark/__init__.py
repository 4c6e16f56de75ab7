"""Suites: a grid of cells, each read from disk, done where missing, and filed as results."""

from distill_bench.benchmark.cost import Calibration, Timed, predict
from distill_bench.benchmark.executor import EXECUTORS, RAY, check_executor, run_cells, usual_threads
from distill_bench.benchmark.suite import Cell, Suite, expand, list_suites, load_suite, parse_only
from distill_bench.benchmark.tasks import IMPOSSIBLE, CellWork, Setting

__all__ = [
    "EXECUTORS",
    "IMPOSSIBLE",
    "RAY",
    "Calibration",
    "Cell",
    "CellWork",
    "Setting",
    "Suite",
    "Timed",
    "check_executor",
    "expand",
    "list_suites",
    "load_suite",
    "parse_only",
    "predict",
    "run_cells",
    "usual_threads",
]
