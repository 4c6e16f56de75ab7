"""Methods by name, and the one way to run any of them."""

from distill_bench.methods.address import synthesis_key
from distill_bench.methods.limits import budget_trouble, check_budget, memory_of_step, peak_memory, shortage
from distill_bench.methods.loop import Objective, optimise
from distill_bench.methods.registry import Method, list_methods, load_method, variant
from distill_bench.methods.run import Config, Run, SynthesisResult, method
from distill_bench.methods.synthesis import make_set, new_run, synthesize
from distill_bench.runtime.checkpoint import Checkpoint
