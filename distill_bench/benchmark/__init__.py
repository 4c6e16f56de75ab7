"""Suites: a grid of cells, each read from disk, done where missing, and filed as results."""

from distill_bench.benchmark.cells import Cell, GivenSetCell, ReferenceCell, SetCell
from distill_bench.benchmark.executor import EXECUTORS, RAY, check_executor, run_cells, usual_threads
from distill_bench.benchmark.grid import expand, parse_only
from distill_bench.benchmark.planning import Plan, plan
from distill_bench.benchmark.predict import predict, predict_memory, predict_pretraining
from distill_bench.benchmark.results import read_results
from distill_bench.benchmark.suite import Suite, list_suites, load_suite
from distill_bench.benchmark.tasks import BenchConfig, CellTasks, tasks_of
from distill_bench.benchmark.template import new_suite
from distill_bench.benchmark.variants import with_settings
