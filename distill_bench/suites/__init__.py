"""Suites: a grid of cells, each read from disk, done where missing, and filed as results."""

from distill_bench.suites.cell import IMPOSSIBLE, CellWork, Setting
from distill_bench.suites.cost import Calibration, Timed, predict
from distill_bench.suites.run import EXECUTORS, RAY, check_executor, run_cells, usual_threads
from distill_bench.suites.suite import Cell, Suite, expand, list_suites, load_suite, parse_only

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
